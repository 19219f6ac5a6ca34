/**
 * A server for the tests, as a program: commands that work, answer at length, stream, take streams and hold up, and one that tells how the process
 * is. SIGTERM shuts it down in order.
 *
 * In: its options, as JSON: limits, and whether it is broken on purpose. Out: a line on stdout that says where it listens.
 */

import { command, unchecked } from "../../handlers/command.ts";
import type { Limits } from "../../limits.ts";
import type { ServeOptions } from "../../server.ts";
import { serve } from "../support/demo_server.ts";
import { type Clock, sleep, systemClock, type Timer } from "../../transport/clock.ts";

/** What can be broken: its end, so that it answers nobody; or its memory, files and timers, which grow. */
export type Broken = "abrupt" | "leaking";

/** What the program takes. */
export interface ServedOptions extends Partial<Limits>, Pick<ServeOptions, "tls"> {
  broken?: Broken;
}

/** How the process is. */
export interface Health {
  /** Both are more to the point behind a collection of garbage. */
  residentMiB: number;
  heapMiB: number;
  /** Timers that the server waits for. */
  timers: number;
}

/** The machine's clock, which knows how many wait for it. */
class CountingClock implements Clock {
  readonly #waiting = new Set<Timer>();

  get timers(): number {
    return this.#waiting.size;
  }

  now(): number {
    return systemClock.now();
  }

  setTimer(callback: () => void, delayMs: number, keepAlive: boolean): Timer {
    const timer = systemClock.setTimer(
      () => {
        this.#waiting.delete(timer);
        callback();
      },
      delayMs,
      keepAlive,
    );
    this.#waiting.add(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.#waiting.delete(timer);
    systemClock.clearTimer(timer);
  }
}

const clock = new CountingClock();
const { broken, ...limits }: ServedOptions = JSON.parse(Deno.args[0] ?? "{}");
const leak: unknown[] = [];

function leakSome(value: number): void {
  if (value % 10 !== 0) return;
  leak.push(new Array(200).fill(value));
  clock.setTimer(() => {}, 3_600_000, false);
  if (value % 100 === 0) leak.push(Deno.listen({ hostname: "127.0.0.1", port: 0 }));
}

/** Commands whose answers can be checked. */
export const commands = {
  WORK: command({
    number: 16,
    async handler({ value, workMs }: { value: number; workMs: number }, context) {
      if (broken === "leaking") leakSome(value);
      if (workMs > 0) await sleep(context.clock, workMs, context.signal);
      return 7 * value + 1;
    },
  }),
  BIG: command({ number: 17, handler: ({ bytes }: { bytes: number }) => "x".repeat(bytes) }),
  BUSY: command({
    number: 20,
    handler({ ms }: { ms: number }) {
      for (const endMs = performance.now() + ms; performance.now() < endMs;);
      return null;
    },
  }),
  COUNT: command({
    number: 18,
    async *handler({ to }: { to: number }, context) {
      for (let n = 1; n <= to; n++) {
        yield n;
        if (n % 10 === 0) await sleep(context.clock, 1, context.signal);
      }
      return to;
    },
  }),
  UPLOAD: command({
    number: 21,
    items: unchecked<Uint8Array>(),
    async handler(_: object, { items }) {
      let bytes = 0;
      for await (const item of items) bytes += item.length;
      return bytes;
    },
  }),
  CHAT: command({
    number: 22,
    items: unchecked<number>(),
    async *handler(_: object, { items }) {
      let taken = 0;
      for await (const item of items) {
        taken++;
        yield item;
      }
      return taken;
    },
  }),
  HEALTH: command({
    number: 19,
    handler({ collect }: { collect?: boolean }): Health {
      // So that what is left is what is held.
      if (collect) (globalThis as { gc?: () => void }).gc?.();
      const { rss, heapUsed } = Deno.memoryUsage();
      return { residentMiB: rss / 2 ** 20, heapMiB: heapUsed / 2 ** 20, timers: clock.timers };
    },
  }),
};

if (import.meta.main) {
  const server = await serve({ port: 0, ...limits, commands, clock });
  Deno.addSignalListener("SIGTERM", () => {
    if (broken === "abrupt") Deno.exit(0);
    void server.shutdown().then(() => Deno.exit(0));
  });
  console.log(`listening on ${server.address}`);
}
