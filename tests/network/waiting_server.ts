/**
 * A server whose handlers wait, as a program: a call and a stream that end only when they are told to, and what becomes
 * of each is a line on stdout.
 *
 * In: its options, as JSON; `release` on stdin lets all handlers finish. Out: `server listening`, and for each call by its
 * name `… begun`, `… aborted CODE` or `… finished DONE`.
 */

import { command, type Context, type RpcError, serve, type ServeOptions } from "../../mod.ts";
import { linesOf } from "../../cli/lines.ts";

const release = Promise.withResolvers<void>();

/** Waits until the server is told to release it, or the call is aborted. */
async function wait(name: string, { signal }: Context): Promise<string> {
  const aborted = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => {
    const { code } = signal.reason as RpcError;
    console.log(`${name} aborted ${code}`);
    aborted.reject(signal.reason);
  });
  console.log(`${name} begun`);
  await Promise.race([release.promise, aborted.promise]);
  console.log(`${name} finished DONE`);
  return "DONE";
}

const commands = {
  WAIT: command(({ name }: { name: string }, context) => wait(name, context)),
  QUIET: command(async function* ({ name }: { name: string }, context: Context) {
    yield "the only item";
    return await wait(name, context);
  }),
};

export type WaitingCommands = typeof commands;

if (import.meta.main) {
  const options: ServeOptions = JSON.parse(Deno.args[0]);
  await serve({ ...options, commands });
  console.log("server listening");
  for await (const line of linesOf(Deno.stdin.readable)) {
    if (line === "release") release.resolve();
  }
}
