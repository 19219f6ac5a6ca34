/**
 * A server that keeps books of what it executes, as a program.
 *
 * In: where it listens and what is broken, as JSON; a line on stdin, when nobody calls any more. Out: `server listening`,
 * and at the end a line of JSON: what has run, and what was still in flight when the time was over within which nothing may be.
 */

import { command, type Context, serve, type ServeOptions } from "../../mod.ts";
import { linesOf } from "../../cli/lines.ts";
import { CallerItems } from "../../handlers/caller_items.ts";
import type { ListeningServer } from "../../server.ts";
import { sleep } from "../../transport/clock.ts";
import { type HandlerBooks, streamCommands } from "../faults/stream_commands.ts";

/** What is broken on purpose: it executes calls twice, loses replies, or takes half an upload for a whole one. */
export type Broken = "twice" | "mute" | "halved";

/** What the program takes. */
export interface LedgerServerOptions extends ServeOptions {
  readonly idleTimeoutMs: number;
  /** Within which time nothing is in flight any more. */
  readonly restMs: number;
  readonly broken?: Broken;
}

/** What it says at the end. */
export interface LedgerServerReport {
  readonly books: readonly (readonly [id: number, books: HandlerBooks])[];
  /** Handlers that still ran, and connections that were still open, behind their times. */
  readonly inFlight: number;
  readonly connections: number;
}

/** One call of WORK in so many meets what is broken: some of them are idempotent, and may run twice. */
const UNLUCKY_EVERY = 100;

const LOOK_EVERY_MS = 20;

const books = new Map<number, HandlerBooks>();

function booksOf(id: number): HandlerBooks {
  const known = books.get(id);
  if (known !== undefined) return known;
  const made = { runs: 0, finallys: 0, wholes: 0 };
  books.set(id, made);
  return made;
}

/** What a call of WORK must bring. */
export function valueOf(id: number): number {
  return 7 * id + 1;
}

interface Work {
  id: number;
  workMs: number;
}

async function work({ id, workMs }: Work, { clock, signal }: Context): Promise<number> {
  const its = booksOf(id);
  its.runs++;
  try {
    if (workMs > 0) await sleep(clock, workMs, signal);
    return valueOf(id);
  } finally {
    its.finallys++;
  }
}

function commandsOf(broken: Broken | undefined) {
  let works = 0;
  return {
    ...streamCommands(booksOf),
    WORK: command(async (params: Work, context) => {
      const isUnlucky = ++works % UNLUCKY_EVERY === 0;
      if (isUnlucky && broken === "twice") await work(params, context);
      const value = await work(params, context);
      if (isUnlucky && broken === "mute") await new Promise(() => {});
      return value;
    }),
  };
}

export type LedgerCommands = ReturnType<typeof commandsOf>;

/** Waits until something is 0, as long as that may take. */
async function untilNone(count: () => number, patienceMs: number): Promise<number> {
  const endMs = performance.now() + patienceMs;
  while (count() > 0 && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  return count();
}

/** What runs, by each of the server's two counts. */
function inFlight(server: ListeningServer): number {
  const { inFlight, commands } = server.statistics();
  return Math.max(inFlight, ...Object.values(commands).map((each) => each.inFlight));
}

if (import.meta.main) {
  const { broken, restMs, ...options }: LedgerServerOptions = JSON.parse(Deno.args[0]);
  if (broken === "halved") CallerItems.prototype.cut = CallerItems.prototype.end;
  const server = await serve({ ...options, commands: commandsOf(broken) });
  console.log("server listening");
  for await (const _ of linesOf(Deno.stdin.readable)) break;
  const report: LedgerServerReport = {
    inFlight: await untilNone(() => inFlight(server), restMs),
    connections: await untilNone(() => server.statistics().connections.open, restMs + options.idleTimeoutMs),
    books: [...books],
  };
  console.log(`report ${JSON.stringify(report)}`);
}
