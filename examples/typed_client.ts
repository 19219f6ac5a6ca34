/**
 * A typed client without code generation: it imports only the type of the server's commands, no code. An unknown
 * command, a parameter of a wrong type, an unknown field of a reply or a misspelt error code is an error in the editor.
 *
 *     deno run --allow-net examples/typed_client.ts 1300
 */

import { connect } from "../mod.ts";
import type { commands } from "./typed_service.ts";

await using client = await connect<typeof commands>({ port: Number(Deno.args[0]) });

const book = await client.call.FIND({ id: 1 });
console.log(`found "${book.title}"`);

const { res, left } = await client.reply.LEND({ id: 1, to: "Ada" }); // with the field beside the result
console.log(`${res}, ${left} left`);

const found = await client.outcome.FIND({ id: 2 }); // does not throw
if (found.ok) console.log(found.value.title);
else if (found.error.code === "NO_SUCH_BOOK") console.log(found.error.code, found.error.data);
else throw found.error;
