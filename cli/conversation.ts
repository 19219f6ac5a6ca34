/**
 * A connection on which requests go out one after the other, each with all its replies, as the article's client does it.
 * The one thing before them are settings, if a call has some: once, with the first such call.
 *
 * The library's client matches replies to calls and hands on what callers want of them. Here someone wants to see what
 * the server says, whole and as it comes: every field, every item of a stream.
 *
 * In: a transport, requests as frames. Out: their replies; only the last of each is without `more`. Refused, by an
 * `RpcError`: an end before the last reply (`CONNECTION_LOST`), and what is not a reply (`BAD_REPLY`).
 */

import { DecodeStage } from "../codec/decode.ts";
import { type Decoded, ReceivedReply, type ServerMessage, Truncated, UnknownNotice } from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import { Connection, type Dispatch } from "../session/connection.ts";
import { systemClock } from "../transport/clock.ts";
import { reasonOf } from "../transport/tls.ts";
import type { Transport } from "../transport/transport.ts";
import type { Outgoing } from "./call.ts";

type Batch = Exclude<Decoded<ServerMessage>, UnknownNotice>[];

/** A connection, while it lasts. */
export class Conversation implements Dispatch<ServerMessage, Uint8Array> {
  readonly #connection: Connection<ServerMessage, Uint8Array>;
  #output: Output<Uint8Array> | undefined;
  /** What has come and was not taken. Until it is, nothing more is read. */
  #batch: Batch | undefined;
  /** How it has ended: in order, or by an error. */
  #end: { error?: unknown } | undefined;
  /** Whoever waits for a batch, or for the batch to be taken, looks again. */
  #wake: (() => void) | undefined;
  #asked = false;
  #answered = false;
  #asking = false;
  #settingsSent = false;

  /**
   * @param transport What carries its bytes; from now on, nobody else may use it.
   * @param limits What a reply may be.
   */
  constructor(transport: Transport, limits: Limits = DEFAULT_LIMITS) {
    const options = {
      clock: systemClock,
      limits,
      unnamedPeer: "the server",
      lingerMs: 0,
      traffic: { bytesReceived: 0, bytesSent: 0 },
    };
    this.#connection = new Connection<ServerMessage, Uint8Array>(transport, options, ({ output }) => ({
      decode: new DecodeStage(readReply, limits),
      dispatch: this,
      encode: {
        transform(frame, chunks) {
          output.add(frame.length);
          chunks.enqueue(frame);
        },
      },
    }));
    void this.#connection.run();
  }

  /** Whether it takes no more requests. */
  get ended(): boolean {
    return !this.#connection.isOpen;
  }

  /** Sends a request, and reads up to its last reply. Who leaves earlier ends the connection. */
  async *ask({ request, settings }: Outgoing): AsyncGenerator<ReceivedReply, void> {
    this.#asked = this.#asking = true;
    const withSettings = settings !== undefined && !this.#settingsSent;
    this.send(withSettings ? concat(settings, request) : request);
    this.#settingsSent ||= withSettings;
    /** What may be the answer to the settings, by a server that knows none: else it is the only reply there will be. */
    let refusal: ReceivedReply | undefined;
    let answered = false;
    try {
      while (true) {
        const batch = await this.#take();
        if (batch === undefined) {
          if (refusal !== undefined) return yield refusal;
          throw this.#whyEnded();
        }
        for (const [index, message] of batch.entries()) {
          const reply = this.#checked(message);
          if (withSettings && refusal === undefined && isRefusalOfSettings(reply)) {
            refusal = reply;
            continue;
          }
          // What stands behind the last reply belongs to nothing: the server speaks when it is asked.
          answered = !reply.more && index === batch.length - 1;
          yield reply;
          if (!reply.more) return;
        }
      }
    } finally {
      this.#asking = false;
      if (!answered || this.#batch !== undefined || this.#end !== undefined) this.close();
    }
  }

  /** Sends a message that has no reply of its own. */
  send(message: Uint8Array): void {
    if (this.#connection.isOpen) this.#output?.enqueue(message);
  }

  /** Ends the connection, and whatever waits for it. */
  close(): void {
    this.#connection.close();
  }

  // ---- the stage

  get idle(): boolean {
    return !this.#asking;
  }

  start(output: Output<Uint8Array>): void {
    this.#output = output;
  }

  async transform(messages: Decoded<ServerMessage>[]): Promise<void> {
    const batch = messages.filter((message) => !(message instanceof UnknownNotice));
    if (batch.length === 0) return;
    // What comes before the first request is kept for it: a server that has no room says so at once.
    if (this.#asked && !this.#asking) return this.close(); // nobody has asked for it
    this.#batch = batch;
    this.#wake?.();
    while (this.#batch === batch && this.#end === undefined) await this.#change();
  }

  flush(): void {
    this.#onEnd({});
  }

  cancel(error: unknown): void {
    this.#onEnd({ error });
  }

  onSlowFrame(reason: string): void {
    this.#connection.close(this.#lost(reason));
  }

  onFailed(error: unknown): void {
    this.#onEnd({ error });
  }

  #onEnd(end: { error?: unknown }): void {
    this.#end ??= end;
    this.#wake?.();
    if (this.#asked && !this.#asking) this.close();
  }

  /** Resolves when a batch has come or was taken, or all has ended. */
  #change(): Promise<void> {
    const before = this.#wake;
    return new Promise((resolve) => {
      this.#wake = () => {
        before?.();
        resolve();
      };
    });
  }

  async #take(): Promise<Batch | undefined> {
    while (this.#batch === undefined && this.#end === undefined) await this.#change();
    const batch = this.#batch;
    this.#batch = undefined;
    this.#wake?.();
    return batch;
  }

  // ---- errors

  #checked(message: Batch[number]): ReceivedReply {
    if (message instanceof Truncated) throw this.#lost("the server closed it before it had answered");
    if (!(message instanceof ReceivedReply)) throw this.#noReply("reason" in message ? message.reason : message.damage);
    if (!("res" in message.fields || "err" in message.fields)) throw this.#noReply("it has neither res nor err");
    this.#answered = true;
    return message;
  }

  #whyEnded(): RpcError {
    const { error } = this.#end ?? {};
    if (error instanceof RpcError) return error;
    if (error === undefined) return this.#lost("the server closed it before it had answered");
    return this.#lost(reasonOf(error, this.#answered), error);
  }

  #noReply(reason: string): RpcError {
    return new RpcError("BAD_REPLY", `what ${this.#connection.peer} sent is no reply: ${reason}`);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.#connection.peer} is lost: ${reason}`, { cause });
  }
}

/** A server that knows settings knows `seq`, and answers a request for an unknown command with it. */
function isRefusalOfSettings({ seq, fields }: ReceivedReply): boolean {
  return seq === undefined && fields.err === "CMD_NOT_FOUND";
}

/** What belongs together leaves in one write. */
function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
