/**
 * Many clients in one process, each of which calls now and then, or reads a stream: for the restart experiment.
 *
 * In: how they connect and how seldom they call, as JSON; a line on stdin ends it. Out: a line once all are connected, and
 * at the end a line of JSON that says how all calls and streams have ended, by code; `DONE` for what has succeeded.
 */

import { type Client, connect, type ConnectOptions, RpcError } from "../../mod.ts";
import { linesOf } from "../../cli/lines.ts";
import { Random } from "../support/random.ts";
import type { RestartingCommands } from "./restarting_server.ts";

/** What the program takes. */
export interface ClientsOptions {
  readonly connect: ConnectOptions;
  readonly count: number;
  readonly seed: number;
  /** The longest pause between two calls of a client. */
  readonly pauseMs: number;
  /** How long a call and a stream last at the most. */
  readonly workMs: number;
  readonly watchMs: number;
  /** Whether each call has a connection of its own. */
  readonly eachAnew: boolean;
}

/** How many ended in which way. */
export type Endings = Record<string, number>;

/** What it says at the end. */
export interface ClientsReport {
  readonly calls: Endings;
  readonly streams: Endings;
}

/** How a call has ended whose connection was refused. */
export const REFUSED = "refused";

/** One use in so many is a stream. */
const STREAM_EVERY = 8;

/** All clients of this process, until they are stopped. */
class Clients {
  readonly calls: Endings = {};
  readonly streams: Endings = {};
  readonly #options: ClientsOptions;
  readonly #random: Random;
  readonly #stop = Promise.withResolvers<void>();
  readonly #ready = Promise.withResolvers<void>();
  #connecting: number;
  #isStopped = false;

  constructor(options: ClientsOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#connecting = options.count;
  }

  /** Resolves when all are connected. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  #connected(): void {
    if (--this.#connecting === 0) this.#ready.resolve();
  }

  stop(): void {
    this.#isStopped = true;
    this.#stop.resolve();
  }

  /** Does what one client does, until it is stopped. */
  async run(): Promise<void> {
    const { pauseMs, eachAnew } = this.#options;
    const client = eachAnew ? undefined : await dial(this.#options);
    this.#connected();
    while (true) {
      await this.#rest(this.#random.between(0, pauseMs));
      if (this.#isStopped) break;
      if (client === undefined) await count(this.calls, this.#callAnew());
      else await this.#use(client);
    }
    await client?.close();
  }

  async #callAnew(): Promise<string> {
    let client: Client<RestartingCommands>;
    try {
      client = await dial(this.#options);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return REFUSED;
    }
    await using _ = client;
    return await client.call.WORK({ workMs: 0 });
  }

  /** Makes a call, or reads a stream. */
  async #use(client: Client<RestartingCommands>): Promise<void> {
    const { workMs, watchMs } = this.#options;
    const random = this.#random;
    if (random.chance(1 / STREAM_EVERY)) {
      await count(this.streams, drain(client.stream.WATCH({ watchMs: random.between(0, watchMs) })));
    } else {
      await count(this.calls, client.call.WORK({ workMs: random.between(0, workMs) }));
    }
  }

  /** Waits for so long, or until all are stopped. */
  async #rest(milliseconds: number): Promise<void> {
    let timer;
    await Promise.race([new Promise((resolve) => timer = setTimeout(resolve, milliseconds)), this.#stop.promise]);
    clearTimeout(timer);
  }
}

function dial(options: ClientsOptions): Promise<Client<RestartingCommands>> {
  return connect(options.connect as ConnectOptions<RestartingCommands>);
}

async function count(endings: Endings, outcome: Promise<string>): Promise<void> {
  let code: string;
  try {
    code = await outcome;
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    code = error.code;
  }
  endings[code] = (endings[code] ?? 0) + 1;
}

/** Reads a stream to its end. */
async function drain(items: AsyncGenerator<string, string>): Promise<string> {
  while (true) {
    const { done, value } = await items.next();
    if (done) return value;
  }
}

if (import.meta.main) {
  const options: ClientsOptions = JSON.parse(Deno.args[0]);
  const all = new Clients(options);
  const running = Promise.all(Array.from({ length: options.count }, () => all.run()));
  await Promise.race([all.ready, running]);
  console.log("clients ready");
  for await (const _ of linesOf(Deno.stdin.readable)) break;
  all.stop();
  await running;
  const report: ClientsReport = { calls: all.calls, streams: all.streams };
  console.log(`report ${JSON.stringify(report)}`);
}
