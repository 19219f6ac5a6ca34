/**
 * A TLS socket of `node:tls`, which the runtime carries, as a transport; and how a client gets one.
 *
 * The runtime's own TLS has two lacks: a socket of its `connectTls` has Nagle's algorithm on, with no switch for it, and one
 * of its `startTls`, which can be given a connection that has it off, cannot show a certificate. Node's can do both.
 *
 * In: a socket, or an address and certificates. Out: a transport. Refused: a server that cannot be trusted, or cannot be reached.
 */

import type { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import type { PeerCertificate } from "./certificate.ts";
import { addressText } from "./tcp.ts";
import { type ClientTls, PEER_EXPIRED, PEER_TOO_EARLY } from "./tls.ts";
import { fromStreams, type Transport } from "./transport.ts";

/**
 * Connects, and shows a certificate.
 *
 * @param address Where to, by name or address and port.
 * @param tls Whom to trust, and the client's own certificate and key.
 * @param signal Ends the attempt.
 * @returns The connection, once the server has been checked. It checks the client later, and breaks off if need be.
 */
export async function dialWithCertificate(
  { hostname, port }: { hostname: string; port: number },
  { ca, cert, key }: ClientTls,
  signal: AbortSignal,
): Promise<Transport> {
  // Who is not to be trusted is refused below, where its certificate can be looked at. A variable, since the types do not
  // know `allowHalfOpen` here.
  const options = { host: hostname, port, ca, cert, key, allowHalfOpen: true, rejectUnauthorized: false };
  const socket = connect(options);
  const { promise: secured, resolve, reject } = Promise.withResolvers<void>();
  const abandon = () => {
    reject(signal.reason);
    socket.destroy();
  };
  socket.setNoDelay(true);
  socket.on("error", reject);
  socket.once("close", () => reject(new Deno.errors.ConnectionReset("the peer broke off the handshake")));
  socket.once("secureConnect", () => socket.authorized === true ? resolve() : reject(distrustOf(socket)));
  signal.addEventListener("abort", abandon, { once: true });
  try {
    await secured;
    return tlsTransport(socket, { silentEnd: new Deno.errors.ConnectionReset(TURNED_AWAY) });
  } catch (error) {
    socket.destroy();
    const refused = (error as { code?: string }).code === "ECONNREFUSED";
    throw refused ? new Deno.errors.ConnectionRefused((error as Error).message) : error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

/**
 * Why a server is not trusted. A certificate that vouches for itself and has expired is, to Node, merely one that nobody has
 * signed.
 */
function distrustOf(socket: TLSSocket): Error {
  const { valid_from, valid_to } = socket.getPeerCertificate();
  const now = Date.now(); // the calendar's time, since that is what a certificate states
  if (now > Date.parse(valid_to)) return new Error(PEER_EXPIRED);
  if (now < Date.parse(valid_from)) return new Error(PEER_TOO_EARLY);
  const code = String(socket.authorizationError);
  return Object.assign(new Error(code), { code });
}

/** A server that does not accept a certificate need not say so. */
const TURNED_AWAY = "the server broke off at once, as one does that does not accept the certificate of this side";

/**
 * A socket of Node's kind as a transport.
 *
 * @param socket The socket, its handshake done.
 * @param options `certificate`: what the peer's says, if it has been checked; `silentEnd`: what it means if the peer ends the connection before it has said anything; by default, nothing.
 */
export function tlsTransport(
  socket: TLSSocket,
  { certificate, silentEnd }: { certificate?: PeerCertificate; silentEnd?: Error } = {},
): Transport {
  let ended = false;
  let silent = true;
  const readable = new ReadableStream<Uint8Array>({
    start(controller) {
      pause(socket);
      socket.on("data", ({ buffer, byteOffset, byteLength }: Buffer) => {
        if (ended) return;
        silent = false;
        pause(socket); // one chunk at a time: the stages say when they want the next
        // Not as a Buffer, whose slice() does not copy.
        controller.enqueue(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength));
      });
      const end = (close: () => void) => {
        if (!ended) close();
        ended = true;
      };
      socket.once("end", () =>
        end(() => {
          if (silent && silentEnd) controller.error(silentEnd);
          else if (isReset(socket)) {
            controller.error(new Deno.errors.ConnectionReset("the peer has reset the connection"));
          } else controller.close();
        }));
      socket.on("error", (error) => end(() => controller.error(error)));
      socket.once(
        "close",
        () => end(() => controller.error(new Deno.errors.ConnectionReset("the connection is closed"))),
      );
    },
    pull: () => resume(socket),
    cancel() {
      ended = true;
      pause(socket);
    },
  }, { highWaterMark: 0 });
  const writable = new WritableStream<Uint8Array>({
    start(controller) {
      // So that a connection that is not read is seen to have broken.
      socket.once("close", () => controller.error(new Deno.errors.ConnectionReset("the connection is closed")));
    },
    write: (chunk) =>
      new Promise((resolve, reject) => socket.write(chunk, (error) => error ? reject(error) : resolve())),
    close: () => new Promise((resolve) => socket.end(() => resolve())),
  });
  return fromStreams({
    readable,
    writable,
    certificate,
    peer: peerOf(socket),
    look() {
      if (isReset(socket)) socket.destroy();
    },
    close: () => void socket.destroy(),
    ref: () => void socket.ref(),
    unref: () => void socket.unref(),
  });
}

/** The socket below, as the runtime keeps it. */
interface Below {
  readonly _handle?: { readonly _parent?: { readStop?(): unknown; readStart?(): unknown } } | null;
}

/**
 * Reads no more. The runtime pauses what is decrypted alone, and goes on reading the socket below, without end: a peer that sends
 * on would fill the memory.
 */
function pause(socket: TLSSocket): void {
  socket.pause();
  (socket as Below)._handle?._parent?.readStop?.();
}

function resume(socket: TLSSocket): void {
  (socket as Below)._handle?._parent?.readStart?.();
  socket.resume();
}

/**
 * Whether the peer has reset a connection. The runtime shows that as an end in order, or not at all while nothing is read. The
 * kernel, however, knows no peer of it any more; `remoteAddress` is of no use for that, since it is kept.
 */
function isReset(socket: TLSSocket): boolean {
  const { _handle: handle } = socket as { _handle?: { getpeername?(name: object): number } | null };
  return handle?.getpeername !== undefined && handle.getpeername({}) !== 0;
}

/** Who is at the other end, for people. */
export function peerOf({ remoteAddress, remotePort }: Socket): string {
  return addressText({ transport: "tcp", hostname: remoteAddress ?? "", port: remotePort ?? 0 });
}
