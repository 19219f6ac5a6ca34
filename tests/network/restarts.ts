/**
 * What restarts cost: many clients that call now and then, and read streams, while their servers are restarted in turn.
 *
 *     deno run --no-prompt -A tests/network/restarts.ts [--clients 1000] [--restarts 100] [--pause-ms 10000]
 *         [--settle-ms 5000] [--seed 1] [--only plain,haproxy,nginx,workers,overlapping]
 *
 * Out: a table in Markdown, on stdout: for each way to run the servers how many calls and streams failed, by code.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { example, Folder, onFreePort, Program, startHaproxy, startNginx } from "../production/programs.ts";
import type { Host } from "./hosts.ts";
import { newSeed } from "../support/random.ts";
import type { ClientsOptions, ClientsReport, Endings } from "./restarting_clients.ts";

/** What a run is. */
export interface RestartOptions {
  readonly clients: number;
  readonly restarts: number;
  /** The longest pause between two calls of a client. */
  readonly pauseMs: number;
  /** The pause between a restart and the next: balancers and clients find out that the server is back. */
  readonly settleMs: number;
  readonly seed: number;
  /** Whether each call has a connection of its own, and there are no streams. */
  readonly eachAnew?: boolean;
  /** A host of a test's own on which all of it runs. */
  readonly host?: Host;
}

/** How a run went. */
export interface RestartReport extends ClientsReport {
  readonly restarts: number;
  /** How long a restart took, from the signal until the new process listened, on average. */
  readonly restartMs: number;
}

/** A way to run servers, for so many that each can be restarted by itself. */
export interface Setup {
  readonly servers: number;
  readonly flags: readonly string[];
  /** Whether the new process listens before the old one is told to end: both share the port. */
  readonly overlaps?: boolean;
  /** Puts something before them. Without it, clients know the servers themselves. */
  readonly balance?: (folder: Folder, ports: readonly number[]) => Promise<Program & { port: number }>;
}

/** All ways. */
export const SETUPS = {
  plain: { servers: 2, flags: [] },
  haproxy: {
    servers: 2,
    flags: [],
    balance: (folder, ports) =>
      balanceWith("haproxy/haproxy.cfg", ports, (config) => {
        const often = config.replace("inter 1s", "inter 200ms").replaceAll("/run/haproxy", folder.path);
        return startHaproxy(folder, often);
      }),
  },
  nginx: {
    servers: 2,
    flags: [],
    balance: (folder, ports) => balanceWith("nginx-stream/nginx.conf", ports, (config) => startNginx(folder, config)),
  },
  workers: { servers: 1, flags: ["--workers", "2"] },
  overlapping: { servers: 1, flags: [], overlaps: true },
} satisfies Record<string, Setup>;

function balanceWith(
  file: string,
  [one, two]: readonly number[],
  start: (config: string) => Promise<Program>,
): Promise<Program & { port: number }> {
  return onFreePort(async (port) => {
    const config = await example(file, {
      "127.0.0.1:1235": `127.0.0.1:${port}`,
      "127.0.0.1:1236": `127.0.0.1:${one}`,
      "127.0.0.1:1237": `127.0.0.1:${two}`,
    });
    return Object.assign(await start(config), { port });
  });
}

/** How long a call and a stream last at the most. */
const WORK_MS = 20;
const WATCH_MS = 5_000;

/** So many processes call. */
const PROCESSES = 2;

/** Starts a program of this folder, on a host if one is given. */
export function startHere(file: string, args: readonly string[], up: RegExp, host?: Host): Promise<Program> {
  const path = new URL(file, import.meta.url).pathname;
  const permissions = ["--unstable-net", "--allow-net", `--allow-run=${Deno.execPath()}`];
  const deno = ["run", "--quiet", "--no-check", "--no-prompt", ...permissions];
  const command = [Deno.execPath(), ...deno, path, ...args];
  const [program, ...rest] = host === undefined ? command : host.command(...command);
  return Program.start(program, rest, up);
}

/** A server that can be restarted on its port. */
class Restartable implements AsyncDisposable {
  #program: Program;

  private constructor(
    readonly port: number,
    program: Program,
    readonly setup: Setup,
    readonly host: Host | undefined,
  ) {
    this.#program = program;
  }

  static async start(setup: Setup, host: Host | undefined): Promise<Restartable> {
    const program = await Restartable.#listen(0, setup, host);
    const [, port] = await program.hear(/:(\d+)\n/);
    return new Restartable(Number(port), program, setup, host);
  }

  async restart(): Promise<void> {
    const old = this.#program;
    const listen = async () => this.#program = await Restartable.#listen(this.port, this.setup, this.host);
    if (this.setup.overlaps) await listen();
    old.kill("SIGTERM");
    const { code } = await old.status;
    if (code !== 0) throw new Error(`the server ended with ${code}: ${old.said}`);
    await old[Symbol.asyncDispose]();
    if (!this.setup.overlaps) await listen();
  }

  static #listen(port: number, { flags }: Setup, host: Host | undefined): Promise<Program> {
    const args = ["--port", String(port), ...flags];
    return startHere("restarting_server.ts", args, /listening on .*:\d+\n/, host);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}

/** Restarts servers under load, in turn. */
export async function restartUnderLoad(setup: Setup, options: RestartOptions): Promise<RestartReport> {
  await using owned = new AsyncDisposableStack();
  const servers: Restartable[] = [];
  for (let count = 0; count < setup.servers; count++) {
    servers.push(owned.use(await Restartable.start(setup, options.host)));
  }
  let ports = servers.map(({ port }) => port);
  if (setup.balance) {
    const balancer = owned.use(await setup.balance(owned.use(await Folder.make()), ports));
    ports = [balancer.port];
  }
  const callers = await Promise.all(Array.from({ length: PROCESSES }, async (_, index) => {
    const count = Math.ceil(options.clients / PROCESSES);
    const given: ClientsOptions = {
      connect: { servers: ports.map((port) => `127.0.0.1:${port}`) },
      count,
      seed: options.seed + index,
      pauseMs: options.pauseMs,
      workMs: WORK_MS,
      watchMs: Math.min(WATCH_MS, 10 * options.pauseMs),
      eachAnew: options.eachAnew ?? false,
    };
    return owned.use(
      await startHere("restarting_clients.ts", [JSON.stringify(given)], /clients ready\n/, options.host),
    );
  }));

  let restartsMs = 0;
  for (let count = 0; count < options.restarts; count++) {
    const startMs = performance.now();
    await servers[count % servers.length].restart();
    restartsMs += performance.now() - startMs;
    await new Promise((resolve) => setTimeout(resolve, options.settleMs));
  }
  const reports = await Promise.all(callers.map(async (program): Promise<ClientsReport> => {
    await program.say("stop");
    const [, report] = await program.hear(/report (.*)\n/);
    return JSON.parse(report);
  }));
  return {
    restarts: options.restarts,
    restartMs: restartsMs / options.restarts,
    calls: sum(reports.map(({ calls }) => calls)),
    streams: sum(reports.map(({ streams }) => streams)),
  };
}

/** Counts added up, by name. */
export function sum(all: readonly Readonly<Endings>[]): Endings {
  const total: Endings = {};
  for (const endings of all) {
    for (const [code, count] of Object.entries(endings)) total[code] = (total[code] ?? 0) + count;
  }
  return total;
}

/** Those that have not succeeded. */
export function failed({ DONE: _, ...others }: Endings): Endings {
  return others;
}

/** Codes and how many, in a cell of a table. */
export function shown(endings: Endings): string {
  return Object.entries(failed(endings)).map(([code, count]) => `${count} \`${code}\``).join(", ") || "0";
}

if (import.meta.main) {
  const flags = parseArgs(Deno.args, { string: ["clients", "restarts", "pause-ms", "settle-ms", "seed", "only"] });
  const names = flags.only?.split(",") ?? Object.keys(SETUPS);
  const options = {
    clients: Number(flags.clients ?? 1_000),
    restarts: Number(flags.restarts ?? 100),
    pauseMs: Number(flags["pause-ms"] ?? 10_000),
    settleMs: Number(flags["settle-ms"] ?? 5_000),
    seed: Number(flags.seed ?? newSeed()),
  };
  console.log(`${options.clients} clients, pauses up to ${options.pauseMs} ms, seed ${options.seed}\n`);
  console.log("| servers | restarts | a restart | calls | failed | streams | failed |");
  console.log("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
  for (const name of names as (keyof typeof SETUPS)[]) {
    const { restarts, restartMs, calls, streams } = await restartUnderLoad(SETUPS[name], options);
    const total = (endings: Endings) => Object.values(endings).reduce((sum, count) => sum + count, 0);
    const cells = [
      name,
      restarts,
      `${Math.round(restartMs)} ms`,
      total(calls),
      shown(calls),
      total(streams),
      shown(streams),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}
