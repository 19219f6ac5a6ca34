/**
 * Runs several workers on one port and restarts those that end. This process itself serves no calls.
 *
 * In: a function that starts a worker, and their number. Out: all workers listening; later, a worker that ends is
 * restarted, after longer waits if it keeps ending. Refused: a start in which not all workers listen.
 *
 * A worker is represented only by its messages and its end, so that tests can replace it.
 */

import type { ServerStatistics } from "../handlers/server_info.ts";
import type { ShutdownReport } from "../handlers/server.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { messageOf } from "../transport/runtime.ts";
import type { ServerTls } from "../transport/tls.ts";
import { Backoff } from "../client/retries.ts";
import { EXIT_CODES } from "./interrupt.ts";

/** How long the workers may take to report their counts, which STATS adds up. */
const REPORT_MS = 1_000;

/** A worker that has listened this long is restarted without a longer wait. */
const STEADY_MS = 10_000;

/** How long a restarted worker may take to listen. The first start has no limit: who starts the program sees it. */
const LISTEN_MS = 60_000;

/** How much later this process may get a signal, such as Ctrl-C, that ends a worker which does not yet ignore it. */
const SIGNAL_MS = 1_000;

/** How long a worker may take to end after the grace time. */
const END_MS = 2_000;

/** Messages to a worker. */
export type ToWorker =
  | { readonly type: "ping" }
  | { readonly type: "drain"; readonly graceMs: number }
  | { readonly type: "renew"; readonly tls: ServerTls }
  | { readonly type: "report"; readonly query: number }
  | ({ readonly type: "others"; readonly query: number } & Others);

/** Messages from a worker. */
export type FromWorker =
  | { readonly type: "pong" }
  | { readonly type: "listening"; readonly address: string; readonly port: number }
  | { readonly type: "failed"; readonly reason: string }
  | { readonly type: "report"; readonly query: number; readonly statistics: ServerStatistics }
  | { readonly type: "ask"; readonly query: number }
  | { readonly type: "drained"; readonly report: ShutdownReport };

/** The statistics of the other workers, and the numbers of the workers that did not answer. */
export interface Others {
  statistics: ServerStatistics[];
  silent: number[];
}

/** A started worker. */
export interface RunningWorker {
  /** Sends it a message. */
  post(message: ToWorker): void;
  /** Kills it. */
  kill(): void;
}

/** The events of a worker. */
export interface WorkerEvents {
  /** It sent a message. */
  onMessage(message: FromWorker): void;
  /** It has ended; the reason is readable text. */
  onEnd(reason: string): void;
}

/** Starts a worker on a port; 0 picks a free one. An exception counts as a worker that has ended. */
type StartWorker = (number: number, port: number, events: WorkerEvents) => RunningWorker;

/** Options of {@linkcode Workers}. */
interface WorkersOptions {
  /** The number of workers. */
  count: number;
  /** The port; with 0 the first worker picks a free one and the others share it. */
  port: number;
  /** Starts a worker. */
  start: StartWorker;
  /** The clock. */
  clock: Clock;
  /** Logs what happens to a worker. */
  note: (text: string, event: "worker_ended" | "worker_listening", worker: number) => void;
}

/** The workers of one server. */
export class Workers {
  /** Their address, as readable text. */
  address = "";
  readonly #options: WorkersOptions;
  readonly #seats: readonly Seat[];
  readonly #queries = new Map<number, Query>();
  #lastQuery = 0;
  #port: number;
  #stopping = false;

  /** @param options The number of workers and how to start them. */
  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#port = options.port;
    this.#seats = Array.from({ length: options.count }, (_, index) => new Seat(index + 1));
  }

  /**
   * Starts all workers. A shutdown may come before all listen: the first ones already have callers then.
   *
   * @returns Whether all listen; `false` after a shutdown.
   * @throws {Error} If one of them does not listen; then all are killed. The message says why.
   */
  async start(): Promise<boolean> {
    const [first, ...others] = this.#seats;
    try {
      await this.#begin(first);
      if (!this.#stopping) await Promise.all(others.map((seat) => this.#begin(seat)));
    } catch (error) {
      if (messageOf(error) in EXIT_CODES) {
        await new Promise<void>((resolve) => this.#options.clock.setTimer(resolve, SIGNAL_MS, true));
      }
      if (!this.#stopping) {
        this.kill();
        throw error;
      }
    }
    return !this.#stopping;
  }

  /** Gives all workers new certificates. Workers started later get them from `start`. */
  renew(tls: ServerTls): void {
    for (const { worker } of this.#seats) worker?.post({ type: "renew", tls });
  }

  /** Kills all workers. */
  kill(): void {
    this.#stop((worker) => worker.kill());
  }

  /**
   * Shuts all workers down, like a server's `shutdown()`. None is restarted from now on.
   *
   * @param options `graceMs`: how long to wait for calls in flight, in milliseconds.
   * @returns How many calls in flight were finished and cut, by all workers that reported it.
   */
  async shutdown({ graceMs }: { graceMs: number }): Promise<ShutdownReport> {
    const { clock, note } = this.#options;
    const running = this.#stop((worker) => worker.post({ type: "drain", graceMs }));
    const listening = running.filter((seat) => seat.listening);
    let isLate = false;
    const timer = clock.setTimer(
      () => {
        isLate = true;
        for (const { worker, number } of running) {
          if (worker !== undefined) note(`worker ${number} did not end in time and is killed`, "worker_ended", number);
          worker?.kill();
        }
      },
      graceMs + END_MS,
      true,
    );
    await Promise.all(running.map(async (seat) => {
      const reason = await seat.ended.promise;
      // Its calls are in no report, so the sum below would say that none was lost.
      if (isLate || seat.report !== undefined || !listening.includes(seat)) return;
      const text = `worker ${seat.number} has ended (${reason}) during the shutdown; its calls in flight are lost`;
      note(text, "worker_ended", seat.number);
    }));
    clock.clearTimer(timer);
    return {
      finished: running.reduce((sum, { report }) => sum + (report?.finished ?? 0), 0),
      cut: running.reduce((sum, { report }) => sum + (report?.cut ?? 0), 0),
    };
  }

  /** Stops restarts, and calls a function with each running worker. */
  #stop(end: (worker: RunningWorker) => void): Seat[] {
    this.#stopping = true;
    for (const { restart, worker } of this.#seats) {
      if (restart !== undefined) this.#options.clock.clearTimer(restart);
      if (worker !== undefined) end(worker);
    }
    return this.#seats.filter(({ worker }) => worker !== undefined);
  }

  /** Starts a worker; resolves when it listens, rejects if it ends first. */
  #begin(seat: Seat): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onMessage = (message: FromWorker) => {
      this.#hear(seat, message);
      if (message.type === "listening") resolve();
    };
    const onEnd = (reason: string) => {
      reject(new Error(seat.failure ?? reason));
      this.#onEnd(seat, seat.failure ?? reason);
    };
    seat.begin(this.#options.clock.now());
    try {
      seat.worker = this.#options.start(seat.number, this.#port, { onMessage, onEnd });
    } catch (error) {
      onEnd(messageOf(error));
    }
    return promise;
  }

  #hear(seat: Seat, message: FromWorker): void {
    switch (message.type) {
      case "listening":
        this.address = message.address;
        this.#port = message.port;
        seat.listening = seat.hasListened = true;
        break;
      case "failed":
        seat.failure = message.reason;
        break;
      case "ask":
        this.#ask(seat, message.query);
        break;
      case "report":
        seat.asked = false;
        for (const query of this.#queries.values()) query.onReport(seat, message.statistics);
        break;
      case "drained":
        seat.report = message.report;
    }
  }

  #onEnd(seat: Seat, reason: string): void {
    const { clock, note } = this.#options;
    const waitMs = seat.end(clock.now(), reason);
    for (const query of this.#queries.values()) query.onEnd(seat);
    // A worker that never listened is a failed start, which `start()` reports.
    if (this.#stopping || !seat.hasListened) return;
    const { number } = seat;
    note(`worker ${number} has ended (${reason}); it restarts in ${waitMs} ms`, "worker_ended", number);
    const noteReturn = () => note(`worker ${number} is listening again`, "worker_listening", number);
    const restart = () => {
      const late = clock.setTimer(
        () => {
          seat.failure = `it has not listened within ${LISTEN_MS / 1000} s`;
          seat.worker?.kill();
        },
        LISTEN_MS,
        true,
      );
      void this.#begin(seat).then(noteReturn, () => {}).finally(() => clock.clearTimer(late));
    };
    seat.restart = clock.setTimer(restart, waitMs, true);
  }

  /** Handles a worker's request for the counts of the others. */
  #ask(asker: Seat, askersQuery: number): void {
    const { clock } = this.#options;
    const { worker } = asker;
    const others = this.#seats.filter((seat) => seat !== asker);
    const id = ++this.#lastQuery;
    const query = new Query(others, (answer) => {
      clock.clearTimer(timer);
      this.#queries.delete(id);
      worker?.post({ type: "others", query: askersQuery, ...answer });
    });
    const timer = clock.setTimer(() => query.settle(), REPORT_MS, true);
    this.#queries.set(id, query);
    for (const seat of others) {
      if (!seat.listening) query.onEnd(seat);
      else if (!seat.asked) seat.worker?.post({ type: "report", query: id });
      // A worker with a pending request gets no other, because unread ones would pile up here.
      seat.asked = seat.listening;
    }
  }
}

/** The slot of one worker; a restarted worker uses it again. */
class Seat {
  worker: RunningWorker | undefined;
  listening = false;
  hasListened = false;
  /** Whether its counts were requested and have not come. */
  asked = false;
  /** The worker's own reason for its end. */
  failure: string | undefined;
  /** Its report of the shutdown. */
  report: ShutdownReport | undefined;
  /** Resolves with the reason of its end. */
  ended = Promise.withResolvers<string>();
  restart: Timer | undefined;
  readonly #backoff = new Backoff(() => 1);
  #startedMs = 0;

  constructor(readonly number: number) {}

  begin(nowMs: number): void {
    this.#startedMs = nowMs;
    this.ended = Promise.withResolvers();
    this.failure = this.restart = undefined;
  }

  /** Returns how many milliseconds to wait before the restart. */
  end(nowMs: number, reason: string): number {
    if (this.listening && nowMs - this.#startedMs >= STEADY_MS) this.#backoff.reset();
    this.#backoff.failed(nowMs);
    this.worker = undefined;
    this.listening = this.asked = false;
    this.ended.resolve(reason);
    return Math.round(this.#backoff.waitMs(nowMs));
  }
}

/** One worker's request for the counts of the others. */
class Query {
  readonly #others: readonly Seat[];
  readonly #waiting: Set<Seat>;
  readonly #reports = new Map<Seat, ServerStatistics>();
  readonly #onSettled: (answer: Others) => void;

  constructor(others: readonly Seat[], onSettled: (answer: Others) => void) {
    this.#others = others;
    this.#waiting = new Set(others);
    this.#onSettled = onSettled;
  }

  onReport(seat: Seat, statistics: ServerStatistics): void {
    if (!this.#waiting.has(seat)) return;
    this.#reports.set(seat, statistics);
    this.onEnd(seat);
  }

  /** Expects nothing more from this worker. */
  onEnd(seat: Seat): void {
    if (this.#waiting.delete(seat) && this.#waiting.size === 0) this.settle();
  }

  settle(): void {
    this.#waiting.clear();
    this.#onSettled({
      statistics: [...this.#reports.values()],
      silent: this.#others.filter((seat) => !this.#reports.has(seat)).map(({ number }) => number),
    });
  }
}
