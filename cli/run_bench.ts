/**
 * `--bench`: connects, runs the load test, shows its progress, and prints the result.
 *
 * In: flags, a call, an address. Out: the result on stdout, and the exit code: 0 if every call got `res`, 1 if some got
 * `err`, 3 if some got no reply. Ctrl-C stops and prints the result so far. Refused: conflicting flags, by a
 * `UsageError`; a server that cannot be reached, by an `RpcError`.
 */

import { type Client, connect } from "../client/connect.ts";
import { DEFAULT_LIMITS, DEFAULT_TIMEOUT_MS } from "../limits.ts";
import type { Transport } from "../transport/transport.ts";
import { type Flag, type FlagValues, UsageError } from "./arguments.ts";
import { Bench, type Load } from "./bench.ts";
import { benchJson, benchProgress, benchReport, failedCalls } from "./bench_report.ts";
import type { CommandCall } from "./call.ts";
import { countFlag, secondsFlag, valueFlag } from "./flags.ts";
import { complain, print, showStatus } from "./output.ts";
import { untilInterrupted } from "./interrupt.ts";

const DEFAULT_CONNECTIONS = 50;
const DEFAULT_CALLS = 100_000;

/** The most calls in flight on one connection: each has a place in a list, in memory. */
const MOST_IN_FLIGHT = 1_000_000;

/** Connections made at the same time; more would overflow the server's backlog. */
const DIALS_AT_ONCE = 64;

/** How often the progress is shown. */
const PROGRESS_MS = 250;

/** How long the test continues without any connection, because the server may be restarting. */
const GONE_MS = 5_000;

/** Codes of calls without a reply from the server. */
const WITHOUT_REPLY: ReadonlySet<string> = new Set(["TIMEOUT", "CONNECTION_LOST", "BAD_REPLY", "CLOSED"]);

/** The flags of the load test. */
export const LOAD_FLAGS = {
  connections: countFlag(`number of connections (default ${DEFAULT_CONNECTIONS})`, 1, "c"),
  calls: countFlag(`total number of calls (default ${DEFAULT_CALLS})`, 1, "n"),
  seconds: secondsFlag("how long to make calls, instead of a number of calls", { zero: false, short: "z" }),
  inFlight: countFlag("calls in flight on each connection (default 1)", 1, "P", MOST_IN_FLIGHT),
  rate: rateFlag("total calls per second; latency is measured from the time a call was due"),
};

function rateFlag(help: string): Flag<number> {
  const read = (text: string) => /^(\d+\.?|\d*\.\d+)$/.test(text) && Number(text) > 0 ? Number(text) : undefined;
  return { ...valueFlag("RATE", help, read, "a rate is a number of calls per second above 0"), short: "r" };
}

/** Options of `--bench`. */
interface BenchOptions {
  readonly flags: FlagValues<typeof LOAD_FLAGS> & {
    readonly timeout?: number;
    readonly json?: boolean;
    readonly meta?: Record<string, string>;
    readonly maxPayloadBytes?: number;
  };
  readonly dial: (signal: AbortSignal) => Promise<Transport>;
}

/** Runs the load test; resolves to the exit code. */
export async function runBench(call: CommandCall, { flags, dial }: BenchOptions): Promise<number> {
  const { connections = DEFAULT_CONNECTIONS, inFlight = 1, seconds, rate, timeout, maxPayloadBytes } = flags;
  if (flags.calls !== undefined && seconds !== undefined) throw new UsageError("--bench takes -n or -z, not both");
  const timeoutMs = timeout === undefined ? DEFAULT_TIMEOUT_MS : timeout * 1000;
  // Opened once now, so that a file that cannot be read is reported at once.
  await call.items?.open(maxPayloadBytes ?? DEFAULT_LIMITS.maxPayloadBytes).return?.();
  const load: Load = {
    call,
    meta: flags.meta,
    timeoutMs,
    maxPayloadBytes,
    inFlight,
    calls: flags.calls ?? (seconds === undefined ? DEFAULT_CALLS : Infinity),
    durationMs: seconds === undefined ? Infinity : seconds * 1000,
    rate,
  };
  const clients: Client[] = [];
  try {
    const options = { dial, timeoutMs, maxInFlight: inFlight, maxPayloadBytes };
    while (clients.length < connections) {
      showStatus(`${clients.length} of ${connections} connections`);
      const missing = Math.min(DIALS_AT_ONCE, connections - clients.length);
      const dialed = await Promise.allSettled(Array.from({ length: missing }, () => connect(options)));
      for (const each of dialed) if (each.status === "fulfilled") clients.push(each.value);
      for (const each of dialed) if (each.status === "rejected") throw each.reason;
    }
    const bench = new Bench(clients, load);
    let reachedMs = performance.now();
    const progress = setInterval(() => {
      showStatus(benchProgress(bench, load));
      if (!areLost(clients)) reachedMs = performance.now();
      else if (performance.now() - reachedMs > GONE_MS) bench.stop();
    }, PROGRESS_MS);
    await untilInterrupted(() => bench.run(), () => bench.stop());
    clearInterval(progress);
    const result = { bench, load, connections };
    await print(flags.json ? benchJson(result) : benchReport(result));
    if (bench.unanswered > 0 && areLost(clients)) {
      await complain("the server is gone: no connection is left");
      return 3;
    }
    if ([...bench.failures.keys()].some((code) => WITHOUT_REPLY.has(code))) return 3;
    return failedCalls(bench) > 0 ? 1 : 0;
  } finally {
    showStatus("");
    await Promise.all(clients.map((client) => client.close()));
  }
}

/** Whether all clients are trying to connect. */
function areLost(clients: readonly Client[]): boolean {
  return clients.every(({ state }) => state === "connecting" || state === "waiting");
}
