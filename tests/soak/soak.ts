/**
 * The soak: a server under half of the load it can take, with faults in one call of a hundred, for as long as one likes.
 *
 *     deno task soak --minutes 10 [--connections 16] [--held 500] [--drains 100] [--seed 1]
 *
 * Out: a table, a row now and then; the ledger; drains under load; exit code 0 if every call has settled as it must, every
 * connection that was held still answers, every drain was in order, and memory, open files and timers stand still.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { type Client, connect } from "../../client.ts";
import { ChildServer } from "../faults/child.ts";
import { drain, type DrainReport } from "../faults/drain.ts";
import { FaultProxy } from "../faults/fault_proxy.ts";
import { untilAtRest } from "../faults/beside.ts";
import type { Broken, commands } from "../faults/served.ts";
import { newSeed, Random } from "../support/random.ts";
import { HeldConnections } from "./held.ts";
import { Load, soakFaults } from "./load.ts";
import { growth, HEAD, row, type Sample } from "./samples.ts";

interface Options {
  minutes: number;
  connections: number;
  held: number;
  drains: number;
  seed: number;
  /** What is broken on purpose, for the test of the soak. */
  broken?: Broken;
}

/** Rows of the table: at most one in so many milliseconds. */
const ROWS = 24;
const SHORTEST_ROW_MS = 500;

/** The longest time without a look at the connections that are held. */
const LONGEST_PIECE_MS = 10_000;

/** How long the server is asked for all it can. */
const MOST_CALIBRATION_MS = 3_000;

const DRAINS_AT_A_TIME = 2;

/** What a soak is about: a server, and those who use it. */
interface Scene {
  server: ChildServer;
  proxy: FaultProxy;
  load: Load;
  held: HeldConnections;
  /** Asks how the server is. */
  watcher: Client<typeof commands>;
}

/** Puts a server under load, and takes it off again. */
async function soak({ minutes, connections, held: heldCount, seed, broken }: Options): Promise<string[]> {
  await using server = await ChildServer.start({ served: { broken } });
  const proxy = await FaultProxy.start({ port: server.port, seed, faults: soakFaults });
  const scene = {
    server,
    proxy,
    watcher: await connect<typeof commands>({ port: server.port }),
    held: await HeldConnections.open(server.port, heldCount),
    load: await Load.start(proxy, connections, new Random(seed)),
  };
  const samples = await loadFor(scene, minutes * 60_000);
  await scene.held.askAll();
  console.log(`\n${heldCount} connections held, and each still answers; ${proxy.cuts} others were cut`);
  return [...await end(scene), ...growth(samples)];
}

/** Half of the load that the server can take, and a row now and then. */
async function loadFor({ server, load, held, watcher }: Scene, totalMs: number): Promise<Sample[]> {
  const { ledger } = load;
  const calibrationMs = Math.min(MOST_CALIBRATION_MS, totalMs / 10);
  await load.run(calibrationMs, Infinity);
  load.takeDurationsMs();
  const fullPerSecond = ledger.made / calibrationMs * 1000;
  console.log(`${Math.round(fullPerSecond)} calls a second is all it takes; now half of that\n\n${HEAD}`);

  const samples: Sample[] = [];
  const rowMs = Math.max(totalMs / ROWS, SHORTEST_ROW_MS);
  const startMs = performance.now();
  while (performance.now() < startMs + totalMs && ledger.open === 0) {
    const before = ledger.made;
    const rowStartMs = performance.now();
    // In pieces, so that each connection that is held has its turn in time.
    while (performance.now() < rowStartMs + rowMs && ledger.open === 0) {
      await load.run(Math.min(rowMs, LONGEST_PIECE_MS), fullPerSecond / 2);
      await held.askSome();
    }
    const callsPerSecond = (ledger.made - before) / (performance.now() - rowStartMs) * 1000;
    const durationsMs = load.takeDurationsMs();
    (globalThis as { gc?: () => void }).gc?.();
    samples.push({
      minutes: (performance.now() - startMs) / 60_000,
      calls: ledger.made,
      faulty: load.faulty,
      callsPerSecond,
      p99Ms: durationsMs[Math.floor(0.99 * durationsMs.length)] ?? NaN,
      ...(await watcher.reply("HEALTH", { collect: true })).res,
      files: await server.openFiles(),
      clientMiB: Deno.memoryUsage().rss / 2 ** 20,
    });
    console.log(row(samples[samples.length - 1]));
  }
  return samples;
}

/** Closes the books, the clients and the server. */
async function end({ server, proxy, load, held, watcher }: Scene): Promise<string[]> {
  const { ledger, lateReplies } = load;
  const faults = ledger.close(lateReplies);
  if (!(ledger.outcomes.value > ledger.made / 2)) {
    faults.push("load: most calls must get through, or this shows nothing");
  }
  console.log(`${ledger.made} calls:`, ledger.outcomes, "not as promised:", ledger.faultCounts);
  held[Symbol.dispose]();
  await load[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  const { refused } = await untilAtRest(server.port, 2);
  console.log("the server at rest has nothing in flight, and has refused", refused);
  await watcher.close();
  server.kill("SIGTERM");
  const { code, stderr } = await server.end();
  if (code !== 0 || stderr !== "") faults.push(`server: it ended with ${code} and said: ${stderr || "nothing"}`);
  return faults;
}

/** SIGTERM under load, again and again. */
async function drainAgainAndAgain({ drains, seed }: Options): Promise<string[]> {
  const reports: DrainReport[] = [];
  while (reports.length < drains) {
    const count = Math.min(DRAINS_AT_A_TIME, drains - reports.length);
    const running = Array.from({ length: count }, (_, index) => drain({ seed: seed + reports.length + index }));
    reports.push(...await Promise.all(running));
  }
  if (drains > 0) {
    const answered = reports.reduce((sum, report) => sum + report.answered, 0);
    const longestMs = Math.max(...reports.map(({ ms }) => ms));
    console.log(
      `${drains} drains under load: ${answered} calls answered behind the signal, ended within ${
        longestMs.toFixed(0)
      } ms`,
    );
  }
  return reports.flatMap(({ faults }) => faults);
}

function readOptions(args: string[]): Options {
  const options: Options = { minutes: 10, connections: 16, held: 500, drains: 100, seed: newSeed() };
  const { _: words, broken, ...given } = parseArgs(args) as { _: string[]; broken?: Broken } & Record<string, number>;
  for (const [name, value] of Object.entries(given)) {
    const isKnown = Object.hasOwn(options, name);
    if (!isKnown || typeof value !== "number" || !(value >= 0)) {
      throw new Error(`--${name} ${value} means nothing here`);
    }
    options[name as "minutes"] = value;
  }
  if (words.length > 0) throw new Error(`there is nothing to do with ${words[0]}`);
  return { ...options, broken };
}

if (import.meta.main) {
  const options = readOptions(Deno.args);
  console.log(`soak: ${options.minutes} minutes, ${options.connections} connections, seed ${options.seed}`);
  const faults = [...await soak(options), ...await drainAgainAndAgain(options)];
  console.log(faults.length === 0 ? "all is as promised" : faults.join("\n"));
  Deno.exit(faults.length === 0 ? 0 : 1);
}
