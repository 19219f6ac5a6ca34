/**
 * A WebSocket (RFC 6455) as a transport, over any other one.
 *
 * In: a connection. Out: a transport of the bytes in its messages. Refused: an answer that opens no WebSocket.
 */

import type { Transport } from "./transport.ts";

/**
 * Opens a WebSocket as a client.
 *
 * @param url Its URL.
 * @param connecting The connection to its host.
 * @param signal Ends the attempt.
 * @returns The transport.
 */
export function dialWebSocket(url: string, connecting: Promise<Transport>, signal: AbortSignal): Promise<Transport> {
  signal.throwIfAborted();
  void connecting;
  return Promise.reject(new Error(`${url} cannot be opened yet`));
}
