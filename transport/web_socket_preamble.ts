/**
 * The preamble of a connection on a port that takes WebSockets. A connection that begins with `GET ` opens a WebSocket.
 * Other connections are passed on unchanged. A silent connection is passed on when its time is over, because it may
 * have nothing to send yet.
 *
 * In: a connection. Out: the same connection, or its WebSocket. Refused, by an HTTP answer: an HTTP request that does
 * not open a WebSocket.
 */

import type { Origins } from "./origins.ts";
import { PeekedTransport } from "./peeked.ts";
import { type Preamble, type PreambleEnd, PreambleError } from "./preamble_acceptor.ts";
import type { Transport } from "./transport.ts";
import { acceptWebSocket, answerRefusal, UpgradeError } from "./web_socket.ts";

/**
 * The beginning of a request for a WebSocket. No frame begins like this, because the third byte of a frame begins a
 * map.
 */
const BEGINNING = new TextEncoder().encode("GET ");

/** Opens WebSockets. */
export class WebSocketPreamble implements Preamble<Transport> {
  readonly event = "upgrade_refused";
  readonly #origins: Origins;
  readonly #timeoutMs: number;

  /**
   * @param origins The pages that may open a WebSocket.
   * @param timeoutMs The time limit of a handshake.
   */
  constructor(origins: Origins, timeoutMs: number) {
    this.#origins = origins;
    this.#timeoutMs = timeoutMs;
  }

  async run(below: Transport, ended: Promise<PreambleEnd>): Promise<Transport> {
    const transport = new PeekedTransport(below);
    while (transport.bytes.length < BEGINNING.length) {
      if (transport.bytes.some((byte, at) => byte !== BEGINNING[at])) return transport;
      if (await Promise.race([transport.more(), ended]) !== true) return transport;
    }
    if (BEGINNING.some((byte, at) => byte !== transport.bytes[at])) return transport;
    return await Promise.race([acceptWebSocket(transport, this.#origins), this.#late(ended)]);
  }

  async refuse(transport: Transport, error: PreambleError, ended: Promise<PreambleEnd>): Promise<void> {
    if (error instanceof UpgradeError) await Promise.race([answerRefusal(transport, error), ended]);
  }

  async #late(ended: Promise<PreambleEnd>): Promise<never> {
    const reason = await ended === "late"
      ? `it has not opened its WebSocket within ${this.#timeoutMs} ms`
      : "too many newer connections wait for their WebSocket";
    throw new PreambleError(reason);
  }
}
