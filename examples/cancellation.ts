/**
 * Three ways to end a call early: a timeout, an abort, and a deadline passed on to further calls. Each time, the
 * handler is told at once by its signal.
 *
 *     deno run --allow-net examples/cancellation.ts
 */

import { command, connect, RpcError, serve } from "../mod.ts";

const REPORT = command({
  number: 16,
  summary: "Asks another service for as long as its own caller waits",
  async handler(_params: Record<never, never>, { remaining, signal }) {
    await using other = await connect({ port: server.port });
    const timeout = Math.max(1, remaining() - 400); // leaves time to answer
    try {
      await other.reply("DELAY", { sleep: 60 }, { timeoutMs: timeout, signal });
    } catch (error) {
      if (error instanceof RpcError && error.code === "TIMEOUT") return "the other service was too slow";
      throw error;
    }
    return "the other service has answered";
  },
});

await using server = await serve({ port: 0, commands: { REPORT } });
await using client = await connect({ port: server.port, commands: { REPORT } });

/** The error code of a call. */
async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "answered";
  } catch (error) {
    return (error as RpcError).code;
  }
}

console.log(await codeOf(client.reply("DELAY", { sleep: 60 }, { timeoutMs: 50 })));

const controller = new AbortController();
const aborted = codeOf(client.reply("DELAY", { sleep: 60 }, { signal: controller.signal }));
controller.abort();
console.log(await aborted);

console.log((await client.reply("REPORT", {}, { timeoutMs: 1000 })).res);
