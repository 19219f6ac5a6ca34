/**
 * Calls to one server, one after the other, over a connection that is made when it is needed and kept as long as it is of
 * use.
 *
 * In: a way to dial; calls as frames. Out: replies. A connection that has ended while nobody asked is made anew with the
 * next request; one that ends, or is left, in the middle of a call is gone with that call. Refused: what
 * `conversation.ts` refuses.
 */

import type { ReceivedReply } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { resolveLimits } from "../limits.ts";
import { closeTransport, type Transport } from "../transport/transport.ts";
import type { Outgoing } from "./call.ts";
import { Conversation } from "./conversation.ts";

/** A server to call. */
export class Session {
  readonly #dial: (signal: AbortSignal) => Promise<Transport>;
  readonly #limits;
  #conversation: Conversation | undefined;

  /**
   * @param dial Makes a connection; the signal says that nobody wants it any more.
   * @param maxPayloadBytes The largest payload that may come.
   */
  constructor(dial: (signal: AbortSignal) => Promise<Transport>, maxPayloadBytes?: number) {
    this.#dial = dial;
    this.#limits = resolveLimits({ maxPayloadBytes });
  }

  /** Makes a connection, unless there is one. */
  async connect(signal: AbortSignal): Promise<Conversation> {
    if (this.#conversation === undefined || this.#conversation.ended) {
      const transport = await this.#dial(signal);
      if (signal.aborted) {
        closeTransport(transport);
        throw new RpcError("CONNECTION_LOST", "the connection came too late", { cause: signal.reason });
      }
      this.#conversation = new Conversation(transport, this.#limits);
    }
    return this.#conversation;
  }

  /** Sends a request, and reads up to its last reply. The signal ends the call, and the connection with it. */
  async *ask(call: Outgoing, signal: AbortSignal): AsyncGenerator<ReceivedReply, void> {
    const conversation = await this.connect(signal);
    const end = () => conversation.close();
    signal.addEventListener("abort", end, { once: true });
    try {
      yield* conversation.ask(call);
    } finally {
      signal.removeEventListener("abort", end);
    }
  }

  /** Sends a message beside the call that is under way; says whether there is a connection for it. */
  send(message: Uint8Array): boolean {
    if (this.#conversation === undefined || this.#conversation.ended) return false;
    this.#conversation.send(message);
    return true;
  }

  /** Ends the connection, if there is one. */
  close(): void {
    this.#conversation?.close();
  }
}
