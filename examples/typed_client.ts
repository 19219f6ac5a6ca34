/**
 * A typed client without code generation and without a line of the server: only its type is imported. A command that
 * does not exist, a parameter of a wrong type or a field that a reply does not have is an error in the editor.
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
