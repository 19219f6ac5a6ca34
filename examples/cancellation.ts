/**
 * Three ways for a call to end early: a timeout, an abort, and a deadline that is passed on to further calls. In each
 * the handler is told at once, by its signal.
 *
 *     deno run --allow-net examples/cancellation.ts
 */

import { setTimeout } from "node:timers/promises";
import { command, connect, RpcError, serve } from "../mod.ts";

const SLOW = command({
  summary: "Takes a minute, unless nobody waits any more",
  handler: (_params: Record<never, never>, { signal }) => setTimeout(60_000, { res: "done" }, { signal }),
});

const REPORT = command({
  number: 16,
  summary: "Asks another service for as long as its own caller waits",
  async handler(_params: Record<never, never>, { remaining, signal }) {
    await using other = await connect({ port: server.port, commands: { SLOW } });
    const timeout = Math.max(1, remaining() - 400); // leaves itself time to answer
    try {
      await other.call("SLOW", {}, { timeoutMs: timeout, signal });
    } catch (error) {
      if (error instanceof RpcError && error.code === "TIMEOUT") return { res: "the other service was too slow" };
      throw error;
    }
    return { res: "the other service has answered" };
  },
});

await using server = await serve({ port: 0, commands: { REPORT, SLOW } });
await using client = await connect({ port: server.port, commands: { REPORT, SLOW } });

/** The code a call ends with. */
async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "answered";
  } catch (error) {
    return (error as RpcError).code;
  }
}

console.log(await codeOf(client.call("SLOW", {}, { timeoutMs: 50 })));

const controller = new AbortController();
const aborted = codeOf(client.call("SLOW", {}, { signal: controller.signal }));
controller.abort();
console.log(await aborted);

console.log((await client.call("REPORT", {}, { timeoutMs: 1000 })).res);
