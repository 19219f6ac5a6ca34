/**
 * Three clients of one server, as a program: one has a call in flight, one reads a stream that is quiet, one is idle and
 * makes its next call when it is told to.
 *
 * In: the options of all three, as JSON; `next` on stdin. Out: `client ready`, and for each of `call`, `stream` and `next`
 * a line `… ended CODE`; the code is `DONE` for what has succeeded.
 */

import { connect, type ConnectOptions, RpcError } from "../../mod.ts";
import { linesOf } from "../../cli/lines.ts";
import type { WaitingCommands } from "./waiting_server.ts";

/** Says how something has ended. */
async function report(name: string, outcome: Promise<string>): Promise<void> {
  try {
    console.log(`${name} ended ${await outcome}`);
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    console.log(`${name} ended ${error.code}`);
  }
}

/** Reads a stream to its end. */
async function drain(items: AsyncGenerator<string, string>): Promise<string> {
  while (true) {
    const { done, value } = await items.next();
    if (done) return value;
  }
}

const options: ConnectOptions = JSON.parse(Deno.args[0]);
const [caller, reader, idle] = await Promise.all(
  Array.from({ length: 3 }, () => connect<WaitingCommands>(options as ConnectOptions<WaitingCommands>)),
);

void report("call", caller.call.WAIT({ name: "call" }, { timeoutMs: Infinity }));
const items = reader.stream.QUIET({ name: "stream" });
await items.next();
void report("stream", drain(items));
await idle.reply("PING");
console.log("client ready");
for await (const line of linesOf(Deno.stdin.readable)) {
  if (line === "next") void report("next", idle.call.WAIT({ name: "next" }));
}
