/**
 * Dials a TLS server by `node:tls`, which is part of the runtime.
 *
 * Deno's own TLS cannot do both of these: `connectTls` cannot turn off Nagle's algorithm, and `startTls`, which can use
 * a connection that has it off, cannot send a client certificate.
 *
 * In: an address and certificates. Out: a transport. Refused: an untrusted or unreachable server.
 */

import { isIP, type Socket } from "node:net";
import { connect, type DetailedPeerCertificate, type TLSSocket } from "node:tls";
import { nodeTransport } from "./node_transport.ts";
import { systemError } from "./runtime.ts";
import { type ClientTls, PEER_DAMAGED, PEER_EXPIRED, PEER_TOO_EARLY } from "./tls.ts";
import type { Transport } from "./transport.ts";

/**
 * If a name has several addresses, Node tries each for this time, and then drops it. Its own 250 ms are less than a
 * connection to a server far away takes, or a lost packet, which the system sends again after a second.
 */
export const EACH_ADDRESS = { autoSelectFamilyAttemptTimeout: 2_000 };

/**
 * Connects with TLS.
 *
 * @param address The host name or address, and the port.
 * @param tls The authority to trust, and the client's own certificate and key.
 * @param signal Ends the attempt.
 * @returns The connection, after the server is checked. The server checks the client later and may then close it.
 */
export async function dialTls(
  { hostname, port }: { hostname: string; port: number },
  { ca, cert, key }: ClientTls,
  signal: AbortSignal,
): Promise<Transport> {
  // An untrusted server is rejected below, where its certificate can be read. The options are a variable, because the
  // types lack `allowHalfOpen` here. Node names the server in the handshake only if `servername` is set, and an address
  // is not a name.
  const servername = isIP(hostname) === 0 ? hostname : undefined;
  const tls = { servername, ca, cert, key, rejectUnauthorized: false };
  const options = { host: hostname, port, ...tls, ...EACH_ADDRESS, allowHalfOpen: true };
  const socket = connect(options);
  // Deno reads the server's whole chain before it reports a handshake, where an error would end the process.
  const read = socket.getPeerCertificate.bind(socket) as (detailed?: boolean) => DetailedPeerCertificate;
  socket.getPeerCertificate = (detailed?: boolean) => {
    try {
      return read(detailed);
    } catch {
      return {} as DetailedPeerCertificate; // it has no name, so the server is not trusted
    }
  };
  await untilOpen(socket, "secureConnect", signal);
  if (socket.authorized === true) {
    return nodeTransport(socket, cert === undefined ? {} : { silentEnd: systemError("ConnectionReset", REJECTED) });
  }
  const error = distrustOf(socket);
  socket.destroy();
  throw error;
}

/**
 * Waits until a socket is open, and turns Nagle's algorithm off.
 *
 * @param socket The socket, which is destroyed if it does not open.
 * @param event The event that reports that the socket is open.
 * @param signal Ends the attempt.
 */
export async function untilOpen(
  socket: Socket,
  event: "connect" | "secureConnect",
  signal: AbortSignal,
): Promise<void> {
  const { promise: open, resolve, reject } = Promise.withResolvers<void>();
  const abandon = () => reject(signal.reason);
  socket.setNoDelay(true);
  socket.on("error", reject);
  socket.once("close", () => reject(systemError("ConnectionReset", "the peer ended the handshake")));
  socket.once(event, resolve);
  signal.addEventListener("abort", abandon, { once: true });
  if (signal.aborted) abandon(); // while a module was loaded, so that no event comes any more
  try {
    await open;
  } catch (error) {
    socket.destroy();
    // If a name has several addresses, Node throws one error for all of them, without a text.
    throw error instanceof AggregateError ? error.errors[0] : error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

/** Why a server is not trusted. Node reports an expired self-signed certificate only as self-signed. */
function distrustOf(socket: TLSSocket): Error {
  const { raw, valid_from, valid_to } = socket.getPeerCertificate(true);
  if (raw === undefined) return new Error(PEER_DAMAGED);
  const now = Date.now(); // a certificate states calendar time
  if (now > Date.parse(valid_to)) return new Error(PEER_EXPIRED);
  if (now < Date.parse(valid_from)) return new Error(PEER_TOO_EARLY);
  const code = String(socket.authorizationError);
  return Object.assign(new Error(code), { code });
}

/** A server may reject a certificate without saying so. */
const REJECTED = "the server closed the connection at once; it may have rejected this side's certificate";
