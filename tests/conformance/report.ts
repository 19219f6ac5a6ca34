/**
 * What became of the checks: a line for each one that failed, and a summary by level.
 *
 * In: checks, run one by one, those that take time beside them. Out: outcomes, lines. Refused: nothing; an error that is
 * not about the peer is thrown on.
 */

import type { Level } from "./vectors/vector.ts";
import { Wrong } from "./wire.ts";

/** Something that must hold. */
export interface Check<Subject> {
  level: Level;
  /** The heading of PROTOCOL.md that says so. */
  heading: string;
  name: string;
  /** It waits for the protocol's own time, and runs beside the others. */
  slow?: boolean;
  /** Throws a `Wrong` if it does not hold, a `Skip` if it cannot be told. */
  run(subject: Subject): Promise<void>;
}

/** A check that cannot be done with this peer, and why. */
export class Skip extends Error {}

/** What became of one check. */
export interface Outcome {
  level: Level;
  heading: string;
  name: string;
  result: "passed" | "failed" | "skipped";
  /** What was sent, what came and what is right; or why it was skipped. */
  detail: string;
}

/** Runs checks; each gets a subject of its own, which tells what was sent. */
export async function runChecks<Subject extends { sent: string } & AsyncDisposable>(
  checks: readonly Check<Subject>[],
  subject: () => Subject,
): Promise<Outcome[]> {
  const slow = checks.filter((check) => check.slow).map((check) => runCheck(check, subject()));
  const outcomes: Outcome[] = [];
  for (const check of checks) if (!check.slow) outcomes.push(await runCheck(check, subject()));
  return [...outcomes, ...await Promise.all(slow)];
}

async function runCheck<Subject extends { sent: string } & AsyncDisposable>(
  check: Check<Subject>,
  subject: Subject,
): Promise<Outcome> {
  const { level, heading, name } = check;
  try {
    await check.run(subject);
    return { level, heading, name, result: "passed", detail: "" };
  } catch (error) {
    if (error instanceof Skip) return { level, heading, name, result: "skipped", detail: error.message };
    if (!(error instanceof Wrong)) throw error;
    const sent = subject.sent === "" ? "" : `sent ${subject.sent}; `;
    return { level, heading, name, result: "failed", detail: `${sent}came ${error.came}; right: ${error.right}` };
  } finally {
    await subject[Symbol.asyncDispose]();
  }
}

/** The lines of a report. */
export function linesOf(outcomes: readonly Outcome[]): string[] {
  const lines = outcomes.filter(({ result }) => result === "failed")
    .map(({ level, heading, name, detail }) => `failed: level ${level}, "${heading}": ${name}: ${detail}`);
  const reasons = Map.groupBy(outcomes.filter(({ result }) => result === "skipped"), ({ detail }) => detail);
  for (const [reason, skipped] of reasons) lines.push(`skipped: ${countOf(skipped.length)}: ${reason}`);
  for (const [level, found] of Map.groupBy(outcomes.toSorted((a, b) => a.level - b.level), ({ level }) => level)) {
    const count = (wanted: Outcome["result"]) => found.filter(({ result }) => result === wanted).length;
    const counts = (["passed", "failed", "skipped"] as const).map((result) => `${count(result)} ${result}`);
    lines.push(`level ${level}: ${counts.join(", ")}`);
  }
  return lines;
}

function countOf(checks: number): string {
  return checks === 1 ? "1 check" : `${checks} checks`;
}
