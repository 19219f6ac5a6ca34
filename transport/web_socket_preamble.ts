/**
 * What a connection does first on a port that takes WebSockets: if it begins with `GET `, it opens one. Others are given on with
 * what has come of them, as they are: a silent one when its time is over, for it may have nothing to say yet.
 *
 * In: a connection. Out: the same, or its WebSocket. Refused: what is HTTP and opens none, by an answer of HTTP.
 */

import type { Origins } from "./origins.ts";
import { PeekedTransport } from "./peeked.ts";
import { type Preamble, type PreambleEnd, PreambleError } from "./preamble_acceptor.ts";
import type { Transport } from "./transport.ts";
import { acceptWebSocket, answerRefusal, UpgradeError } from "./web_socket.ts";

/** How a request for a WebSocket begins. No frame does: its third byte would be that of a map. */
const BEGINNING = new TextEncoder().encode("GET ");

/** Opens WebSockets. */
export class WebSocketPreamble implements Preamble<Transport> {
  readonly event = "upgrade_refused";
  readonly #origins: Origins;
  readonly #timeoutMs: number;

  /**
   * @param origins The pages that may.
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
