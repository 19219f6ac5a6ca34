/**
 * `--mcp`: a server of the Model Context Protocol on stdin and stdout. Its tools are the commands of a packline server.
 *
 * In: messages from an agent, one on each line. Out: messages, one on each line; notes on stderr; an exit code. It ends
 * when stdin ends or nobody reads stdout any more, and all calls end with it. Refused: what `mcp_session.ts` refuses; a
 * line that is too long, by an `InputError`.
 */

import { printable } from "../codec/printable.ts";
import type { ClientFlags } from "./client_flags.ts";
import { InputError, partsOf } from "./input_file.ts";
import { byteLinesOf } from "./lines.ts";
import { McpSession } from "./mcp_session.ts";
import { complain, print } from "./output.ts";
import { timeoutMsOf, wholeClient } from "./whole_client.ts";

/** The longest line. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

/** Serves an agent. */
export async function runMcp(names: readonly string[], flags: ClientFlags): Promise<number> {
  await using client = await wholeClient(flags, { lazy: true });
  let printed: Promise<unknown> = Promise.resolve();
  const lines = byteLinesOf(partsOf(Deno.stdin.readable, "-", "standard input"), MAX_LINE_BYTES);
  const failure = Promise.withResolvers<never>();
  /** The agent has gone, and stdin may stay open. */
  const gone = Promise.withResolvers<void>();
  const session = new McpSession({
    ...{ client, names, timeoutMs: timeoutMsOf(flags) },
    send(message) {
      // Some agents take U+2028 for the end of a line.
      const line = printable(JSON.stringify(message));
      printed = printed.then(() => print(line)).then((isRead) => {
        if (!isRead) gone.resolve();
      }).catch(failure.reject);
    },
    note: (text) => void complain(text),
  });
  const received = async () => {
    for await (const line of lines) void session.receive(line).catch(failure.reject);
  };
  try {
    await Promise.race([received(), failure.promise, gone.promise]);
  } catch (error) {
    throw error instanceof RangeError ? new InputError("a line of standard input is too long") : error;
  } finally {
    session.end();
    await printed;
  }
  await Promise.race([failure.promise, undefined]); // an answer may have failed after the end of stdin
  return 0;
}
