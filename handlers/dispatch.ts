/**
 * Stage 2 at the server: routes each message by its kind. In: decoded batches. Out: replies.
 *
 * Requests with `seq` run concurrently. Requests without `seq` run one at a time, and are answered in order
 * (PROTOCOL.md, "Order"). Replies that are ready in the same turn of the event loop are sent together.
 *
 * Refused: what PROTOCOL.md lists under "What goes wrong", each with its code. A broken frame is answered after
 * everything before it, and ends the connection.
 */

import {
  BadFrame,
  type ClientMessage,
  type Decoded,
  InvalidMessage,
  Reply,
  Request,
  Settings,
  Truncated,
} from "../codec/message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import type { ConnectionView, Dispatch } from "../session/connection.ts";
import type { ReadPace } from "../session/read_pace.ts";
import type { Call } from "./call.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { type CallListener, Calls } from "./calls.ts";
import { ConnectionDrain } from "./connection_drain.ts";
import { Intake, type MessageRouter } from "./intake.ts";
import { ReplyEncoding, type ServerOutput } from "./reply_encoding.ts";
import type { ServerState } from "./server_state.ts";
import { Strikes } from "./strikes.ts";

// Made once: an error takes 2 µs to make, and one read can hold sixteen thousand requests to refuse.
const SHUTTING_DOWN = new RpcError("SHUTTING_DOWN");

/** An invalid message, or a request that is invalid at this point. */
type Invalid = Pick<InvalidMessage, "reason" | "seq" | "frameBytes"> & { readonly cmd?: Request["cmd"] };

/** The dispatch stage of one connection, for a `TransformStream` or for a pipeline of stages. */
export class DispatchStage implements Dispatch<ClientMessage, ServerOutput>, MessageRouter, CallListener {
  /** How to encode the replies. */
  readonly encoding: ReplyEncoding;
  readonly #server: ServerState;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #intake: Intake;
  readonly #strikes: Strikes;
  readonly #drain: ConnectionDrain;
  /** Why the connection has ended, if it has, as its calls are told. */
  endReason: RpcError | undefined;

  /** @param pace Knows when the current input arrived. */
  constructor(server: ServerState, connection: ConnectionView, pace: ReadPace) {
    this.#server = server;
    this.#connection = connection;
    this.encoding = new ReplyEncoding(server.limits.maxPayloadBytes);
    this.#calls = new Calls(server, connection, this);
    this.#intake = new Intake(server, connection, this.#calls, pace, this);
    this.#strikes = new Strikes(server.limits);
    this.#drain = new ConnectionDrain(server.clock, connection, this.#calls, () => this.#end(SHUTTING_DOWN));
  }

  /** The connection as the service sees it. */
  get caller(): CallerConnection {
    return this.#calls.caller;
  }

  get idle(): boolean {
    return this.#calls.idle;
  }

  start(output: Output<ServerOutput>): void {
    this.#calls.output = output;
  }

  transform(batch: Decoded<ClientMessage>[]): void | Promise<void> {
    return this.#intake.take(batch);
  }

  /** The peer sends no more. Its calls are still answered, unless it promised (`alive`) to stay while it has calls. */
  async flush(): Promise<void> {
    const connection = this.#connection;
    if (connection.aliveMs === Infinity) await this.#intake.end(this.#server.limits.halfOpenTimeoutMs);
    if (this.idle) connection.end(); // its output may wait for a slow reader, and takes no more, such as a notice
    else connection.close(new Error("the peer has ended the connection, and its calls were still open"));
  }

  // ---- input

  route(message: Decoded<ClientMessage>): void {
    if (message instanceof Request) {
      const { seq } = message;
      if (seq !== undefined && this.#calls.bySeq.size > 0 && this.#calls.bySeq.has(seq)) {
        const { cmd, frameBytes } = message;
        this.#invalid({ reason: "seq is in flight already", cmd, frameBytes });
      } else if (this.#drain.isRefusing) {
        this.#drain.restartSilence();
        this.#calls.refuse(message, SHUTTING_DOWN, this.#intake.arrival);
      } else {
        this.#calls.take(message, this.#intake.arrival);
      }
    } else if (message instanceof InvalidMessage) {
      if (message.seq === undefined) this.#calls.missItem();
      this.#invalid(message);
    } else if (message instanceof BadFrame) {
      this.#refuseFrame(message);
    } else if (message instanceof Truncated) {
      this.#server.counts.truncatedStreams++;
    } else if (message instanceof Settings) {
      this.#set(message);
    } else if (message.kind !== "unknown control" && !this.#calls.control(message)) {
      this.#strike();
    }
  }

  /** Answers an invalid message. */
  #invalid({ reason, seq, cmd, frameBytes }: Invalid): void {
    const ownSeq = seq !== undefined && !this.#calls.bySeq.has(seq) ? seq : undefined;
    const error = new RpcError("INVALID_MESSAGE", reason);
    this.#calls.refuse({ seq: ownSeq, cmd, frameBytes }, error, this.#intake.arrival);
    this.#strike();
  }

  /** Counts an invalid message. After too many in one window, the connection ends. */
  #strike(): void {
    this.#server.counts.invalidMessages++;
    if (this.#strikes.isOneTooMany(this.#intake.arrival.readMs)) {
      this.#end(new RpcError("INVALID_MESSAGE", "too many bad messages"));
    }
  }

  #set({ max, alive, notice }: Settings): void {
    if (max !== undefined) this.encoding.setPeerMax(max);
    if (alive !== undefined) this.#connection.aliveMs = alive;
    if (notice !== undefined) this.#drain.setNotices(notice);
  }

  // ---- events of calls

  onProgress(): void {
    this.#drain.onProgress();
    this.#intake.wake();
  }

  // ---- the end

  /** Ends the connection within a grace period. Tells the client, and aborts the signal `draining` of each handler. */
  drain(graceMs: number): void {
    this.#drain.begin(graceMs);
  }

  /** The grace period is over: open calls fail, and the connection ends. Returns how many calls failed. */
  cut(why: string): number {
    if (!this.#connection.isOpen) return 0;
    const reason = new RpcError("CANCELLED", why);
    const cutCalls = this.#calls.cutAll(reason);
    this.#end(reason);
    return cutCalls;
  }

  onFailed(error: unknown): void {
    this.#server.log.report(error, { peer: this.#connection.peer });
  }

  onSlowFrame(reason: string): void {
    this.#server.log.report(new RpcError("BAD_FRAME", reason), { peer: this.#connection.peer }, "slow_frame");
    this.#refuseFrame(new BadFrame(reason));
  }

  #refuseFrame(frame: BadFrame): void {
    if (!this.#connection.isOpen) return;
    this.#server.counts.badFrames++;
    this.#server.log.noteBadFrame(frame, this.#connection.peer);
    const error = new RpcError("BAD_FRAME", frame.damage);
    this.#calls.push(new Reply<Call>(undefined, error, false));
    this.#end(error);
  }

  /** Sends what is ready, and ends the connection. */
  #end(reason: RpcError): void {
    if (!this.#connection.isOpen) return;
    this.#calls.output?.terminate();
    this.cancel(reason);
  }

  /** The connection is gone, so no caller waits for an answer. */
  cancel(reason: unknown): void {
    this.endReason ??= reason instanceof RpcError
      ? reason
      : new RpcError("CONNECTION_LOST", "the caller is gone", { cause: reason });
    this.#connection.end();
    this.#drain.stop();
    this.#calls.abandonAll(this.endReason);
    this.#intake.wake();
  }
}
