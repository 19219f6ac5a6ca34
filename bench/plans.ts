/**
 * Runs the works. In each round all works are measured one after the other. In each work all rows take turns, starting
 * with a different row. The results are medians over the rounds. So other load on the machine affects all rows equally.
 */

import type { Sample } from "./measure.ts";
import type { Subject } from "./subjects.ts";
import {
  CLIENT,
  CODECS,
  type CodecTimes,
  codecTimes,
  GET,
  IDLE,
  LIST,
  MEMORY_WORKS,
  PAYLOADS,
  PING,
  type Row,
  type Times,
  UNCREDITED,
  WAITING,
  type Work,
  WORKS,
} from "./works.ts";

/** The extent of a run. */
interface Plan {
  readonly rounds: number;
  readonly times: Times;
  readonly works: readonly Work[];
  readonly memoryWorks: readonly Work<number>[];
  readonly codecs: readonly typeof CODECS[number][];
}

/** With fewer calls in the warm-up, the compiler would be measured too. */
const WARM_CALLS = 80_000;

export const FULL: Plan = {
  rounds: 5,
  times: {
    warmup: { ms: 600, calls: WARM_CALLS, longestMs: 1_500 },
    window: { ms: 500, calls: 0, longestMs: 4_000 },
    settleMs: 500,
    sliceMs: 15,
  },
  works: WORKS,
  memoryWorks: MEMORY_WORKS,
  codecs: CODECS,
};

/**
 * The rows whose verdict is reliable in one short round: CPU and memory. Calls/s and latency depend on the scheduler.
 */
const QUICK_ROWS: ReadonlySet<unknown> = new Set([
  ...Object.values(PING),
  ...Object.values(GET),
  LIST.packline,
  LIST.codec,
  ...PAYLOADS.slice(1, 2).flatMap(({ packline, echo }) => [packline, echo]),
  CLIENT.packline,
  IDLE.packline,
  WAITING.packline,
  UNCREDITED,
]);

export const QUICK: Plan = {
  rounds: 1,
  times: {
    warmup: { ms: 500, calls: WARM_CALLS, longestMs: 800 },
    window: { ms: 500, calls: 0, longestMs: 500 },
    settleMs: 300,
    sliceMs: 4,
  },
  works: quickOnes(WORKS),
  memoryWorks: quickOnes(MEMORY_WORKS),
  codecs: [],
};

function quickOnes<Result>(works: readonly Work<Result>[]): Work<Result>[] {
  return works.map(({ title, rows }) => ({ title, rows: rows.filter((row) => QUICK_ROWS.has(row)) }))
    .filter(({ rows }) => rows.length > 0);
}

/** All results. Samples are in the order of their rounds. */
export interface Results {
  readonly plan: Plan;
  /** The measured works, without skipped subjects. */
  readonly samples: Map<Row, Sample[]>;
  /** Bytes. */
  readonly memory: Map<Row<number>, number[]>;
  readonly codecs: Map<string, CodecTimes[]>;
}

/** The servers that a plan needs. */
export function subjectsOf({ works, memoryWorks }: Plan): Subject[] {
  const subjects = [...works, ...memoryWorks].flatMap(({ rows }) => rows.map(({ subject }) => subject));
  return [...new Set(subjects)].filter((subject) => subject !== undefined);
}

/** Runs the plan with all subjects that are not skipped. */
export async function measureAll(plan: Plan, skipped: ReadonlyMap<Subject, string>): Promise<Results> {
  const results: Results = { plan, samples: new Map(), memory: new Map(), codecs: new Map() };
  for (let round = 0; round < plan.rounds; round++) {
    const takeTurns = async <Result>(work: Work<Result>, samples: Map<Row<Result>, Result[]>): Promise<void> => {
      console.error(`round ${round + 1} of ${plan.rounds}: ${work.title}`);
      const rows = work.rows.filter(({ subject }) => subject === undefined || !skipped.has(subject));
      for (let turn = 0; turn < rows.length; turn++) {
        const row = rows[(round + turn) % rows.length];
        append(samples, row, await row.sample(plan.times));
      }
    };
    for (const work of plan.works) await takeTurns(work, results.samples);
    for (const work of plan.memoryWorks) await takeTurns(work, results.memory);
    for (const name of plan.codecs) append(results.codecs, name, await codecTimes(name, plan.times.sliceMs));
  }
  return results;
}

function append<Key, Value>(lists: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}
