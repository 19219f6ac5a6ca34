/**
 * The one interface of all listeners.
 *
 * In: nothing. Out: connections, and why others are refused. Refused: nothing.
 */

import type { Transport } from "./transport.ts";

/** A source of connections. */
export interface Acceptor {
  /** The address, or the path. */
  readonly hostname: string;
  /** The port; 0 for a path. */
  readonly port: number;
  /** Address and port as readable text. */
  readonly address: string;
  /** The next connection. Rejects with `BadResource` if the acceptor has been closed. */
  accept(): Promise<Transport>;
  /** Connections in a handshake or before a proxy's header, which `accept()` will soon return. */
  readonly handshakes: number;
  /** Hides the path from new clients. Clients that have connected are still accepted. A port can only be closed. */
  hide?(): void;
  /**
   * Gets new certificates, if they come from a function. New handshakes use them.
   *
   * @throws {TypeError} If the certificates cannot be used. Then the old ones stay.
   */
  renew?(): Promise<void>;
  /** Stops accepting. Accepted connections stay open. */
  close(): void;
}

/** Why a connection is refused before the first byte of packline. */
export interface Refusal {
  /**
   * A named proxy has sent no header, or the peer does not speak TLS, or its handshake has failed, or it may not open a
   * WebSocket.
   */
  readonly event: "proxy_header" | "wrong_protocol" | "tls_failed" | "upgrade_refused";
  /** The reason, as a sentence about the peer, "it". */
  readonly reason: string;
  /** The address at the other end of the socket. */
  readonly peer: string;
}
