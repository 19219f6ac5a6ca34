/**
 * A typed client without code generation: it imports only the type of the server's commands, no code. An unknown
 * command, a parameter of a wrong type or an unknown field of a reply is an error in the editor.
 *
 *     deno run --allow-net examples/typed_client.ts 1300
 */

import { connect, RpcError } from "../mod.ts";
import type { commands } from "./typed_service.ts";

await using client = await connect<typeof commands>({ port: Number(Deno.args[0]) });

const { res: book } = await client.reply("FIND", { id: 1 });
console.log(`found "${book.title}"`);

const { res, left } = await client.reply("LEND", { id: 1, to: "Ada" });
console.log(`${res}, ${left} left`);

try {
  await client.reply("FIND", { id: 2 });
} catch (error) {
  if (!(error instanceof RpcError)) throw error;
  console.log(error.code, error.data);
}
