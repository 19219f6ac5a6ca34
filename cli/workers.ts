/**
 * Several workers on one port, and who watches over them: this process, which itself serves nobody.
 *
 * In: how to start a worker, and how many there are to be. Out: all of them listening; from then on, a worker that ends is
 * started again, later each time that it does not last. Refused: a start at which not all come to listen.
 *
 * A worker is known here by what it says and by its end, so that tests have workers of their own.
 */

import type { ServerStatistics } from "../handlers/command.ts";
import type { ShutdownReport } from "../server.ts";
import type { Clock, Timer } from "../transport/clock.ts";
import { Backoff } from "../client/backoff.ts";

/** How long the workers may take to tell their counts, of which STATS tells the sum. */
const REPORT_MS = 1_000;

/** Who has listened this long and then ends is started again as if it were for the first time. */
const STEADY_MS = 10_000;

/** After the grace, how long a worker may take to end on its own. */
const END_MS = 2_000;

/** What a worker is told. */
export type ToWorker =
  | { readonly type: "ping" }
  | { readonly type: "drain"; readonly graceMs: number }
  | { readonly type: "report"; readonly query: number }
  | ({ readonly type: "others"; readonly query: number } & Others);

/** What a worker tells. */
export type FromWorker =
  | { readonly type: "pong" }
  | { readonly type: "listening"; readonly address: string; readonly port: number }
  | { readonly type: "failed"; readonly reason: string }
  | { readonly type: "report"; readonly query: number; readonly statistics: ServerStatistics }
  | { readonly type: "ask"; readonly query: number }
  | { readonly type: "drained"; readonly report: ShutdownReport };

/** What the others of a worker have answered, and who of them did not. */
export interface Others {
  statistics: ServerStatistics[];
  silent: number[];
}

/** A worker that has been started. */
export interface RunningWorker {
  /** Tells it something. */
  post(message: ToWorker): void;
  /** Ends it, whatever it is doing. */
  kill(): void;
}

/** What a worker does, as it happens. */
export interface WorkerEvents {
  /** It tells something. */
  onMessage(message: FromWorker): void;
  /** It has ended, for a reason that people can read. */
  onEnd(reason: string): void;
}

/** Starts a worker that is to listen on a port; 0 is any that is free. What it throws is a worker that has ended. */
export type StartWorker = (number: number, port: number, events: WorkerEvents) => RunningWorker;

/** What {@linkcode Workers} needs. */
export interface WorkersOptions {
  /** How many. */
  count: number;
  /** The port; 0 is any that is free: the first worker finds it, and the others share it. */
  port: number;
  /** Starts one. */
  start: StartWorker;
  /** Whose time. */
  clock: Clock;
  /** Tells people what has happened to a worker. */
  note: (text: string) => void;
}

/** The workers of one server. */
export class Workers {
  /** The address they listen on, for people. */
  address = "";
  readonly #options: WorkersOptions;
  readonly #seats: readonly Seat[];
  readonly #queries = new Map<number, Query>();
  #lastQuery = 0;
  #port: number;
  #stopping = false;

  private constructor(options: WorkersOptions) {
    this.#options = options;
    this.#port = options.port;
    this.#seats = Array.from({ length: options.count }, (_, index) => new Seat(index + 1));
  }

  /**
   * Starts all.
   *
   * @param options How many, and how.
   * @returns The workers, once all listen.
   * @throws {Error} If one of them does not come to listen; all are ended then. Its message says why.
   */
  static async start(options: WorkersOptions): Promise<Workers> {
    const workers = new Workers(options);
    const [first, ...others] = workers.#seats;
    try {
      await workers.#begin(first);
      await Promise.all(others.map((seat) => workers.#begin(seat)));
      return workers;
    } catch (error) {
      workers.kill();
      throw error;
    }
  }

  /** Ends all at once, whatever they are doing. */
  kill(): void {
    this.#stop((worker) => worker.kill());
  }

  /**
   * Ends all in order, as a server's `shutdown()` does. None is started again from then on.
   *
   * @param options `graceMs`: how long to wait for what is in flight, in milliseconds.
   * @returns How many calls in flight were finished, and how many were cut, by all workers that could tell.
   */
  async shutdown({ graceMs }: { graceMs: number }): Promise<ShutdownReport> {
    const { clock, note } = this.#options;
    const running = this.#stop((worker) => worker.post({ type: "drain", graceMs }));
    const timer = clock.setTimer(
      () => {
        for (const { worker, number } of running) {
          if (worker !== undefined) note(`worker ${number} does not come to an end, and is made to`);
          worker?.kill();
        }
      },
      graceMs + END_MS,
      true,
    );
    await Promise.all(running.map(({ ended }) => ended.promise));
    clock.clearTimer(timer);
    return {
      finished: running.reduce((sum, { report }) => sum + report.finished, 0),
      cut: running.reduce((sum, { report }) => sum + report.cut, 0),
    };
  }

  /** Starts none again, and does something with those that run. */
  #stop(end: (worker: RunningWorker) => void): Seat[] {
    this.#stopping = true;
    for (const { restart, worker } of this.#seats) {
      if (restart !== undefined) this.#options.clock.clearTimer(restart);
      if (worker !== undefined) end(worker);
    }
    return this.#seats.filter(({ worker }) => worker !== undefined);
  }

  /** Starts a worker; resolves when it listens, rejects if it ends before. */
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
      onEnd(error instanceof Error ? error.message : String(error));
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
    const waitMs = seat.end(clock.now());
    for (const query of this.#queries.values()) query.onEnd(seat);
    // One that has never listened is a start that has failed; who began it is told.
    if (this.#stopping || !seat.hasListened) return;
    note(`worker ${seat.number} has ended (${reason}); it is started again in ${waitMs} ms`);
    const restart = () => this.#begin(seat).then(() => note(`worker ${seat.number} listens again`), () => {});
    seat.restart = clock.setTimer(() => void restart(), waitMs, true);
  }

  /** A worker asks for the counts of the others. */
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
      // One that has not answered yet is asked no more: what it does not read would pile up here.
      seat.asked = seat.listening;
    }
  }
}

/** The place of one worker, which outlives it. */
class Seat {
  worker: RunningWorker | undefined;
  listening = false;
  hasListened = false;
  /** It has been asked for its counts, and has not answered yet. */
  asked = false;
  /** What the worker says of its own end. */
  failure: string | undefined;
  /** What it has said of its shutdown. */
  report: ShutdownReport = { finished: 0, cut: 0 };
  ended = Promise.withResolvers<void>();
  restart: Timer | undefined;
  readonly #backoff = new Backoff(() => 1);
  #startedMs = 0;

  constructor(readonly number: number) {}

  begin(nowMs: number): void {
    this.#startedMs = nowMs;
    this.ended = Promise.withResolvers();
    this.failure = this.restart = undefined;
  }

  /** Answers how many milliseconds to wait before the next begins. */
  end(nowMs: number): number {
    if (this.listening && nowMs - this.#startedMs >= STEADY_MS) this.#backoff.reset();
    this.#backoff.failed(nowMs);
    this.worker = undefined;
    this.listening = this.asked = false;
    this.ended.resolve();
    return Math.round(this.#backoff.waitMs(nowMs));
  }
}

/** What one worker wants to know of the others. */
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

  /** Nothing more will come from there. */
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
