/**
 * Defines the works: what is measured, on which subjects. Every sample uses a new server process, loaded by another
 * process.
 */

import { DELAYS, LIST_CALL } from "./data.ts";
import type { Job } from "./load.ts";
import type { MemoryJob } from "./memory.ts";
import type { Sample } from "./measure.ts";
import { denoProcess } from "./process.ts";
import type { TappedSample } from "./tap_load.ts";
import {
  CAPNWEB,
  ECHO,
  FLOOR,
  GRPC,
  HTTP,
  NAIVE,
  NODE,
  ONE_WORKER,
  PACKLINE,
  REDIS,
  type Subject,
  TAPPED,
  TRPC,
  TWO_WORKERS,
  WEB_SOCKET,
} from "./subjects.ts";

/** The duration of a load, of the pause before memory is read, and of a slice of a codec's time. */
export type Times = Pick<Job, "warmup" | "window"> & { readonly settleMs: number; readonly sliceMs: number };

/** A row of the tables: a subject under a load. */
export interface Row<Result = Sample> {
  readonly name: string;
  /** The server. If it is missing, the row is skipped. */
  readonly subject?: Subject;
  /** Whether the load is a client library, whose own cost is of interest. */
  readonly isLibrary?: true;
  sample(times: Times): Promise<Result>;
}

/** A comparison, whose rows take turns. */
export interface Work<Result = Sample> {
  readonly title: string;
  readonly rows: readonly Row<Result>[];
}

/** A load, without its server. */
type Load = Pick<Job, "question" | "connections" | "inFlight" | "inRounds"> & {
  /** Cheap calls are counted up to this number. */
  readonly windowCalls?: number;
  /** The number of processes that share the connections. */
  readonly generators?: number;
};

/** A row with prepared bytes. */
function prepared(subject: Subject, load: Load, note = ""): Row {
  return { name: subject.name + note, subject, sample: (times) => sampleUnder(subject, "load.ts", load, times) };
}

/** A row with a client library. */
function library(subject: Subject, client: string, load: Load, name = subject.name): Row {
  const sample = (times: Times) => sampleUnder(subject, `clients/${client}`, load, times);
  return { name, subject, isLibrary: true, sample };
}

/** A row of a codec, without a server. */
function codec(name: typeof CODECS[number]): Row {
  return {
    name: `${name}, its codec alone`,
    async sample({ sliceMs }) {
      const nanoseconds = (await codecTimes(name, sliceMs, LIST_CALL))[LIST_CALL];
      const none = { p50: NaN, p99: NaN, clientCpu: NaN, rss: NaN };
      return { callsPerSecond: 1e9 / nanoseconds, serverCpu: nanoseconds / 1000, ...none };
    },
  };
}

/** A row of memory, in bytes. */
function memory(subject: Subject, load: Load): Row<number> {
  return { name: subject.name, subject, sample: (times) => resultUnder<number>(subject, "memory.ts", load, times) };
}

/** The output of a codec run: nanoseconds per message, by work. */
export type CodecTimes = Record<string, number>;

/** The compared codecs; each is an argument of `codec.ts`. */
export const CODECS = ["packline", "msgpackr", "std"] as const;

/** Runs a codec by itself. */
export async function codecTimes(
  name: typeof CODECS[number],
  sliceMs: number,
  ...works: string[]
): Promise<CodecTimes> {
  await using process = denoProcess("codec.ts", name, `${sliceMs}`, ...works);
  return JSON.parse(await process.line());
}

const PIPELINED = { connections: 1, inFlight: 1_000, windowCalls: 1_000_000 };

export const PING = {
  packline: prepared(PACKLINE, { ...PIPELINED, question: "ping" }),
  sequenced: prepared(PACKLINE, { ...PIPELINED, question: "ping, seq" }, ", seq"),
  redis: prepared(REDIS, { ...PIPELINED, question: "ping" }),
};

const PINGS: Work = {
  title: "PING, one connection, 1,000 in flight",
  rows: [
    ...Object.values(PING),
    prepared(FLOOR, { ...PIPELINED, question: "ping" }),
    prepared(NAIVE, { ...PIPELINED, question: "ping", windowCalls: 0 }),
    prepared(NODE, { ...PIPELINED, question: "ping" }),
  ],
};

export const GET = {
  packline: prepared(PACKLINE, { ...PIPELINED, question: "get" }),
  sequenced: prepared(PACKLINE, { ...PIPELINED, question: "get, seq" }, ", seq"),
  asynchronous: prepared(PACKLINE, { ...PIPELINED, question: "get, seq, async" }, ", seq, async handler"),
  redis: prepared(REDIS, { ...PIPELINED, question: "get" }),
};

/** Compared with the same server without a tap. */
export const TAPPED_GET: Row<TappedSample> = {
  name: TAPPED.name,
  subject: TAPPED,
  sample: (times) => resultUnder<TappedSample>(TAPPED, "tap_load.ts", { ...PIPELINED, question: "get" }, times),
};

const GETS: Work = { title: "GET, one connection, 1,000 in flight", rows: [...Object.values(GET), TAPPED_GET] };

const LIST_LOAD: Load = { question: "list", connections: 1, inFlight: 64 };

export const LIST = {
  packline: prepared(PACKLINE, LIST_LOAD),
  grpc: library(GRPC, "grpc.ts", LIST_LOAD),
  codec: codec("msgpackr"),
};

const LISTS: Work = { title: "A record in, 20 records out, `seq`, 64 in flight", rows: Object.values(LIST) };

const FIFTY_LOAD: Load = { question: "get", connections: 50, inFlight: 1 };

export const FIFTY = {
  packline: prepared(PACKLINE, FIFTY_LOAD),
  floor: prepared(FLOOR, FIFTY_LOAD),
  http: prepared(HTTP, FIFTY_LOAD),
  redis: prepared(REDIS, FIFTY_LOAD),
};

const FIFTIES: Work = { title: "GET, 50 connections, one in flight each", rows: Object.values(FIFTY) };

/** Works that send payloads there and back, by size. */
export const PAYLOADS = ([["16 KiB", 2 ** 14], ["64 KiB", 2 ** 16], ["1 MiB", 2 ** 20], ["16 MiB", 2 ** 24]] as const)
  .map(([size, question]) => {
    const load: Load = { question, connections: 1, inFlight: 1 };
    return { size, packline: prepared(PACKLINE, load), echo: prepared(ECHO, load) };
  });

const PAYLOAD_WORKS: readonly Work[] = PAYLOADS.map(({ size, packline, echo }) => ({
  title: `${size} there and back, one connection, one in flight`,
  rows: [packline, echo],
}));

function clients(inFlight: number) {
  const load: Load = { question: "get", connections: 1, inFlight };
  return {
    packline: library(PACKLINE, "packline.ts", load),
    webSocket: library(WEB_SOCKET, "web_socket.ts", load),
    fetch: library(HTTP, "fetch.ts", load, "fetch, Deno.serve, JSON"),
    trpc: library(TRPC, "trpc.ts", load),
    capnweb: library(CAPNWEB, "capnweb.ts", load),
    grpc: library(GRPC, "grpc.ts", load),
    redis: library(REDIS, "redis.ts", load),
  };
}

export const CLIENT = clients(64);
export const CLIENT_ALONE = clients(1);

const CLIENTS: Work = { title: "GET, Deno client to Deno server, 64 in flight", rows: Object.values(CLIENT) };
const CLIENTS_ALONE: Work = {
  title: "GET, Deno client to Deno server, one in flight",
  rows: Object.values(CLIENT_ALONE),
};

const WORKER_LOAD: Load = { question: "get", connections: 100, inFlight: 1, generators: 2 };

export const WORKER = { two: prepared(TWO_WORKERS, WORKER_LOAD), one: prepared(ONE_WORKER, WORKER_LOAD) };

const WORKERS: Work = { title: "GET, 100 connections, load from two processes", rows: Object.values(WORKER) };

const IDLE_LOAD: Load = { question: "ping", connections: 4_000, inFlight: 1 };

export const IDLE = {
  packline: memory(PACKLINE, IDLE_LOAD),
  redis: memory(REDIS, IDLE_LOAD),
  node: memory(NODE, IDLE_LOAD),
  floor: memory(FLOOR, IDLE_LOAD),
};

const IDLES: Work<number> = { title: "Idle connection", rows: Object.values(IDLE) };

export const WAITING = {
  packline: memory(PACKLINE, { question: "delay", connections: 50, inFlight: DELAYS + 1 }),
  promise: {
    name: "a bare promise",
    async sample() {
      await using process = denoProcess("promises.ts");
      return Number(await process.line());
    },
  } satisfies Row<number>,
};

const WAITINGS: Work<number> = { title: "Call that waits (`DELAY 60`)", rows: Object.values(WAITING) };

export const UNCREDITED: Row<number> = memory(PACKLINE, { question: "watch", connections: 50, inFlight: 1_000 });

const UNCREDITEDS: Work<number> = { title: "Stream without credit", rows: [UNCREDITED] };

const CONNECTION_WORKS: readonly Work[] = [1, 5_000].map((connections) => {
  const load: Load = { question: "ping", connections, inFlight: 1, inRounds: true };
  return {
    title: `PING, ${connections.toLocaleString("en")} connection${connections === 1 ? "" : "s"}, all at once`,
    rows: [prepared(PACKLINE, load), prepared(FLOOR, load)],
  };
});

/** The works of calls, in the order of the table. */
export const WORKS: readonly Work[] = [
  PINGS,
  GETS,
  LISTS,
  FIFTIES,
  ...PAYLOAD_WORKS,
  CLIENTS,
  CLIENTS_ALONE,
  WORKERS,
  ...CONNECTION_WORKS,
];

/** The works of memory. */
export const MEMORY_WORKS: readonly Work<number>[] = [IDLES, WAITINGS, UNCREDITEDS];

/** Takes one sample, from all load generators together. */
async function sampleUnder(subject: Subject, program: string, load: Load, times: Times): Promise<Sample> {
  const samples = await resultsUnder<Sample>(subject, program, load, times);
  const mean = (pick: (sample: Sample) => number) =>
    samples.reduce((sum, sample) => sum + pick(sample), 0) / samples.length;
  return {
    callsPerSecond: mean((sample) => sample.callsPerSecond) * samples.length,
    p50: mean((sample) => sample.p50),
    p99: Math.max(...samples.map((sample) => sample.p99)),
    // Each generator divided the CPU time of the whole server by its own calls.
    serverCpu: mean((sample) => sample.serverCpu) / samples.length,
    clientCpu: mean((sample) => sample.clientCpu),
    rss: mean((sample) => sample.rss),
  };
}

async function resultUnder<Result>(subject: Subject, program: string, load: Load, times: Times): Promise<Result> {
  return (await resultsUnder<Result>(subject, program, load, times))[0];
}

/** Starts a server and runs load generators on it. */
async function resultsUnder<Result>(
  subject: Subject,
  program: string,
  { generators = 1, windowCalls = 0, ...load }: Load,
  { warmup, window, settleMs }: Times,
): Promise<Result[]> {
  const { process, port } = await subject.start(load.question);
  await using server = process;
  const { speech } = subject;
  const connections = load.connections / generators;
  const times = { warmup, window: { ...window, calls: windowCalls }, settleMs };
  const job: MemoryJob = { ...load, connections, speech, port, pid: server.pid, ...times };
  return await Promise.all(Array.from({ length: generators }, async () => {
    await using generator = denoProcess(program, JSON.stringify(job));
    try {
      // A missing measurement is `NaN`, which JSON cannot represent.
      return JSON.parse(await generator.line(), (_key, value) => value ?? NaN);
    } catch (error) {
      throw new Error(`${subject.name}, ${program}: ${(error as Error).message}`, { cause: error });
    }
  }));
}
