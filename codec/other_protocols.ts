/**
 * Recognizes other protocols by their first bytes, so that a broken frame can say what its sender speaks.
 *
 * In: the first bytes of a connection, at least two. Out: the name of the protocol; `undefined` if it is none of these.
 * Refused: nothing.
 */

/** What a peer can speak in place of packline. */
export type OtherProtocol = "HTTP" | "TLS" | "SSH" | "PROXY";

/** How each begins, as characters of one byte. */
const BEGINNINGS: readonly (readonly [string, OtherProtocol])[] = [
  ...["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", "PRI * HTTP/2.0"].map(
    (method) => [method, "HTTP"] as const,
  ),
  ["\x16\x03", "TLS"], // a handshake, or an alert
  ["\x15\x03", "TLS"],
  ["SSH-", "SSH"],
  ["PROXY ", "PROXY"],
  ["\r\n\r\n\0\r\nQUIT\n", "PROXY"],
];

/** What the sender of these bytes speaks. */
export function protocolOf(bytes: Uint8Array): OtherProtocol | undefined {
  return BEGINNINGS.find(([beginning]) => {
    const length = Math.min(beginning.length, bytes.length);
    return length > 1 && beginning.startsWith(String.fromCharCode(...bytes.subarray(0, length)));
  })?.[1];
}
