/** Defines the performance goals of packline, and checks them against one run. */

import type { Sample } from "./measure.ts";
import { FLOOR, GRPC, PACKLINE, REDIS, type Subject } from "./subjects.ts";
import { median } from "./table.ts";
import { FIFTY, LIBRARY, PIPELINED, type Results, SEQUENCED, SERIAL, type Work } from "./works.ts";

/** A goal and its result. */
export interface Verdict {
  goal: string;
  /** The measured figure; `NaN` if something was skipped. */
  figure: number;
  bound: number;
  unit: string;
  /** Whether the bound is a minimum; otherwise it is a maximum. */
  atLeast: boolean;
  reached: boolean;
}

/** The tolerated increase in cost, per byte or per call, from one step to the next; less is noise. */
const FLAT = 1.25;

/**
 * Checks all goals. A ratio is the median of the ratios of each round, because subjects of one round ran side by side.
 */
export function judge({ works, codecs, idle, payloads, connections }: Results): Verdict[] {
  const samples = (work: Work, subject: Subject) => works.get(work)?.get(subject) ?? [];
  const ratio = (work: Work, subject: Subject, other: Subject, pick: (sample: Sample) => number, otherWork = work) =>
    quotient(samples(work, subject).map(pick), samples(otherWork, other).map(pick));
  const cpu = (sample: Sample) => sample.serverCpu;
  const codec = (work: string) =>
    quotient(codecs.get("packline")?.map((times) => times[work]), codecs.get("msgpackr")?.map((times) => times[work]));
  const perByte = [...payloads].map(([bytes, by]) => median((by.get(PACKLINE) ?? []).map(cpu)) / bytes);
  // The runtime's own cost per call grows with the number of connections, so compare with the raw loop.
  const overFloor = [...connections.values()].map((by) =>
    quotient(by.get(PACKLINE)?.map(cpu), by.get(FLOOR)?.map(cpu))
  );

  return [
    most("1,000 in flight: server CPU / Redis", ratio(PIPELINED, PACKLINE, REDIS, cpu), 1.0),
    most("the same with `seq`: server CPU / Redis", ratio(SEQUENCED, PACKLINE, REDIS, cpu), 1.5),
    most("50 connections: server CPU / raw Deno loop", ratio(FIFTY, PACKLINE, FLOOR, cpu), 1.3),
    most("one at a time: p50 / raw Deno loop", ratio(SERIAL, PACKLINE, FLOOR, (sample) => sample.p50), 1.2),
    least("client library: calls/s / grpc-js", ratio(LIBRARY, PACKLINE, GRPC, (sample) => sample.callsPerSecond), 25),
    most(
      "client library: client CPU a call",
      median(samples(LIBRARY, PACKLINE).map((sample) => sample.clientCpu)),
      6,
      "µs",
    ),
    most("20 records, encode / msgpackr", codec("20 records, encode"), 1.2),
    most("20 records, decode / msgpackr", codec("20 records, decode"), 1.2),
    most("PING, encode / msgpackr", codec("PING, encode"), 1.5),
    most("PING, decode / msgpackr", codec("PING, decode"), 1.5),
    most("idle connections: memory each", median(idle.get(PACKLINE) ?? []) / 1024, 24, "KiB"),
    most("larger payloads: worst step in cost a byte", worstStep(perByte), FLAT),
    most("more connections: worst step in cost a call / raw Deno loop", worstStep(overFloor), FLAT),
  ];
}

function most(goal: string, figure: number, bound: number, unit = ""): Verdict {
  return { goal, figure, bound, unit, atLeast: false, reached: figure <= bound };
}

function least(goal: string, figure: number, bound: number, unit = ""): Verdict {
  return { goal, figure, bound, unit, atLeast: true, reached: figure >= bound };
}

function quotient(numbers: readonly number[] = [], others: readonly number[] = []): number {
  return median(numbers.slice(0, others.length).map((number, round) => number / others[round]));
}

function worstStep(costs: readonly number[]): number {
  return Math.max(...costs.slice(1).map((cost, index) => cost / costs[index]));
}
