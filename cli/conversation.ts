/**
 * One connection on which requests go out one after the other, each with all its replies, as the article's client does
 * it. The one thing before them are settings, where a call has some: once, with the first such call.
 *
 * The library's client matches replies to calls and hands on what callers want of them. Here someone wants to see what
 * the server says, whole and as it comes: every field, every item of a stream.
 *
 * In: a connection, requests as frames. Out: their replies; only the last of each is without `more`. Refused, by an
 * `RpcError`: an end before the last reply (`CONNECTION_LOST`), and what is no reply (`BAD_REPLY`).
 */

import { DecodeStage } from "../codec/decode.ts";
import { type Decoded, ReceivedReply, type ServerMessage, Truncated, UnknownNotice } from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_LIMITS, type Limits } from "../limits.ts";
import { bufferAfter, closeTransport, FIRST_READ_BYTES, type Transport, writeAll } from "../transport/transport.ts";
import { reasonOf } from "../transport/tls.ts";
import type { Outgoing } from "./call.ts";

type Batch = Exclude<Decoded<ServerMessage>, UnknownNotice>[];

/** A connection, while it lasts. */
export class Conversation {
  readonly #transport: Transport;
  readonly #decode: DecodeStage<ServerMessage>;
  #buffer: Uint8Array = new Uint8Array(FIRST_READ_BYTES);
  /** The writes that are under way, one behind the other. */
  #writing: Promise<void> = Promise.resolve();
  /** The read that is under way: always one, so that the end of the connection shows while nobody asks. */
  #coming: Promise<Batch | null>;
  /** Whether something has come of it that nobody has taken. */
  #arrived = false;
  #asked = false;
  #answered = false;
  #asking = false;
  #ended = false;
  #settingsSent = false;

  /**
   * @param transport What carries its bytes; from now on, nobody else may use it.
   * @param limits What a reply may be.
   */
  constructor(transport: Transport, limits: Limits = DEFAULT_LIMITS) {
    this.#transport = transport;
    this.#decode = new DecodeStage(readReply, limits);
    this.#coming = this.#next();
  }

  /** Whether it takes no more requests. */
  get ended(): boolean {
    return this.#ended;
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
        const batch = await this.#take().catch((error) => {
          if (refusal === undefined) throw error;
          return null;
        });
        if (batch === null && refusal !== undefined) return yield refusal;
        if (batch === null) throw this.#lost("the server closed it before it had answered");
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
      if (!answered || this.#arrived) this.close();
    }
  }

  /** Sends a message that has no reply of its own. */
  send(message: Uint8Array): void {
    // A server that refuses the connection may answer and close before it has read: the replies tell.
    this.#writing = this.#writing.then(() => writeAll(this.#transport, message)).catch(() => {});
  }

  /** Ends the connection, and whatever waits for it. */
  close(): void {
    this.#ended = true;
    closeTransport(this.#transport);
  }

  #next(): Promise<Batch | null> {
    this.#arrived = false;
    const coming = this.#read();
    const notice = () => {
      this.#arrived = true;
      // Its end, or something that nobody has asked for. What comes before the first request is kept for it: a server
      // that has no room says so at once.
      if (this.#asked && !this.#asking) this.close();
    };
    coming.then(notice, notice);
    return coming;
  }

  /** Reads until messages have come, unknown notices left out; `null` is the end. */
  async #read(): Promise<Batch | null> {
    let batch: Batch | null = null;
    const output = {
      enqueue(messages: Decoded<ServerMessage>[]) {
        const known = messages.filter((message) => !(message instanceof UnknownNotice));
        if (known.length > 0) batch = known;
      },
      terminate() {},
    };
    while (batch === null) {
      const readBytes = await this.#transport.read(this.#buffer);
      if (readBytes === null) {
        this.#decode.flush(output);
        return batch;
      }
      this.#decode.transform(this.#buffer.subarray(0, readBytes), output);
      this.#buffer = bufferAfter(this.#buffer, readBytes);
    }
    return batch;
  }

  async #take(): Promise<Batch | null> {
    try {
      const batch = await this.#coming;
      if (batch !== null) this.#coming = this.#next();
      return batch;
    } catch (error) {
      throw error instanceof RpcError ? error : this.#lost(reasonOf(error, this.#answered), error);
    }
  }

  #checked(message: Batch[number]): ReceivedReply {
    if (message instanceof Truncated) throw this.#lost("the server closed it before it had answered");
    if (!(message instanceof ReceivedReply)) throw this.#noReply("reason" in message ? message.reason : message.damage);
    if (!("res" in message.fields || "err" in message.fields)) throw this.#noReply("it has neither res nor err");
    this.#answered = true;
    return message;
  }

  #noReply(reason: string): RpcError {
    return new RpcError("BAD_REPLY", `what ${this.#transport.peer} sent is no reply: ${reason}`);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.#transport.peer} is lost: ${reason}`, { cause });
  }
}

/** A server that knows settings knows `seq`, and answers a request for an unknown command with it. */
function isRefusalOfSettings({ seq, fields }: ReceivedReply): boolean {
  return seq === undefined && fields.err === "CMD_NOT_FOUND";
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
