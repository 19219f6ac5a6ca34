/**
 * Calls one server, one call at a time, over a connection that is made on demand and reused.
 *
 * In: a function that dials; calls as frames, and the sources of their items. Out: replies. If the connection ends
 * between calls, the next request makes a new one. If it ends during a call, the call is lost. A caller that leaves
 * early closes the connection. Refused: what `conversation.ts` refuses, and items that cannot be opened.
 */

import type { ReceivedReply } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { resolveLimits } from "../limits.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { closeTransport, type Transport } from "../transport/transport.ts";
import type { Outgoing } from "./call.ts";
import { Conversation } from "./conversation.ts";

/** The calls to one server. */
export class Session {
  readonly #dial: (signal: AbortSignal) => Promise<Transport>;
  readonly #limits;
  readonly #clock: Clock;
  #conversation: Conversation | undefined;

  /**
   * @param dial Makes a connection; the signal aborts the dial.
   * @param maxPayloadBytes The largest payload of a reply.
   * @param clock The clock; a test may stop it.
   */
  constructor(
    dial: (signal: AbortSignal) => Promise<Transport>,
    maxPayloadBytes?: number,
    clock: Clock = systemClock,
  ) {
    this.#clock = clock;
    this.#dial = dial;
    this.#limits = resolveLimits({ maxPayloadBytes });
  }

  /** Connects, unless there is an open connection. */
  async connect(signal: AbortSignal): Promise<Conversation> {
    if (this.#conversation === undefined || this.#conversation.ended) {
      const transport = await this.#dial(signal);
      if (signal.aborted) {
        closeTransport(transport);
        throw new RpcError("CONNECTION_LOST", "connected after the call had ended", { cause: signal.reason });
      }
      this.#conversation = new Conversation(transport, this.#limits, this.#clock);
    }
    return this.#conversation;
  }

  /** Sends a request and reads all its replies. The signal ends the call and its connection. */
  async *ask(call: Outgoing, signal: AbortSignal): AsyncGenerator<ReceivedReply, void> {
    // Opened first: if the file cannot be read, no connection is needed.
    const items = call.items?.source.open(call.items.maxPayloadBytes);
    let end = () => {};
    try {
      const conversation = await this.connect(signal);
      end = () => conversation.close();
      signal.addEventListener("abort", end, { once: true });
      yield* conversation.ask(call, items);
    } finally {
      signal.removeEventListener("abort", end);
      void items?.return?.();
    }
  }

  get sentBytes(): number {
    return this.#conversation?.sentBytes ?? 0;
  }

  /** Asks the server to end the open call; returns whether there is a connection. */
  cancel(seq: number): boolean {
    if (this.#conversation === undefined || this.#conversation.ended) return false;
    this.#conversation.cancelCall(seq);
    return true;
  }

  /** Closes the connection, if there is one. */
  close(): void {
    this.#conversation?.close();
  }
}
