/**
 * Stage 2 at the server: routes each message by its kind. In: batches, as they were decoded. Out: replies.
 *
 * Requests with `seq` run beside each other. Those without run one after another, and are answered in their order
 * (PROTOCOL.md, "Order"). Replies that are ready in the same turn of the event loop leave together.
 *
 * Refused: what PROTOCOL.md lists under "What goes wrong", each with its code. A broken frame is answered after all that came
 * before it, and ends the connection.
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
import type { ReadPace } from "../session/read_pace.ts";
import type { Call } from "./call.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { type CallListener, Calls } from "./calls.ts";
import { QuietTimer } from "./drain.ts";
import { Intake } from "./intake.ts";
import { ReplyEncoding } from "./reply_encoding.ts";
import type { ServerState } from "./server_state.ts";
import { Strikes } from "./strikes.ts";

// Made once: an error takes 2 µs to make, and one read can hold sixteen thousand requests to refuse.
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/** The dispatch stage of one connection, for a `TransformStream` or for a pipeline of stages. */
export class DispatchStage implements Dispatch<ClientMessage, Reply<Call>>, CallListener {
  /** How to encode the replies. */
  readonly encoding: ReplyEncoding;
  readonly #server: ServerState;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #intake: Intake;
  readonly #strikes: Strikes;
  readonly #quiet: QuietTimer;

  /** @param pace Tells when what was read has arrived. */
  constructor(server: ServerState, connection: ConnectionView, pace: ReadPace) {
    this.#server = server;
    this.#connection = connection;
    this.encoding = new ReplyEncoding(server.limits.maxPayloadBytes);
    this.#calls = new Calls(server, connection, this);
    this.#intake = new Intake(server, connection, this.#calls, pace, (message) => this.#route(message));
    this.#strikes = new Strikes(server.limits);
    this.#quiet = new QuietTimer(server.clock, () => this.#onQuiet());
  }

  /** The connection as the service sees it. */
  get caller(): CallerConnection {
    return this.#calls.caller;
  }

  get idle(): boolean {
    return this.#calls.idle;
  }

  start(output: Output<Reply<Call>>): void {
    this.#calls.output = output;
  }

  transform(batch: Decoded<ClientMessage>[]): void | Promise<void> {
    return this.#intake.take(batch);
  }

  /** The peer sends no more. What it has sent is still answered. */
  flush(): Promise<void> {
    return this.#intake.end();
  }

  // ---- what comes in

  #route(message: Decoded<ClientMessage>): void {
    if (message instanceof Request) {
      const { seq } = message;
      if (seq !== undefined && this.#calls.bySeq.size > 0 && this.#calls.bySeq.has(seq)) {
        this.#invalid(new InvalidMessage("seq is in flight already"));
      } else if (this.#server.drain.isRefusing) {
        this.#quiet.restart();
        this.#calls.answerInTurn(new Reply<Call>(seq, SHUTTING_DOWN, false));
      } else {
        this.#calls.take(message, this.#intake.arrival);
      }
    } else if (message instanceof InvalidMessage) {
      this.#invalid(message);
    } else if (message instanceof BadFrame) {
      this.#refuseFrame(message.damage);
    } else if (message instanceof Truncated) {
      this.#server.counts.truncatedStreams++;
    } else {
      this.#control(message);
    }
  }

  /** Answers an invalid message. After too many in one window, the connection ends. */
  #invalid({ reason, seq }: InvalidMessage): void {
    this.#server.counts.invalidMessages++;
    const ownSeq = seq !== undefined && !this.#calls.bySeq.has(seq) ? seq : undefined;
    this.#calls.answerInTurn(new Reply<Call>(ownSeq, new RpcError("INVALID_MESSAGE", reason), false));
    if (this.#strikes.isOneTooMany(this.#intake.arrival.readMs)) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  #control(control: Control): void {
    if (control.kind === "unknown control") return;
    if (control.kind === "settings") {
      if (control.max !== undefined) this.encoding.setPeerMax(control.max);
      return;
    }
    // An unknown or finished call is not an error: its reply may have crossed this message.
    const call = this.#calls.bySeq.get(control.seq);
    if (control.kind === "cancel") call?.fail(new RpcError("CANCELLED"));
    else call?.grant(control.items);
  }

  // ---- what calls tell

  onSettled(): void {
    if (this.#server.drain.isRefusing && this.#connection.isOpen && this.idle) this.#quiet.restart();
    this.#intake.wake();
  }

  onEnded(): void {
    this.#intake.wake();
  }

  // ---- the end

  /** A shutdown has begun: running calls are answered, new ones are refused, and silence ends the connection. */
  drain(): void {
    if (this.idle && this.#connection.isOpen) this.#quiet.restart();
  }

  /** The grace is over: callers that still wait are told so, and the connection ends. */
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

  /** The connection is gone: nobody waits for an answer. */
  cancel(reason: unknown): void {
    this.#connection.end();
    this.#quiet.stop();
    const isCode = reason instanceof RpcError;
    this.#calls.abandonAll(isCode ? reason : new RpcError("CONNECTION_LOST", "the caller is gone", { cause: reason }));
    this.#intake.wake();
  }
}
