/**
 * TLS that asks for the client's certificate. `Deno.listenTls` cannot; `node:tls`, which the runtime carries, can. It
 * is used for this alone, behind the same seam of streams as every other connection.
 *
 * In: an address, the server's certificate, and the authorities whose clients are let in. Out: an acceptor that gives
 * only connections whose certificate has been checked, with its subject. Refused: every other client, in the handshake.
 */

import type { Buffer } from "node:buffer";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Duplex } from "./duplex.ts";
import type { Acceptor } from "./listen.ts";
import { addressText } from "./tcp.ts";
import type { ServerTls } from "./tls.ts";

/** Handshakes that may take place at once or wait to be accepted; more are refused. */
const MAX_WAITING = 512;

/** Accepts clients with a certificate. */
export class MutualTlsAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly #server: Server;
  readonly #waiting: Duplex[] = [];
  #accepting: PromiseWithResolvers<Duplex> | undefined;
  #closed = false;

  private constructor(server: Server) {
    const { address: hostname, port } = server.address() as { address: string; port: number };
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({ transport: "tcp", hostname, port });
    this.#server = server;
    server.on("secureConnection", (socket) => this.#take(socketStreams(socket)));
  }

  /** Listens; the options are those of `listen()`. */
  static async listen(
    hostname: string,
    port: number,
    { cert, key, ca }: Required<ServerTls>,
    reusePort: boolean | undefined,
  ): Promise<MutualTlsAcceptor> {
    // The other listener says at once whether certificate and key are such, and fit; this one says it to the clients.
    Deno.listenTls({ hostname, port: 0, cert, key }).close();
    const server = createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true, allowHalfOpen: true });
    const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
    const refuse = (error: Error & { code?: string }) =>
      reject(error.code === "EADDRINUSE" ? new Deno.errors.AddrInUse(error.message) : error);
    server.once("error", refuse);
    server.listen({ host: hostname, port, reusePort } as Parameters<Server["listen"]>[0], resolve);
    await listening;
    server.off("error", refuse);
    return new MutualTlsAcceptor(server);
  }

  accept(): Promise<Duplex> {
    const next = this.#waiting.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (this.#closed) return Promise.reject(new Deno.errors.BadResource("the listener is closed"));
    this.#accepting = Promise.withResolvers();
    return this.#accepting.promise;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    this.#accepting?.reject(new Deno.errors.BadResource("the listener is closed"));
    for (const duplex of this.#waiting) duplex.close?.();
  }

  #take(duplex: Duplex): void {
    const accepting = this.#accepting;
    this.#accepting = undefined;
    if (accepting) accepting.resolve(duplex);
    else if (this.#waiting.length < MAX_WAITING && !this.#closed) this.#waiting.push(duplex);
    else duplex.close?.();
  }
}

/** A socket of the other kind as a pair of streams. */
function socketStreams(socket: TLSSocket): Duplex {
  socket.setNoDelay(true);
  const readable = new ReadableStream<Uint8Array>({
    start(controller) {
      socket.pause();
      socket.on("data", (chunk: Buffer) => {
        controller.enqueue(chunk);
        socket.pause(); // one chunk at a time: the stages say when they want the next
      });
      socket.once("end", () => controller.close());
      socket.once("error", (error) => controller.error(error));
      socket.once("close", () => {
        if (!socket.readableEnded) controller.error(new Deno.errors.ConnectionReset("the connection was closed"));
      });
    },
    pull: () => void socket.resume(),
    cancel: () => void socket.pause(),
  }, { highWaterMark: 0 });
  const writable = new WritableStream<Uint8Array>({
    write: (chunk) =>
      new Promise((resolve, reject) => socket.write(chunk, (error) => error ? reject(error) : resolve())),
    close: () => new Promise((resolve) => socket.end(() => resolve())),
  });
  return {
    readable,
    writable,
    peer: addressText({ transport: "tcp", hostname: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 }),
    certificate: { subject: subjectText(socket.getPeerCertificate().subject) },
    close: () => void socket.destroy(),
  };
}

/** `O=Analytical, CN=ada`: the parts in their order, as RFC 4514 names them, with its special characters escaped. */
function subjectText(subject: object | undefined): string {
  return Object.entries(subject ?? {})
    .flatMap(([name, values]) =>
      [values].flat().map((value) => `${name}=${String(value).replaceAll(/[,+"\\<>;=]/g, "\\$&")}`)
    )
    .join(", ");
}
