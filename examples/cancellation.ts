/**
 * Three ways to end a call early: a timeout, an abort, and a deadline passed on to further calls. Each time, the signal
 * of the handler aborts at once.
 *
 *     deno run --allow-net examples/cancellation.ts
 */

import { setTimeout } from "node:timers/promises";
import { command, connect, serve } from "../mod.ts";

const SLOW = command({
  summary: "Takes a minute, unless the caller stops waiting",
  handler: (_params: Record<never, never>, { signal }) => setTimeout(60_000, "done", { signal }),
});

const REPORT = command({
  number: 16,
  summary: "Asks another service for as long as its own caller waits",
  async handler(_params: object, { remaining, signal }) {
    await using other = await connect({ port: server.port, commands: { SLOW } });
    const timeoutMs = Math.max(1, remaining() - 400); // leaves time to answer
    const delay = await other.outcome.SLOW({}, { timeoutMs, signal });
    if (delay.ok) return "the other service has answered";
    if (delay.error.code === "TIMEOUT") return "the other service was too slow";
    throw delay.error;
  },
});

await using server = await serve({ port: 0, commands: { REPORT, SLOW } });
await using client = await connect({ port: server.port, commands: { REPORT, SLOW } });

const late = await client.outcome.SLOW({}, { timeoutMs: 50 });
console.log(late.ok ? "answered" : late.error.code);

const controller = new AbortController();
const call = client.outcome.SLOW({}, { signal: controller.signal });
controller.abort();
const aborted = await call;
console.log(aborted.ok ? "answered" : aborted.error.code);

console.log(await client.call.REPORT({}, { timeoutMs: 1000 }));
