/**
 * Stage 2 at the server: routes messages. In: batches, as they were decoded. Out: replies.
 *
 * A request with `seq` runs at once, beside all others. Those without run one after another, and are answered in their
 * order (PROTOCOL.md, "Order"). What handlers answer at once leaves together with all else of this turn of the event loop.
 *
 * Refused: what PROTOCOL.md says under "What goes wrong", each with its code. A broken frame is answered last, after all that
 * came before it, and ends the connection.
 */

import {
  BadFrame,
  type ClientMessage,
  type Control,
  type Decoded,
  InvalidMessage,
  Reply,
  Request,
  Truncated,
} from "../codec/message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import type { ConnectionView, Dispatch } from "../session/connection.ts";
import { TURN_MS } from "../session/yield_budget.ts";
import { Admission } from "./admission.ts";
import type { Call } from "./call.ts";
import { type CallListener, Calls } from "./calls.ts";
import { QuietTimer } from "./drain.ts";
import { ReplyEncoding } from "./reply_encoding.ts";
import type { ServerState } from "./server_state.ts";
import { Strikes } from "./strikes.ts";

/** So many messages are taken between two looks at the clock. */
const MESSAGES_A_LOOK = 32;

/**
 * So many handlers are begun before they go on: what each does then, such as to fail, takes up to 12 µs that the look at the
 * clock did not see.
 */
const BEGUN_A_LOOK = 256;

// Made once: to make an error takes 2 µs, and one read of a peer's can hold sixteen thousand requests to refuse.
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/** The dispatch stage of one connection: give it to a `TransformStream`, or compose it with others. */
export class DispatchStage implements Dispatch<ClientMessage, Reply<Call>>, CallListener {
  /** How the replies are encoded: for the encode stage. */
  readonly encoding: ReplyEncoding;
  readonly #server: ServerState;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #admission: Admission;
  readonly #strikes: Strikes;
  readonly #quiet: QuietTimer;
  #arrivedMs = 0;

  constructor(server: ServerState, connection: ConnectionView) {
    this.#server = server;
    this.#connection = connection;
    this.encoding = new ReplyEncoding(server.limits.maxPayloadBytes);
    this.#calls = new Calls(server, connection, this);
    this.#admission = new Admission(server, connection, this.#calls);
    this.#strikes = new Strikes(server.limits);
    this.#quiet = new QuietTimer(server.clock, () => this.#onQuiet());
  }

  get idle(): boolean {
    return this.#calls.idle;
  }

  start(output: Output<Reply<Call>>): void {
    this.#calls.output = output;
  }

  transform(batch: Decoded<ClientMessage>[]): void | Promise<void> {
    this.#arrivedMs = this.#server.clock.now();
    const next = this.#accept(batch, 0, this.#arrivedMs);
    if (next < batch.length) return this.#acceptLater(batch, next);
  }

  /** The peer sends no more: what it has sent is still answered. */
  async flush(): Promise<void> {
    this.#calls.endInput();
    await this.#admission.untilIdle();
  }

  /** The connection is gone: nobody wants an answer. */
  cancel(reason: unknown): void {
    this.#connection.end();
    this.#quiet.stop();
    const isCode = reason instanceof RpcError;
    this.#calls.abandonAll(
      isCode ? reason : new RpcError("CONNECTION_LOST", "the caller is gone", { cause: reason }),
    );
    this.#admission.wake();
  }

  /** A shutdown has begun: what runs is answered, what comes is refused, and silence ends the connection. */
  drain(): void {
    if (this.idle && this.#connection.isOpen) this.#quiet.restart();
  }

  /** The grace is over: whoever still waits is told so, and the connection ends. */
  cut(): void {
    const reason = new RpcError("CANCELLED", "the server has shut down");
    this.#calls.cutAll(reason);
    this.#end(reason);
  }

  onFailed(error: unknown): void {
    this.#server.errors.report(error, { peer: this.#connection.peer });
  }

  onSlowFrame(reason: string): void {
    this.onFailed(new RpcError("BAD_FRAME", reason));
    this.#refuseFrame(reason);
  }

  onSettled(): void {
    if (this.#server.drain.isRefusing && this.#connection.isOpen && this.idle) this.#quiet.restart();
    this.#admission.wake();
  }

  onEnded(): void {
    this.#admission.wake();
  }

  // ---- what comes in

  /** Takes messages until one has to wait, for room or because they take long; answers with the index of that one. */
  #accept(batch: Decoded<ClientMessage>[], from: number, startMs: number): number {
    this.#calls.counter.beginBatch(this.#arrivedMs);
    const maxBegun = this.#calls.begun + BEGUN_A_LOOK;
    let index = from;
    for (; index < batch.length && this.#connection.isOpen; index++) {
      const taken = index - from;
      if (taken > 0 && taken % MESSAGES_A_LOOK === 0 && this.#server.clock.now() - startMs >= TURN_MS) break;
      const message = batch[index];
      if (message instanceof Request) {
        if (this.#admission.full || this.#calls.begun >= maxBegun) break;
        this.#request(message);
      } else if (message instanceof InvalidMessage) {
        if (this.#admission.full) break;
        this.#invalid(message);
      } else if (message instanceof BadFrame) {
        break;
      } else if (message instanceof Truncated) {
        this.#server.counts.truncatedStreams++;
      } else {
        this.#control(message);
      }
    }
    this.#calls.counter.endBatch();
    return index;
  }

  /** Takes the rest of a batch as there is room for it, in turn with all others; meanwhile nothing is read. */
  async #acceptLater(batch: Decoded<ClientMessage>[], from: number): Promise<void> {
    const { clock, load, yieldBudget } = this.#server;
    for (let next = from; next < batch.length && this.#connection.isOpen;) {
      const message = batch[next];
      if (message instanceof BadFrame) {
        await this.flush();
        return this.#refuseFrame(message.damage);
      }
      const unreadBytes = weightOf(batch, next);
      load.bytes += unreadBytes;
      await this.#admission.untilRoom();
      if (yieldBudget.isExhausted) await yieldBudget.refilled();
      load.bytes -= unreadBytes;
      next = this.#accept(batch, next, clock.now());
    }
  }

  #request(request: Request): void {
    const { seq } = request;
    if (seq !== undefined && this.#calls.bySeq.size > 0 && this.#calls.bySeq.has(seq)) {
      this.#invalid(new InvalidMessage("seq is in flight already"));
    } else if (this.#server.drain.isRefusing) {
      this.#quiet.restart();
      this.#calls.answerInTurn(new Reply<Call>(seq, SHUTTING_DOWN, false));
    } else {
      this.#calls.take(request, this.#arrivedMs);
    }
  }

  /** Answers what is no message; after too many in one window, the connection ends. */
  #invalid({ reason, seq }: InvalidMessage): void {
    this.#server.counts.invalidMessages++;
    const ownSeq = seq !== undefined && !this.#calls.bySeq.has(seq) ? seq : undefined;
    this.#calls.answerInTurn(new Reply<Call>(ownSeq, new RpcError("INVALID_MESSAGE", reason), false));
    if (this.#strikes.isOneTooMany(this.#arrivedMs)) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  #control(control: Control): void {
    if (control.kind === "unknown control") return;
    if (control.kind === "settings") return this.encoding.setPeerMax(control.max);
    // An unknown or finished call is no error: its reply may have crossed this message.
    const call = this.#calls.bySeq.get(control.seq);
    if (control.kind === "cancel") call?.fail(new RpcError("CANCELLED"));
    else call?.grant(control.items);
  }

  // ---- the end

  /** Answers a broken frame, or one that comes too slowly, and ends the connection. */
  #refuseFrame(damage: string): void {
    if (!this.#connection.isOpen) return;
    this.#server.counts.badFrames++;
    const error = new RpcError("BAD_FRAME", damage);
    this.#calls.push(new Reply<Call>(undefined, error, false));
    this.#end(error);
  }

  #onQuiet(): void {
    if (this.idle) this.#end(SHUTTING_DOWN);
  }

  /** Sends what is ready, and ends the connection. */
  #end(reason: RpcError): void {
    if (!this.#connection.isOpen) return;
    this.#calls.output?.terminate();
    this.cancel(reason);
  }
}

function weightOf(batch: Decoded<ClientMessage>[], from: number): number {
  let bytes = 0;
  for (let index = from; index < batch.length; index++) {
    const message = batch[index];
    if (message instanceof Request) bytes += message.weightBytes;
  }
  return bytes;
}
