/**
 * Shows how calls spread over several servers: one is slow by 50 ms, one is killed and comes back, one is added later.
 *
 * In: `--save` to write SERVERS.md and servers.svg. Out: a table on stdout, progress on stderr. However it ends, it
 * leaves no process running.
 */

import { type CallOptions, type Client, connect } from "../client.ts";
import { machine } from "./machine.ts";
import { delay } from "./measure.ts";
import { denoProcess, leaveNoProcess, type Process } from "./process.ts";
import { type Call, EVENTS, plotServers, quantile, type Run, SERVER_NAMES, type ServerName } from "./servers_plot.ts";
import { figure, table } from "./table.ts";

const CALLS_PER_SECOND = 300;
const TIMEOUT_MS = 2_000;
const SLOWER_MS = 50;
const HEDGE_AFTER_MS = 15;
const LOCALHOST = "127.0.0.1";

/** The servers of one run. */
class Fleet implements AsyncDisposable {
  readonly #running = new Map<ServerName, { process: Process; port: number }>();

  /** Starts a server, on the given port if it comes back. */
  async start(name: ServerName, port = 0): Promise<void> {
    const process = denoProcess("servers/named.ts", name, String(port), String(name === "slow" ? SLOWER_MS : 0));
    this.#running.set(name, { process, port: Number(await process.line()) });
  }

  /** Kills a server as a crash does, and returns its port. */
  async kill(name: ServerName): Promise<number> {
    const { process, port } = this.#running.get(name)!;
    await process[Symbol.asyncDispose]();
    return port;
  }

  get ports(): number[] {
    return [...this.#running.values()].map(({ port }) => port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { process } of this.#running.values()) await process[Symbol.asyncDispose]();
  }
}

/** One kind of client. */
interface Way {
  readonly title: string;
  readonly options: CallOptions;
  /** The clients of a run, which take turns. */
  connect(fleet: Fleet): Promise<Client[]>;
}

const OPTIONS: CallOptions = { idempotent: true, timeoutMs: TIMEOUT_MS };

const WAYS: Way[] = [
  {
    title: "Three clients with one connection each, one to each server",
    options: OPTIONS,
    connect: ({ ports }) => Promise.all(ports.map((port) => connect({ port }))),
  },
  { title: "One client with all servers", options: OPTIONS, connect: connectToAll },
  {
    title: `One client with all servers, and a second copy after ${HEDGE_AFTER_MS} ms`,
    options: { ...OPTIONS, hedgeAfterMs: HEDGE_AFTER_MS },
    connect: connectToAll,
  },
];

async function connectToAll(fleet: Fleet): Promise<Client[]> {
  return [await connect({ servers: () => fleet.ports.map((port) => `${LOCALHOST}:${port}`) })];
}

/** Runs the load for the whole time, while servers are killed and started. */
async function measure({ title, options, connect }: Way): Promise<Run> {
  await using fleet = new Fleet();
  for (const name of ["steady", "slow", "mortal"] as const) await fleet.start(name);
  const clients = await connect(fleet);
  const calls: Call[] = [];
  const startMs = performance.now();
  const events = happen(fleet);
  const pending: Promise<void>[] = [];
  for (let nowMs = 0; nowMs < EVENTS.endMs; nowMs = performance.now() - startMs) {
    while (pending.length < nowMs * CALLS_PER_SECOND / 1_000) {
      pending.push(make(clients[pending.length % clients.length], options, nowMs, calls));
    }
    await delay(1);
  }
  await Promise.all([events, ...pending]);
  let [retried, hedged] = [0, 0];
  for (const client of clients) {
    retried += client.statistics().retried;
    hedged += client.statistics().hedged;
    await client.close();
  }
  return { title, calls, retried, hedged };
}

async function make(client: Client, options: CallOptions, atMs: number, calls: Call[]): Promise<void> {
  const startMs = performance.now();
  const server = await client.call("WORK", {}, options).then((name) => name as ServerName, () => undefined);
  calls.push({ atMs, server, tookMs: performance.now() - startMs });
}

async function happen(fleet: Fleet): Promise<void> {
  const startMs = performance.now();
  const at = (ms: number) => delay(startMs + ms - performance.now());
  await at(EVENTS.killedMs);
  const port = await fleet.kill("mortal");
  await at(EVENTS.backMs);
  await fleet.start("mortal", port);
  await at(EVENTS.addedMs);
  await fleet.start("new");
}

const PHASES: [title: string, fromMs: number, toMs: number][] = [
  ["three servers", 0, EVENTS.killedMs],
  ["one is dead", EVENTS.killedMs, EVENTS.backMs],
  ["it is back", EVENTS.backMs, EVENTS.addedMs],
  ["a fourth is added", EVENTS.addedMs, EVENTS.knownMs],
  ["all four", EVENTS.knownMs, EVENTS.endMs],
];

function spreadTable(runs: Run[]): string {
  const header = [
    "client and phase",
    "calls",
    ...SERVER_NAMES.map((name) => `${name}, %`),
    "p50, ms",
    "p99, ms",
    "failed",
  ];
  const rows = runs.flatMap(({ title, calls }) => [
    [title, ...new Array(header.length - 1).fill("")],
    ...PHASES.map(([phase, fromMs, toMs]) => {
      const of = calls.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
      const share = (name: ServerName) => 100 * of.filter(({ server }) => server === name).length / of.length;
      const failed = of.filter(({ server }) => server === undefined).length;
      return [
        `- ${phase}`,
        figure(of.length),
        ...SERVER_NAMES.map((name) => figure(Math.round(10 * share(name)) / 10)),
        ...[figure(quantile(of, 0.5)), figure(quantile(of, 0.99)), String(failed)],
      ];
    }),
  ]);
  return table(header, rows);
}

function sentAgain(runs: Run[]): string {
  return table(
    ["client", "calls", "sent again", "second copies"],
    runs.map(({ title, calls, retried, hedged }) => [title, figure(calls.length), figure(retried), figure(hedged)]),
  );
}

function report(runs: Run[], machine: string): string {
  return `# Several servers

Written by \`deno task --config bench/deno.json servers --save\`.

${machine.split("\n").slice(0, 3).join("\n")}

Three servers run WORK, which takes 2 ms. One of them (*slow*) takes ${SLOWER_MS} ms longer. One (*mortal*) is killed after ${
    EVENTS.killedMs / 1000
  } s
and comes back after ${EVENTS.backMs / 1000} s. A fourth (*new*) is added after ${
    EVENTS.addedMs / 1000
  } s. A client with all servers has a function that lists
them, and calls it every 30 s and after a lost connection. ${CALLS_PER_SECOND} calls per second begin at regular intervals, and do not
wait for earlier replies. All are \`idempotent\` and have a timeout of ${TIMEOUT_MS} ms. A call counts in the second in which it
began. The time of a failed call is the time until it failed.

![The spread of calls, and their times](servers.svg)

${spreadTable(runs)}

${sentAgain(runs)}
`;
}

if (import.meta.main) {
  const unknown = Deno.args.find((argument) => argument !== "--save");
  if (unknown !== undefined) {
    console.error(`Unknown option ${unknown}. Usage: deno task servers [--save]`);
    Deno.exit(2);
  }
  await leaveNoProcess(async () => {
    const runs: Run[] = [];
    for (const way of WAYS) {
      console.error(`${way.title}: ${EVENTS.endMs / 1000} s`);
      runs.push(await measure(way));
    }
    console.log(`${spreadTable(runs)}\n\n${sentAgain(runs)}`);
    if (Deno.args.includes("--save")) {
      await Deno.writeTextFile(new URL("SERVERS.md", import.meta.url), report(runs, await machine()));
      await Deno.writeTextFile(new URL("servers.svg", import.meta.url), plotServers(runs));
    }
  });
}
