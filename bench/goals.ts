/** Defines the performance goals of packline, and checks them against one run. */

import type { Sample } from "./measure.ts";
import type { Results } from "./plans.ts";
import { median } from "./table.ts";
import type { TappedSample } from "./tap_load.ts";
import {
  CLIENT,
  CLIENT_ALONE,
  FIFTY,
  GET,
  IDLE,
  LIST,
  PAYLOADS,
  PING,
  type Row,
  TAPPED_GET,
  UNCREDITED,
  WAITING,
  WORKER,
} from "./works.ts";

/** A goal. */
export interface Goal {
  /** The row that the goal is about. */
  readonly row: Row | Row<number>;
  /** What is compared. */
  readonly text: string;
  readonly bound: number;
  readonly unit: string;
  /** Whether the bound is a minimum; otherwise it is a maximum. */
  readonly atLeast: boolean;
  /** The figure of a run; `NaN` if something was skipped. */
  figure(results: Results): number;
}

type Pick = (sample: Sample) => number;

const serverCpu: Pick = (sample) => sample.serverCpu;
const clientCpu: Pick = (sample) => sample.clientCpu;
const callsPerSecond: Pick = (sample) => sample.callsPerSecond;
const p50: Pick = (sample) => sample.p50;

export const GOALS: readonly Goal[] = [
  ratio(PING.packline, PING.redis, serverCpu, "CPU / Redis", 0.9),
  ratio(PING.sequenced, PING.redis, serverCpu, "CPU / Redis", 1.1),
  ratio(GET.packline, GET.redis, serverCpu, "CPU / Redis", 1.0),
  ratio(GET.sequenced, GET.redis, serverCpu, "CPU / Redis", 1.2),
  ratio(GET.asynchronous, GET.redis, serverCpu, "CPU / Redis", 1.8),
  most(TAPPED_GET, "CPU / unwatched", 1.05, "", ({ samples }) => {
    const tapped = samples.get(TAPPED_GET) as readonly TappedSample[] | undefined;
    return median(tapped?.flatMap(({ cpuRatios }) => cpuRatios));
  }),
  { ...ratio(LIST.grpc, LIST.packline, serverCpu, "grpc-js's CPU / CPU", 30), row: LIST.packline, atLeast: true },
  ratio(LIST.packline, LIST.codec, serverCpu, "CPU / msgpackr's codec", 1.5),
  ratio(FIFTY.packline, FIFTY.floor, serverCpu, "CPU / raw loop", 1.15),
  ratio(FIFTY.packline, FIFTY.http, serverCpu, "CPU / Deno.serve", 1),
  ...PAYLOADS.map(({ packline, echo }) => ratio(packline, echo, serverCpu, "CPU / raw echo", 1.5)),
  { ...ratio(CLIENT.packline, CLIENT.webSocket, callsPerSecond, "calls/s / WebSocket", 3), atLeast: true },
  { ...ratio(CLIENT.packline, CLIENT.fetch, callsPerSecond, "calls/s / fetch", 20), atLeast: true },
  most(CLIENT.packline, "client CPU", 1.8, "µs", ({ samples }) => median(samples.get(CLIENT.packline)?.map(clientCpu))),
  ratio(CLIENT_ALONE.packline, CLIENT_ALONE.webSocket, p50, "p50 / WebSocket", 0.9),
  { ...ratio(WORKER.two, WORKER.one, callsPerSecond, "calls/s / one worker", 1.8), atLeast: true },
  memory(IDLE.packline, 14),
  memory(WAITING.packline, 1),
  memory(UNCREDITED, 1),
];

/** Whether a figure meets a goal. */
export function isMet({ bound, atLeast }: Goal, figure: number): boolean {
  return atLeast ? figure >= bound : figure <= bound;
}

/** The median of the ratios of each round, because subjects of one round ran side by side. */
function ratio(row: Row, other: Row, pick: Pick, text: string, bound: number): Goal {
  return most(row, text, bound, "", ({ samples }) => {
    const others = samples.get(other) ?? [];
    return median(samples.get(row)?.slice(0, others.length).map((sample, round) => pick(sample) / pick(others[round])));
  });
}

function memory(row: Row<number>, kibibytes: number): Goal {
  return most(row, "memory", kibibytes, "KiB", (results) => median(results.memory.get(row)) / 1024);
}

function most(row: Goal["row"], text: string, bound: number, unit: string, figure: Goal["figure"]): Goal {
  return { row, text, bound, unit, atLeast: false, figure };
}
