/**
 * Takes the messages of one connection in batches, as many as there is room and time for. The rest stays unread.
 *
 * In: batches. Out: each message, when it may be routed. Refused: nothing; a full output and too much memory make it
 * wait. Too many running handlers do not: the unread messages may be the items that these handlers wait for, or their
 * cancels, and behind them may be the end of the connection.
 */

import { BadFrame, type ClientMessage, type Decoded, InvalidMessage, Request, RequestItem } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_GRACE_MS } from "../limits.ts";
import type { Arrival } from "../session/arrival.ts";
import type { ConnectionView } from "../session/connection.ts";
import type { ReadPace } from "../session/read_pace.ts";
import { TURN_MS } from "../session/yield_budget.ts";
import type { Calls } from "./calls.ts";
import type { ServerState } from "./server_state.ts";

/** After a full output, reading resumes below this share of its limit: at the limit, replies would leave one by one. */
const RESUME_SHARE = 0.5;

/** The number of messages between two readings of the clock. */
const MESSAGES_A_LOOK = 32;

/** A request counts as one more for so many bytes of its frame and of its reply: there may be work for each of them. */
const BYTES_A_MESSAGE = 128;

/** Does what a message asks for. */
export interface MessageRouter {
  /** Takes the next message. A broken frame comes last, after everything before it is answered. */
  route(message: Decoded<ClientMessage>): void;
  /** Fails all open calls with a reason, and ends the connection. */
  cut(why: string): void;
}

/** The intake of one connection. */
export class Intake {
  /** When the current batch arrived. */
  arrival: Arrival;
  readonly #server: ServerState;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #pace: ReadPace;
  readonly #router: MessageRouter;
  /** Messages until the clock is read again. */
  #untilLook = MESSAGES_A_LOOK;
  #resume: (() => void) | undefined;

  /**
   * @param pace Knows when the current input arrived.
   * @param router Takes each message.
   */
  constructor(
    server: ServerState,
    connection: ConnectionView,
    calls: Calls,
    pace: ReadPace,
    router: MessageRouter,
  ) {
    this.#server = server;
    this.#connection = connection;
    this.#calls = calls;
    this.#pace = pace;
    this.arrival = pace.arrival;
    this.#router = router;
  }

  /** Takes a batch. A promise means that the next one must wait. */
  take(batch: Decoded<ClientMessage>[]): void | Promise<void> {
    this.arrival = this.#pace.arrival;
    // Other input of the same round may have been processed since this was read.
    const startMs = Math.max(this.arrival.readMs, this.#server.yieldBudget.arrivals.workedMs);
    const next = this.#accept(batch, 0, startMs);
    if (next < batch.length) return this.#acceptLater(batch, next, startMs);
  }

  /**
   * No more messages come. Resolves when all requests are answered, or the connection has ended.
   *
   * @param limitMs After this time it resolves in any case.
   */
  async end(limitMs: number): Promise<void> {
    this.#calls.endInput();
    await this.#until(() => this.#calls.idle, limitMs);
  }

  /** A call or a handler has ended: there may be room. */
  wake(): void {
    this.#resume?.();
  }

  /**
   * Routes messages until one has to wait, or the turn is over.
   *
   * @param startMs When the turn began.
   * @returns The index of the next message.
   */
  #accept(batch: Decoded<ClientMessage>[], from: number, startMs: number): number {
    const { clock, load: { starts }, yieldBudget: { arrivals } } = this.#server;
    const { counter } = this.#calls;
    arrivals.begin(Math.max(startMs, arrivals.workedMs));
    counter.beginBatch(this.arrival);
    let index = from;
    for (; index < batch.length && this.#connection.isOpen; index++) {
      if (--this.#untilLook <= 0) {
        this.#untilLook = MESSAGES_A_LOOK;
        counter.lookedMs = clock.now();
      }
      // Between two readings of the clock, a call with a `ttl` may have read it.
      if (counter.lookedMs - startMs >= TURN_MS && index > from) break;
      const message = batch[index];
      if (message instanceof Request && starts.call !== undefined || this.#mustWait(message)) break;
      this.#router.route(message);
      if (message instanceof Request) {
        this.#untilLook -= Math.floor((message.frameBytes + this.#connection.output.lastBytes) / BYTES_A_MESSAGE);
      }
    }
    const isPaused = index < batch.length && this.#isPaused(batch[index], startMs);
    arrivals.end(Math.max(startMs, isPaused ? counter.lookedMs : counter.endBatch()));
    return index;
  }

  /** Whether the next message waits only for a few microtasks, in which the batch goes on. */
  #isPaused(next: Decoded<ClientMessage>, startMs: number): boolean {
    return this.#server.load.starts.call !== undefined && next instanceof Request &&
      this.#calls.counter.lookedMs - startMs < TURN_MS;
  }

  /** Routes the rest of a batch when there is room for it, in turn with all other connections. */
  async #acceptLater(batch: Decoded<ClientMessage>[], from: number, turnMs: number): Promise<void> {
    const { clock, load, yieldBudget } = this.#server;
    let startMs = turnMs;
    for (let next = from; next < batch.length && this.#connection.isOpen;) {
      const message = batch[next];
      if (message instanceof BadFrame) {
        // A stream that is not complete, and that cannot go on: its item may have been this frame.
        const cut = new RpcError("CANCELLED", `the connection has sent a broken frame: ${message.damage}`);
        this.#calls.missItem(cut);
        await this.end(DEFAULT_GRACE_MS);
        this.#calls.cutAll(cut);
        return this.#router.route(message);
      }
      if (this.#isPaused(message, startMs)) {
        await load.starts.over();
      } else {
        const unreadBytes = weightOf(batch, next);
        load.bytes += unreadBytes;
        if (this.#mustWait(message)) await this.#untilRoom(message);
        if (yieldBudget.isExhausted) await yieldBudget.refilled();
        load.bytes -= unreadBytes;
        startMs = clock.now();
      }
      next = this.#accept(batch, next, startMs);
    }
    this.#calls.counter.endBatch(); // the connection may have ended in a pause
  }

  /** Whether there is no room for a request, or for its refusal. */
  #isFullFor({ seq }: Request | InvalidMessage): boolean {
    return this.#connection.output.full || this.#calls.held.mustWait || seq === undefined && this.#calls.isLineFull;
  }

  /**
   * Whether a message has to wait: for room or, if it is a broken frame, for the answers to everything before it. A
   * control message, such as one that ends a call, needs no room.
   */
  #mustWait(message: Decoded<ClientMessage>): boolean {
    if (message instanceof Request || message instanceof InvalidMessage) return this.#isFullFor(message);
    return message instanceof RequestItem ? this.#calls.mustWait(message) : message instanceof BadFrame;
  }

  async #untilRoom(message: Decoded<ClientMessage>): Promise<void> {
    const { output } = this.#connection;
    const { held, heldItems } = this.#calls;
    const { clock, limits } = this.#server;
    const onMove = (resume: () => void) => this.#resume = resume;
    while (this.#mustWait(message) && this.#connection.isOpen) {
      if (message instanceof RequestItem) await heldItems.patience.wait(clock, onMove);
      else if (output.full) await output.drained(limits.maxQueuedBytes * RESUME_SHARE);
      else if (held.mustWait) await held.patience.wait(clock, onMove);
      else await this.#untilLineMoves(limits.halfOpenTimeoutMs);
    }
    this.#pace.skip();
  }

  /** Waits for the first request of the line. A dead client's line must not wait for it longer than after a FIN. */
  async #untilLineMoves(limitMs: number): Promise<void> {
    if (await this.#until(() => !this.#calls.isLineFull, limitMs)) return;
    this.#router.cut(`for ${limitMs} ms, too many requests without seq waited for one: the server could not read on`);
  }

  /** Waits until something holds after a call has ended. Resolves with `false` if the time runs out before. */
  async #until(holds: () => boolean, limitMs: number): Promise<boolean> {
    const { clock } = this.#server;
    let isOver = false;
    const giveUp = () => {
      isOver = true;
      this.wake();
    };
    const timer = limitMs === Infinity ? undefined : clock.setTimer(giveUp, limitMs, true);
    while (!holds() && this.#connection.isOpen && !isOver) {
      await new Promise<void>((resolve) => this.#resume = resolve);
    }
    if (timer !== undefined) clock.clearTimer(timer);
    return !isOver || holds(); // another connection may have made room: that wakes nobody here
  }
}

function weightOf(batch: Decoded<ClientMessage>[], from: number): number {
  let bytes = 0;
  for (let index = from; index < batch.length; index++) {
    const message = batch[index];
    if (message instanceof Request || message instanceof RequestItem) bytes += message.weightBytes;
  }
  return bytes;
}
