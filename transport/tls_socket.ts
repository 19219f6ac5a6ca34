/**
 * Wraps a socket of `node:tls` or `node:net`, which are part of the runtime, as a transport, and dials one of TLS for a client.
 *
 * Deno's own TLS cannot do both of these: `connectTls` cannot turn off Nagle's algorithm, and `startTls`, which can use
 * a connection that has it off, cannot send a client certificate.
 *
 * In: a socket, or an address and certificates. Out: a transport. Refused: an untrusted or unreachable server.
 */

import type { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import type { PeerCertificate } from "./certificate.ts";
import { addressText } from "./address.ts";
import { type ClientTls, PEER_EXPIRED, PEER_TOO_EARLY } from "./tls.ts";
import { fromStreams, type Transport } from "./transport.ts";

/**
 * Connects with a client certificate.
 *
 * @param address The host name or address, and the port.
 * @param tls The authority to trust, and the client's own certificate and key.
 * @param signal Ends the attempt.
 * @returns The connection, once the server is checked. The server checks the client later and may then close it.
 */
export async function dialWithCertificate(
  { hostname, port }: { hostname: string; port: number },
  { ca, cert, key }: ClientTls,
  signal: AbortSignal,
): Promise<Transport> {
  // An untrusted server is rejected below, where its certificate can be read. A variable, because the types lack
  // `allowHalfOpen` here.
  const options = { host: hostname, port, ca, cert, key, allowHalfOpen: true, rejectUnauthorized: false };
  const socket = connect(options);
  const { promise: secured, resolve, reject } = Promise.withResolvers<void>();
  const abandon = () => {
    reject(signal.reason);
    socket.destroy();
  };
  socket.setNoDelay(true);
  socket.on("error", reject);
  socket.once("close", () => reject(new Deno.errors.ConnectionReset("the peer ended the handshake")));
  socket.once("secureConnect", () => socket.authorized === true ? resolve() : reject(distrustOf(socket)));
  signal.addEventListener("abort", abandon, { once: true });
  try {
    await secured;
    return nodeTransport(socket, { silentEnd: new Deno.errors.ConnectionReset(REJECTED) });
  } catch (error) {
    socket.destroy();
    const refused = (error as { code?: string }).code === "ECONNREFUSED";
    throw refused ? new Deno.errors.ConnectionRefused((error as Error).message) : error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

/** Why a server is not trusted. Node reports an expired self-signed certificate only as self-signed. */
function distrustOf(socket: TLSSocket): Error {
  const { valid_from, valid_to } = socket.getPeerCertificate();
  const now = Date.now(); // a certificate states calendar time
  if (now > Date.parse(valid_to)) return new Error(PEER_EXPIRED);
  if (now < Date.parse(valid_from)) return new Error(PEER_TOO_EARLY);
  const code = String(socket.authorizationError);
  return Object.assign(new Error(code), { code });
}

/** A server may reject a certificate without saying so. */
const REJECTED = "the server closed the connection at once; it may have rejected this side's certificate";

/**
 * Makes a transport of a Node socket.
 *
 * @param socket The socket; of TLS, its handshake done.
 * @param options `certificate`: the peer's checked identity; `peer`: its address, if a proxy has told it; `silentEnd`: the
 * error if the peer closes without data.
 */
export function nodeTransport(
  socket: Socket,
  { certificate, peer = peerOf(socket), silentEnd }: {
    certificate?: PeerCertificate;
    peer?: string;
    silentEnd?: Error;
  } = {},
): Transport {
  let ended = false;
  let silent = true;
  const readable = new ReadableStream<Uint8Array>({
    start(controller) {
      pause(socket);
      socket.on("data", ({ buffer, byteOffset, byteLength }: Buffer) => {
        if (ended) return;
        silent = false;
        pause(socket); // one chunk at a time: `pull` asks for the next
        // Not a Buffer, whose slice() does not copy.
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
      // So that a broken connection is noticed even if it is not being read.
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
    peer,
    look() {
      if (isReset(socket)) socket.destroy();
    },
    close: () => void socket.destroy(),
    ref: () => void socket.ref(),
    unref: () => void socket.unref(),
  });
}

/** The TCP socket under the TLS socket, as the runtime stores it. */
interface Below {
  readonly _handle?: { readonly _parent?: { readStop?(): unknown; readStart?(): unknown } } | null;
}

/**
 * Stops reading. The runtime pauses only the decrypted side and keeps reading the TCP socket, so a peer that keeps
 * sending would fill the memory.
 */
function pause(socket: Socket): void {
  socket.pause();
  (socket as Below)._handle?._parent?.readStop?.();
}

function resume(socket: Socket): void {
  (socket as Below)._handle?._parent?.readStart?.();
  socket.resume();
}

/**
 * Whether the peer has reset a connection. The runtime reports a reset as a normal end, or not at all while nothing is
 * read. But the kernel then has no peer address; `remoteAddress` does not show that, because it is cached.
 */
function isReset(socket: Socket): boolean {
  const { _handle: handle } = socket as { _handle?: { getpeername?(name: object): number } | null };
  return handle?.getpeername !== undefined && handle.getpeername({}) !== 0;
}

/** The peer's address as readable text; one of a unix socket has none. */
export function peerOf({ remoteAddress, remotePort }: Socket): string {
  if (remoteAddress === undefined || remotePort === undefined) return "unix";
  return addressText({ transport: "tcp", hostname: remoteAddress, port: remotePort });
}
