/**
 * Defines the works: what is measured, on which subjects, and how often. Every sample uses a fresh server process,
 * loaded by another process. In each round all subjects take turns, starting with a different one, and the results are
 * medians over the rounds.
 */

import type { Job } from "./load.ts";
import type { Sample } from "./measure.ts";
import { denoProcess } from "./process.ts";
import { FLOOR, GRPC, NAIVE, NODE, ONE_WORKER, PACKLINE, REDIS, type Subject, TWO_WORKERS } from "./subjects.ts";

/** The duration of a load. */
type Times = Pick<Job, "warmupMs" | "windowMs">;

/** The extent of a run. */
export interface Plan {
  rounds: number;
  /** For the works. Without a warm-up, the compiler would be measured. */
  works: Times;
  /** For each step of a series. */
  steps: Times;
  codecSliceMs: number;
  idleConnections: number;
  idleSubjects: readonly Subject[];
  payloadBytes: readonly number[];
  connections: readonly number[];
}

export const FULL: Plan = {
  rounds: 5,
  works: { warmupMs: 1_000, windowMs: 1_000 },
  steps: { warmupMs: 1_000, windowMs: 1_000 },
  codecSliceMs: 20,
  idleConnections: 5_000,
  idleSubjects: [PACKLINE, FLOOR, REDIS, NODE],
  payloadBytes: [16, 1_024, 16_384, 65_536, 1_048_576],
  connections: [1, 10, 100, 1_000, 5_000],
};

export const QUICK: Plan = {
  rounds: 1,
  works: { warmupMs: 100, windowMs: 200 },
  steps: { warmupMs: 100, windowMs: 200 },
  codecSliceMs: 2,
  idleConnections: 5_000,
  idleSubjects: [PACKLINE],
  payloadBytes: [16, 4096, 1_048_576],
  connections: [1, 1_000],
};

/** A load, without its server. */
type Load = Pick<Job, "question" | "connections" | "inFlight" | "inRounds">;

/** A work, measured on several subjects, with a table row for each. */
export interface Work {
  readonly title: string;
  readonly load: Load;
  readonly subjects: readonly Subject[];
  /** Whether each subject's own client library makes the load. */
  readonly library?: true;
}

export const PIPELINED: Work = {
  title: "PING, one connection, 1,000 in flight",
  load: { question: "ping", connections: 1, inFlight: 1_000 },
  // HTTP/2 numbers its requests, so gRPC is in the next work.
  subjects: [PACKLINE, FLOOR, NAIVE, REDIS, NODE],
};

export const SEQUENCED: Work = {
  title: "PING with `seq`, one connection, 1,000 in flight",
  load: { question: "seq", connections: 1, inFlight: 1_000 },
  subjects: [PACKLINE, FLOOR, NAIVE, REDIS, GRPC, NODE],
};

export const FIFTY: Work = {
  title: "PING, 50 connections, one in flight each",
  load: { question: "ping", connections: 50, inFlight: 1 },
  subjects: [PACKLINE, FLOOR, NAIVE, REDIS, GRPC, NODE],
};

export const SERIAL: Work = {
  title: "PING, one connection, one at a time",
  load: { question: "ping", connections: 1, inFlight: 1 },
  subjects: [PACKLINE, FLOOR, NAIVE, REDIS, GRPC, NODE],
};

export const LIBRARY: Work = {
  title: "Client library, one connection, 64 calls in flight",
  load: { question: "ping", connections: 1, inFlight: 64 },
  subjects: [PACKLINE, GRPC],
  library: true,
};

export const WORKS: readonly Work[] = [PIPELINED, SEQUENCED, FIFTY, SERIAL, LIBRARY];

/** Works for packline's workers: calls that cost the client as much as the server, and calls that cost it less. */
export const WORKERS: readonly Work[] = [
  {
    title: "PING, 50 connections, one in flight each",
    load: { question: "ping", connections: 50, inFlight: 1 },
    subjects: [ONE_WORKER, TWO_WORKERS],
  },
  {
    title: "1 ms of computing, 16 connections, one in flight each",
    load: { question: "compute", connections: 16, inFlight: 1 },
    subjects: [ONE_WORKER, TWO_WORKERS],
  },
];

/** The output of a codec run: nanoseconds per message, by work. */
export type CodecTimes = Record<string, number>;

/** The compared codecs; each is an argument of `codec.ts`. */
export const CODECS = ["packline", "msgpackr", "std"] as const;

/** All results. Samples are in the order of their rounds. */
export interface Results {
  rounds: number;
  /** Samples by work and subject, without skipped subjects. */
  works: Map<Work, Map<Subject, Sample[]>>;
  workers: Map<Work, Map<Subject, Sample[]>>;
  codecs: Map<typeof CODECS[number], CodecTimes[]>;
  /** Bytes of memory per connection. */
  idle: Map<Subject, number[]>;
  idleConnections: number;
  /** Samples of packline and the raw loop, by size and by count. */
  payloads: Map<number, Map<Subject, Sample[]>>;
  connections: Map<number, Map<Subject, Sample[]>>;
}

/** Runs the plan with all subjects that are not skipped. */
export async function measureAll(plan: Plan, skipped: ReadonlyMap<Subject, string>): Promise<Results> {
  const present = (subjects: readonly Subject[]) => subjects.filter((subject) => !skipped.has(subject));

  const measure = async (list: readonly Work[]): Promise<Results["works"]> => {
    const results: Results["works"] = new Map();
    for (const work of list) {
      const run = (subject: Subject) => sample(subject, work.load, plan.works, work.library);
      results.set(work, await inTurns(work.title, plan, present(work.subjects), run));
    }
    return results;
  };
  const works = await measure(WORKS);
  const workers = await measure(WORKERS);

  const codecs = await inTurns("Codecs", plan, CODECS, async (name): Promise<CodecTimes> => {
    await using process = denoProcess("codec.ts", name, `${plan.codecSliceMs}`);
    return JSON.parse(await process.line());
  });

  const idleLoad: Load = { question: "ping", connections: plan.idleConnections, inFlight: 1 };
  const idle = await inTurns(
    `${plan.idleConnections} idle connections`,
    plan,
    present(plan.idleSubjects),
    (subject) => under<number>(subject, "idle.ts", idleLoad, plan.works),
  );

  const payloads = await overSteps("payloads", plan, plan.payloadBytes, (bytes) => ({
    question: bytes,
    connections: 1,
    inFlight: 1,
  }));
  const connections = await overSteps("connections", plan, plan.connections, (count) => ({
    question: "ping",
    connections: count,
    inFlight: 1,
    inRounds: true,
  }));

  const { rounds, idleConnections } = plan;
  return { rounds, works, workers, codecs, idle, idleConnections, payloads, connections };
}

/** Takes one sample of a subject under a load. */
function sample(subject: Subject, load: Load, times: Times, library?: true): Promise<Sample> {
  const program = subject === GRPC ? "clients/grpc.ts" : library ? "clients/packline.ts" : "load.ts";
  return under<Sample>(subject, program, load, times);
}

/** Starts a server and runs a load generator on it. */
async function under<Result>(subject: Subject, program: string, load: Load, times: Times): Promise<Result> {
  const { process, port } = await subject.start(load.question);
  await using server = process;
  const job: Job = { ...load, speech: subject.speech, pid: server.pid, port, ...times };
  await using generator = denoProcess(program, JSON.stringify(job));
  try {
    // A missing measurement is `NaN`, which JSON cannot represent.
    return JSON.parse(await generator.line(), (_key, value) => value ?? NaN);
  } catch (error) {
    throw new Error(`${subject.name}, ${program}: ${(error as Error).message}`, { cause: error });
  }
}

/** Runs each subject once per round. */
async function inTurns<Subject, Result>(
  title: string,
  { rounds }: Plan,
  subjects: readonly Subject[],
  run: (subject: Subject) => Promise<Result>,
): Promise<Map<Subject, Result[]>> {
  const results = new Map<Subject, Result[]>(subjects.map((subject) => [subject, []]));
  for (let round = 0; round < rounds; round++) {
    console.error(`${title}: round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < subjects.length; turn++) {
      const subject = subjects[(round + turn) % subjects.length];
      results.get(subject)?.push(await run(subject));
    }
  }
  return results;
}

/** Measures packline and the raw loop over a series of steps; every step runs in every round. */
async function overSteps(
  title: string,
  plan: Plan,
  steps: readonly number[],
  loadOf: (step: number) => Load,
): Promise<Map<number, Map<Subject, Sample[]>>> {
  const turns = steps.flatMap((step) => [PACKLINE, FLOOR].map((subject) => ({ step, subject })));
  const taken = await inTurns(title, plan, turns, ({ step, subject }) => sample(subject, loadOf(step), plan.steps));
  const results = new Map(steps.map((step) => [step, new Map<Subject, Sample[]>()]));
  for (const [{ step, subject }, samples] of taken) results.get(step)?.set(subject, samples);
  return results;
}
