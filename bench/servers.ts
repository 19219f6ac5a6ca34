/**
 * Shows how calls spread over several servers: one is slow by 50 ms, one is killed and comes back, one is added later.
 *
 * In: `--save` to write SERVERS.md and servers.svg. Out: a table on stdout, progress on stderr. However it ends, it
 * leaves no process running.
 */

import { connect } from "../client.ts";
import { machine } from "./machine.ts";
import { delay } from "./measure.ts";
import { denoProcess, Process } from "./process.ts";
import { type Call, EVENTS, plotServers, type Run, SERVER_NAMES, type ServerName } from "./servers_plot.ts";
import { figure, table } from "./table.ts";

const CALLS_PER_SECOND = 300;
const TIMEOUT_MS = 2_000;
const SLOWER_MS = 50;

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

/** What makes the calls of a run: one function a client. */
type Connected = AsyncDisposable & { readonly callers: (() => Promise<unknown>)[] };

interface Way {
  readonly title: string;
  connect(fleet: Fleet): Promise<Connected>;
}

const WAYS: Way[] = [
  { title: "one connection each: three clients, one to each server", connect: (fleet) => eachToItsOwn(fleet) },
];

async function eachToItsOwn({ ports }: Fleet): Promise<Connected> {
  const clients = await Promise.all(ports.map((port) => connect({ port })));
  return {
    callers: clients.map((client) => () => client.call.WORK({}, { idempotent: true, timeoutMs: TIMEOUT_MS })),
    async [Symbol.asyncDispose]() {
      for (const client of clients) await client.close();
    },
  };
}

/** Runs the load for the whole time, while the servers die and come. */
async function measure({ title, connect }: Way): Promise<Run> {
  await using fleet = new Fleet();
  for (const name of ["steady", "slow", "mortal"] as const) await fleet.start(name);
  await using connected = await connect(fleet);
  const calls: Call[] = [];
  const startMs = performance.now();
  const events = happen(fleet);
  const pending: Promise<void>[] = [];
  for (let nowMs = 0; nowMs < EVENTS.endMs; nowMs = performance.now() - startMs) {
    while (pending.length < nowMs * CALLS_PER_SECOND / 1_000) {
      pending.push(make(connected.callers[pending.length % connected.callers.length], nowMs, calls));
    }
    await delay(1);
  }
  await Promise.all([events, ...pending]);
  return { title, calls };
}

async function make(caller: () => Promise<unknown>, atMs: number, calls: Call[]): Promise<void> {
  const startMs = performance.now();
  const server = await caller().then((name) => name as ServerName, () => undefined);
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
  ["a fourth is added", EVENTS.addedMs, EVENTS.endMs],
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
      const times = of.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
      const quantile = (part: number) => figure(times[Math.floor(part * times.length)]);
      const failed = of.filter(({ server }) => server === undefined).length;
      return [
        `- ${phase}`,
        figure(of.length),
        ...SERVER_NAMES.map((name) => figure(Math.round(10 * share(name)) / 10)),
        ...[quantile(0.5), quantile(0.99), String(failed)],
      ];
    }),
  ]);
  return table(header, rows);
}

function report(runs: Run[], machine: string): string {
  return `# Several servers

Written by \`deno task --config bench/deno.json servers --save\`.

${machine}
Three servers run WORK, which takes 2 ms; one of them (*slow*) takes ${SLOWER_MS} ms longer. One (*mortal*) is killed after
${EVENTS.killedMs / 1000} s and comes back after ${EVENTS.backMs / 1000} s; a fourth (*new*) is added after ${
    EVENTS.addedMs / 1000
  } s. ${CALLS_PER_SECOND} calls a second begin at an even pace, whether or not earlier
ones are answered; all are \`idempotent\` and have ${TIMEOUT_MS} ms. A call counts in the second in which it began; the time of
one that failed is the time until it failed.

![The spread of calls, and their times](servers.svg)

${spreadTable(runs)}
`;
}

if (import.meta.main) {
  const unknown = Deno.args.find((argument) => argument !== "--save");
  if (unknown !== undefined) {
    console.error(`Unknown option ${unknown}. Usage: deno task servers [--save]`);
    Deno.exit(2);
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      Process.killAll();
      Deno.exit(130);
    });
  }
  try {
    const runs: Run[] = [];
    for (const way of WAYS) {
      console.error(`${way.title}: ${EVENTS.endMs / 1000} s`);
      runs.push(await measure(way));
    }
    console.log(spreadTable(runs));
    if (Deno.args.includes("--save")) {
      await Deno.writeTextFile(new URL("SERVERS.md", import.meta.url), report(runs, await machine()));
      await Deno.writeTextFile(new URL("servers.svg", import.meta.url), plotServers(runs));
    }
  } finally {
    Process.killAll();
  }
}
