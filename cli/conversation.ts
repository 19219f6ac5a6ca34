/**
 * Sends requests one after the other on one connection, and returns all replies of each as they arrive, with every
 * field and every stream item. Settings are sent once, before the first call that has some; from then on a silent
 * server gets a PING (`liveness.ts`).
 *
 * In: a transport; requests as frames, each with or without a stream of items. Out: their replies; all but the last
 * reply to a request have `more`. Refused, by an `RpcError`: an end before the last reply, or a server that does not
 * answer (`CONNECTION_LOST`), and invalid replies (`BAD_REPLY`); with its own error, after the server has ended the
 * call: an item that cannot be read or sent.
 */

import { PING_SEQ } from "../client/client_call.ts";
import { CLIENT_END } from "../client/client_connection.ts";
import { joined } from "../codec/compact.ts";
import { DecodeStage } from "../codec/decode.ts";
import {
  type Decoded,
  Going,
  ReceivedReply,
  RequestCredit,
  type ServerMessage,
  Truncated,
  UnknownNotice,
} from "../codec/message.ts";
import { readReply } from "../codec/read_message.ts";
import type { Output } from "../codec/stage.ts";
import { RpcError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import { Connection, type Dispatch } from "../session/connection.ts";
import type { Items } from "../session/item_sender.ts";
import type { Clock } from "../transport/clock.ts";
import { reasonOf } from "../transport/tls.ts";
import type { Transport } from "../transport/transport.ts";
import { cancelFrame, type Outgoing } from "./call.ts";
import { Liveness } from "./liveness.ts";
import { Upload } from "./upload.ts";

type Batch = (Exclude<Decoded<ServerMessage>, ServerMessage> | ReceivedReply)[];

/** One connection. */
export class Conversation implements Dispatch<ServerMessage, Uint8Array> {
  readonly #connection: Connection<ServerMessage, Uint8Array>;
  #output: Output<Uint8Array> | undefined;
  /** Received messages that the caller has not taken yet. Until then, nothing more is read. */
  #batch: Batch | undefined;
  /** How the connection ended: normally or by an error. */
  #end: { error?: unknown } | undefined;
  /** Wakes the code that waits for a batch to arrive or to be taken. */
  #wake: (() => void) | undefined;
  #state: "new" | "asking" | "asked" = "new";
  #answered = false;
  #settings: "unsent" | "sent" | "refused" = "unsent";
  readonly #liveness: Liveness;
  /** The stream of the open call. */
  #upload: Upload | undefined;

  /**
   * @param transport Carries the bytes; owned by this object from now on.
   * @param limits The limits of a reply.
   * @param clock The clock; a test may stop it.
   */
  constructor(transport: Transport, limits: Limits, clock: Clock) {
    const options = { ...CLIENT_END, clock, limits, traffic: { bytesReceived: 0, bytesSent: 0 } };
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
    const isUnread = () => this.#batch !== undefined; // our reader is slow, not the server
    this.#liveness = new Liveness(this.#connection, clock, (frame) => this.#send(frame), isUnread);
    void this.#connection.run();
  }

  /** Whether the connection accepts no more requests. */
  get ended(): boolean {
    return !this.#connection.isOpen;
  }

  /**
   * Sends a request and reads all its replies. Leaving the loop early closes the connection.
   *
   * @param call The request.
   * @param given Its items, if it has a stream.
   */
  async *ask({ request, seq, settings, items }: Outgoing, given?: Items): AsyncGenerator<ReceivedReply, void> {
    this.#state = "asking";
    const withSettings = settings !== undefined && this.#settings === "unsent";
    this.#send(withSettings ? joined([settings, request]) : request); // in one write
    if (withSettings) this.#settings = "sent";
    if (this.#settings === "sent") this.#liveness.start();
    const upload = items && given && new Upload(items, given, this.#connection.output, (frame) => this.#send(frame));
    this.#upload = upload;
    void upload?.run();
    /**
     * A reply that may be the answer to the settings, if the server does not know them. If no other reply follows, it
     * is the reply to the request.
     */
    let refusal: ReceivedReply | undefined;
    let answered = false;
    try {
      while (true) {
        const batch = await this.#take();
        if (batch === undefined) {
          if (refusal !== undefined) return yield refusal;
          throw upload?.error ?? this.#whyEnded();
        }
        for (const [index, message] of batch.entries()) {
          const reply = this.#checked(message);
          if (reply.seq !== undefined && reply.seq !== seq) continue; // late, or a second answer to an earlier call
          if (withSettings && refusal === undefined && isRefusalOfSettings(reply)) {
            refusal = reply;
            this.#settings = "refused";
            this.#liveness.stop(); // this server answers in order, even a PING
            continue;
          }
          // Data after the last reply matches no request, so the connection cannot be used again.
          answered = !reply.more && index === batch.length - 1;
          if (!reply.more) upload?.stop();
          if (upload?.error === undefined) yield reply;
          if (reply.more) continue;
          if (upload?.error !== undefined) throw upload.error;
          return;
        }
      }
    } finally {
      this.#state = "asked";
      this.#liveness.stop();
      upload?.stop();
      if (!answered || this.#batch !== undefined || this.#end !== undefined) this.close();
    }
  }

  get sentBytes(): number {
    return this.#connection.output.sentBytes;
  }

  /** Asks the server to end the open call. */
  cancelCall(seq: number): void {
    if (this.#upload?.isSettled === false) this.#upload.cancel();
    else this.#send(cancelFrame(seq));
  }

  #send(frame: Uint8Array): void {
    if (this.#connection.isOpen) this.#output?.enqueue(frame);
  }

  /** Closes the connection and ends a pending request. */
  close(): void {
    this.#connection.close();
  }

  // ---- the stage

  get idle(): boolean {
    return this.#state !== "asking";
  }

  start(output: Output<Uint8Array>): void {
    this.#output = output;
  }

  async transform(messages: Decoded<ServerMessage>[]): Promise<void> {
    for (const message of messages) {
      if (message instanceof RequestCredit) this.#upload?.grant(message.seq, message.items);
      else if (isPong(message)) this.#liveness.answered();
    }
    const batch = messages.filter((message) => isNoNotice(message) && !isPong(message)) as Batch;
    if (batch.length === 0) return;
    // A message before the first request is kept for it: a server that is full sends one.
    if (this.#state === "asked") return this.close(); // it matches no request
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
    if (this.#state === "asked") this.close();
  }

  /** Resolves when a batch has arrived or was taken, or the connection has ended. */
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
    if (message instanceof Truncated) throw this.#lost("the server closed it before it answered");
    if (!(message instanceof ReceivedReply)) throw this.#noReply("reason" in message ? message.reason : message.damage);
    if (!("res" in message.fields || "err" in message.fields)) throw this.#noReply("it has neither res nor err");
    this.#answered = true;
    return message;
  }

  #whyEnded(): RpcError {
    const { error } = this.#end ?? {};
    if (error instanceof RpcError) return error;
    if (error === undefined) return this.#lost("the server closed it before it answered");
    return this.#lost(reasonOf(error, this.#answered), error);
  }

  #noReply(reason: string): RpcError {
    return new RpcError("BAD_REPLY", `${this.#connection.peer} sent an invalid reply: ${reason}`);
  }

  #lost(reason: string, cause?: unknown): RpcError {
    return new RpcError("CONNECTION_LOST", `the connection to ${this.#connection.peer} is lost: ${reason}`, { cause });
  }
}

/** Whether a message answers our own PING. An error is an answer too. */
function isPong(message: Decoded<ServerMessage>): boolean {
  return message instanceof ReceivedReply && message.seq === PING_SEQ;
}

/** A server that does not know settings answers them as an unknown command, and without `seq`. */
function isRefusalOfSettings({ seq, fields }: ReceivedReply): boolean {
  return seq === undefined && fields.err === "CMD_NOT_FOUND";
}

function isNoNotice(message: Decoded<ServerMessage>): message is Batch[number] {
  return !(message instanceof Going || message instanceof RequestCredit || message instanceof UnknownNotice);
}
