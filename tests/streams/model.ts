/**
 * A model of streams both ways: what must come of some calls, whatever the order of what their sources, handlers and readers do,
 * and whatever becomes of their connection meanwhile.
 *
 * In: a seed. Out: one run of some calls, real client against real server, step by step in an order that the seed decides;
 * what was not as the model says, a line each.
 */

import { equal } from "@std/assert";
import { command, tracked, unchecked } from "../../handlers/command.ts";
import { RpcError } from "../../errors.ts";
import type { CallOptions, MaybeItems } from "../../client/call_options.ts";
import { Random } from "../support/random.ts";
import { type Item, itemOf, Reader, Source, SourceError, Steps, Worker } from "./actors.ts";
import { World } from "./world.ts";

/** The caller's stream, a reply stream, both at once, and a reply stream that goes on elsewhere after a loss. */
const KINDS = ["up", "down", "both", "tracked"] as const;

/** Low, so that windows are counted in bytes as well. */
const LIMITS = { maxPayloadBytes: 40_000, maxQueuedBytes: 64_000 };

/** More than the longest wait for a server, in milliseconds. */
const PATIENCE_MS = 120_000;

/** After this long, a server reads what it has not read for want of room. */
const AT_REST_MS = 1_000;

/** What can happen to a client or a server, and that items grow: then they can be too many for what was granted. */
type Event = "lost" | "closed" | "shutdown" | "growth";

/** What a run has met, for a test that wants to see that there was something to see. */
export interface Run {
  readonly faults: string[];
  readonly outcomes: string[];
}

/** One call. */
class ModelCall {
  readonly kind: typeof KINDS[number];
  readonly source: Source | undefined;
  readonly worker: Worker;
  readonly reader: Reader | undefined;
  readonly patience = new AbortController();
  readonly timeoutMs: number | undefined;
  readonly #credit: number;
  /** `value`, `left` or a code, when it has settled. */
  outcome: string | undefined;
  #value: unknown;
  #isRetryable = false;

  constructor(readonly id: number, random: Random, steps: Steps, isCalm: boolean) {
    this.kind = random.pick(KINDS);
    this.source = this.kind === "up" || this.kind === "both" ? new Source(id, random, steps) : undefined;
    this.worker = new Worker(id, random, steps);
    this.reader = this.kind === "up" ? undefined : new Reader(random, steps);
    this.timeoutMs = !isCalm && random.chance(0.25) ? random.between(1, 50) : undefined;
    this.#credit = random.pick([1, 2, 5, 64]);
  }

  async run({ client }: World): Promise<void> {
    const { id, source, reader, timeoutMs, patience: { signal } } = this;
    const options: MaybeItems<CallOptions> = { signal, items: source?.items, ...(timeoutMs && { timeoutMs }) };
    try {
      this.#value = reader === undefined
        ? await client.call("UP", { call: id }, options, true)
        : await reader.read(client.stream(this.kind, { call: id }, { ...options, credit: this.#credit }));
      this.outcome = reader?.hasLeft ? "left" : "value";
    } catch (error) {
      this.outcome = error instanceof RpcError ? error.code : error instanceof SourceError ? "source" : String(error);
      this.#isRetryable = error instanceof RpcError && error.retryable;
    }
  }

  /** What is not as it must be, after these events. */
  faults(events: ReadonlySet<Event>): string[] {
    const { source, worker, reader, outcome } = this;
    const faults: string[] = [];
    const must = (isSo: boolean, what: string) => void (isSo || faults.push(what));
    must(outcome !== undefined, "has not settled");
    must(this.#explains(outcome as string, events), `ended with ${outcome}`);
    must(worker.runs <= 1 || this.kind === "tracked", `its handler ran ${worker.runs} times`);
    must(worker.finallys === worker.runs, `${worker.runs} runs, ${worker.finallys} of finally`);
    must(worker.runs === 0 || !this.#isRetryable, `ran, and yet ${outcome} says that it may be sent again`);
    if (worker.error instanceof RpcError) {
      const { code } = worker.error;
      must(this.#explainsAtHandler(code, events), `its handler was told ${worker.error}`);
    } else {
      must(worker.error === undefined, `its handler got ${worker.error}`);
    }
    if (source !== undefined) {
      must(isPrefix(worker.taken, this.id, source.pads), "its handler got other items than it was sent");
      must(worker.taken.length <= source.given, `${worker.taken.length} items were taken, ${source.given} given`);
      const isWhole = source.ending === "done" && worker.taken.length === source.count;
      must(!worker.sawEnd || isWhole, `half a stream was taken for a whole one: ${worker.taken.length} items`);
      must(source.hasEnded, `its source was ended ${source.endings} and ${source.returns} times`);
      if (outcome === "value" && worker.takes === Infinity) must(worker.sawEnd, "answered before the end");
    }
    if (reader !== undefined) {
      must(isPrefix(reader.got, this.id, worker.pads), "its reader got other items than were sent");
      must(reader.got.length <= worker.given, `${reader.got.length} items were read, ${worker.given} given`);
      must(outcome !== "value" || reader.got.length === worker.gives, `ended after ${reader.got.length} items`);
    }
    must(outcome !== "value" || this.#value === worker.taken.length, `returned ${this.#value}`);
    return faults.map((fault) => `call ${this.id}, ${this.kind}: ${fault}`);
  }

  #explains(outcome: string, events: ReadonlySet<Event>): boolean {
    const { source, worker, reader, patience, timeoutMs } = this;
    const isGone = events.has("lost") || events.has("shutdown");
    if (outcome === "value") return worker.ending === "returned";
    if (outcome === "left") return reader?.hasLeft === true;
    if (outcome === "source") return source?.ending === "thrown";
    if (outcome === "HANDLER") return worker.ending === "thrown";
    const isCut = events.has("shutdown");
    if (outcome === "INVALID_MESSAGE") return events.has("growth") && source !== undefined;
    if (outcome === "CANCELLED") return patience.signal.aborted;
    if (outcome === "TIMEOUT") return timeoutMs !== undefined || isGone;
    if (outcome === "DEADLINE_EXCEEDED") return timeoutMs !== undefined;
    if (outcome === "CONNECTION_LOST") return isGone;
    if (outcome === "SHUTTING_DOWN") return events.has("shutdown");
    // What a server has cut on its own may go on elsewhere.
    if (outcome === "GOING_AWAY") return isCut;
    return outcome === "CLOSED" && events.has("closed");
  }

  #explainsAtHandler(code: string, events: ReadonlySet<Event>): boolean {
    const { source, worker, reader, patience, timeoutMs } = this;
    if (code === "HANDLER") return worker.ending === "thrown";
    if (code === "DEADLINE_EXCEEDED") return timeoutMs !== undefined;
    if (code === "INVALID_MESSAGE") return events.has("growth") && source !== undefined;
    if (code !== "CANCELLED" && code !== "CONNECTION_LOST") return false;
    if (events.has("lost") || events.has("closed") || events.has("shutdown")) return true;
    const isCancelled = patience.signal.aborted || timeoutMs !== undefined || source?.ending === "thrown" ||
      reader?.hasLeft === true;
    return code === "CANCELLED" && isCancelled;
  }
}

/** Runs some calls to their end. */
export async function runModel(seed: number): Promise<Run> {
  const random = new Random(seed);
  const steps = new Steps();
  const faults: string[] = [];
  const isCalm = random.chance(0.4);
  const calls = Array.from({ length: random.between(1, 3) }, (_, id) => new ModelCall(id, random, steps, isCalm));
  const commands = {
    UP: command({
      items: unchecked<Item>(),
      handler: ({ call }: { call: number }, { items }) => calls[call].worker.take(items),
    }),
    both: command({
      items: unchecked<Item>(),
      handler: ({ call }: { call: number }, { items }) => calls[call].worker.give(items, 0),
    }),
    down: command({ handler: ({ call }: { call: number }) => calls[call].worker.give(undefined, 0) }),
    tracked: command({
      async *handler({ call, after = -1 }: { call: number; after?: number }) {
        const stream = calls[call].worker.give(undefined, after + 1);
        try {
          for (let next = await stream.next();; next = await stream.next()) {
            if (next.done) return next.value;
            yield tracked(next.value.index, next.value);
          }
        } finally {
          await stream.return(0);
        }
      },
    }),
  };
  const world = new World({
    commands,
    limits: LIMITS,
    client: { connectionsPerServer: random.pick([1, 1, 2]) },
    random: () => random.next(),
    onError: (error) => void faults.push(`the server's hook was told ${error}`),
    watch: {
      onGrant: (call) => void (calls[call as number].worker.hasAsked || faults.push(`call ${call}: granted unasked`)),
      onFault: (fault) => void faults.push(fault),
    },
  });
  const events = new Set<Event>(calls.some(({ source }) => source !== undefined && source.pads > 10) ? ["growth"] : []);
  const running: Promise<void>[] = [];
  const begin = () => void running.push(calls[running.length].run(world));
  const isOver = () => running.length === calls.length && steps.waiting === 0 && calls.every(({ outcome }) => outcome);

  await world.client.open();
  for (let left = 400; left > 0 && !isOver(); left--) {
    if (running.length < calls.length && random.chance(0.2)) begin();
    if (!isCalm && random.chance(0.03)) happen(random, world, calls, events);
    if (!isCalm && random.chance(0.03)) await world.advance(random.pick([1, 20, 300, 1_100]));
    for (let most = random.pick([1, 1, 2, 4]); most > 0 && steps.waiting > 0; most--) steps.release(random);
    if (random.chance(0.6)) await world.turn();
    else for (let most = random.below(20); most > 0; most--) await undefined;
  }
  while (running.length < calls.length) begin();
  const startMs = world.clock.now();
  for (let turns = 0; !isOver() && world.clock.now() - startMs < PATIENCE_MS; turns++) {
    while (steps.waiting > 0) steps.release(random);
    if (turns % 10 === 9) await world.advance(500);
    else await world.turn();
  }
  await world.turn();
  for (let left = 5; left > 0 && (steps.waiting > 0 || world.leftovers.length > 0); left--) {
    while (steps.waiting > 0) steps.release(random);
    await world.advance(AT_REST_MS);
  }
  for (const call of calls) faults.push(...call.faults(events));
  faults.push(...world.leftovers.map((line) => `at rest, ${line}`));
  faults.push(...(await world.close()).map((line) => `at the end, ${line}`));
  return { faults, outcomes: calls.map(({ kind, outcome }) => `${kind} ${outcome}`) };
}

/** Something that nobody has planned for. */
function happen(random: Random, world: World, calls: readonly ModelCall[], events: Set<Event>): void {
  const what = random.pick(["abort", "abort", "lost", "lost", "closed", "shutdown"] as const);
  if (what === "abort") return random.pick(calls).patience.abort();
  events.add(what);
  if (what === "lost") world.end(random.pick(["broken", "client leaves", "server leaves"]));
  else if (what === "closed") void world.client.close();
  else void world.server.shutdown({ graceMs: random.pick([0, 100, 10_000]) });
}

/** Whether these are the items of a stream, from the first on. */
function isPrefix(items: readonly Item[], call: number, pads: number): boolean {
  return items.every((item, index) => equal(item, itemOf(call, index, pads)));
}
