/**
 * One SIGTERM under load, and what became of everyone.
 *
 * In: how many connections, and calls in flight on each. Out: what is not as promised: a call that was started and got no
 * answer, a new connection that was taken, an exit code other than 0.
 */

import { type Client, connect } from "../../client.ts";
import { Random } from "../support/random.ts";
import { TickedTime } from "../support/ticked_time.ts";
import type { Transport } from "../support/transports.ts";
import { statisticsOf, until } from "./beside.ts";
import { ChildServer } from "./child.ts";
import { Ledger } from "./ledger.ts";
import type { ServedOptions } from "./served.ts";

export interface DrainOptions {
  seed: number;
  connections?: number;
  inFlight?: number;
  /** A server that is not the project's own. */
  served?: ServedOptions;
  transport?: Transport;
}

/** How it went. */
export interface DrainReport {
  /** Calls that were in flight at the signal and answered behind it. */
  answered: number;
  /** Calls that were refused, or never sent: these may be made again elsewhere. */
  refused: number;
  /** From the signal to the end of the process. */
  ms: number;
  /** What is not as promised, a line each. */
  faults: string[];
}

/** How long a call takes at the most, in milliseconds. */
const MOST_WORK_MS = 200;

/** How long the process may take beyond that: the silence after the last answer is a part of it. */
const MOST_MS = MOST_WORK_MS + 2_000;

/** Puts a server under load, and tells it to end. */
export async function drain(
  { seed, connections = 8, inFlight = 16, served, transport }: DrainOptions,
): Promise<DrainReport> {
  const random = new Random(seed);
  await using server = await ChildServer.start({ served, transport });
  const clients = await Promise.all(
    Array.from({ length: connections }, () => connect({ ...server.address, timeoutMs: Infinity })),
  );
  const ledger = new Ledger();
  let signalMs = Infinity;
  let answered = 0;
  let refused = 0;
  const callOn = async (client: Client) => {
    while (true) {
      const call = client.reply("DELAY", { sleep: random.between(1, MOST_WORK_MS) / 1000 });
      // A call that was refused says so; one that was started has no excuse.
      const codes: string[] = [];
      const sorted = call.then(({ res }) => ({ res }), (error) => {
        if (error.retryable) codes.push(error.code);
        throw error;
      });
      const outcome = await ledger.follow(sorted, { value: "DONE", codes });
      if (outcome !== "value") refused++;
      else if (performance.now() > signalMs) answered++;
      if (outcome !== "value") return;
    }
  };
  const calling = clients.flatMap((client) => Array.from({ length: inFlight }, () => callOn(client)));
  await until(
    "the server is under load",
    async () => (await statisticsOf(server.address)).inFlight > calling.length / 2,
  );
  await new Promise((resolve) => setTimeout(resolve, random.between(0, MOST_WORK_MS)));

  using time = new TickedTime();
  signalMs = performance.now();
  server.kill("SIGTERM");
  const taken = dialWhile(server);
  const { code } = await server.end();
  const { ms } = time;

  // Those that were never sent still look for a server.
  await Promise.all(clients.map((client) => client.close()));
  await Promise.all(calling);
  const faults = ledger.close(0);
  if (code !== 0) faults.push(`exit code: ${code}`);
  if (ms > MOST_MS) faults.push(`time: it took ${ms} ms`);
  if (answered === 0) faults.push("load: nothing was in flight at the signal");
  if (await taken) faults.push("taken: a new connection was served behind the signal");
  return { answered, refused, ms, faults };
}

/** Dials until it is refused. True if a connection was served after another had been refused already. */
async function dialWhile(server: ChildServer): Promise<boolean> {
  let refusals = 0;
  // The signal takes its way; from the first refusal on, there must be nothing else.
  for (let dials = 0; refusals < 5 && dials < 1_000; dials++) {
    try {
      using _conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
      if (refusals > 0) return true;
    } catch {
      refusals++;
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return refusals === 0;
}
