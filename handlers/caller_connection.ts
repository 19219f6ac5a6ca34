/**
 * A connection as a service sees it: who is at the other end, and a place for the service's own state.
 *
 * In: a connection. Out: the same object for all of its calls. Refused: nothing.
 */

import type { PeerCertificate } from "../transport/certificate.ts";

/** The connection of a caller. */
export class CallerConnection {
  /** The peer: address and port, as text. */
  readonly peer: string;
  /** The peer's certificate, if the server asks for one and has checked it. */
  readonly certificate: PeerCertificate | undefined;
  /**
   * For a WebSocket, the headers of the HTTP request that opened it, such as `cookie` and `origin`, including headers
   * of a proxy, such as `x-forwarded-for`.
   */
  readonly headers: Headers | undefined;
  #state: Record<PropertyKey, unknown> | undefined;

  /**
   * Made by the server, once for each connection.
   *
   * @param peer Who is at the other end.
   * @param certificate The peer's certificate.
   * @param headers The headers of the request that has opened a WebSocket.
   */
  constructor(peer: string, certificate?: PeerCertificate, headers?: Headers) {
    this.peer = peer;
    this.certificate = certificate;
    this.headers = headers;
  }

  /** The service's own state, empty at first. It lasts as long as the connection. */
  get state(): Record<PropertyKey, unknown> {
    return this.#state ??= {};
  }
}
