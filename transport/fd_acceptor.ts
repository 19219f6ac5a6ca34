/**
 * Accepts connections on a socket that listens already and that this process was started with, as by a socket unit of
 * systemd. `node:net` takes one, `Deno.listen` does not.
 *
 * In: its file descriptor. Out: connections. Refused: a descriptor that is no listening socket.
 *
 * The socket stays open when this process ends, and keeps the clients that come for the next one.
 */

import { createServer } from "node:net";
import type { Clock } from "./clock.ts";
import { NodeListener } from "./node_listener.ts";
import type { AddressedTransport, SocketSource } from "./proxy_acceptor.ts";
import { addressText } from "./address.ts";
import { nodeTransport, peerOf } from "./tls_socket.ts";

/** Accepts clients of a given socket, of TCP or a unix socket. */
export class FdAcceptor implements SocketSource {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly handshakes = 0;
  readonly #listener: NodeListener<AddressedTransport>;

  private constructor(fd: number, listener: NodeListener<AddressedTransport>) {
    const { address: hostname, port } = listener.address ?? { address: "", port: 0 };
    this.hostname = hostname;
    this.port = port;
    this.address = listener.address === undefined ? `fd:${fd}` : addressText({ transport: "tcp", hostname, port });
    this.#listener = listener;
  }

  /** Starts accepting. */
  static async listen(fd: number, clock: Clock): Promise<FdAcceptor> {
    // A variable, because the types lack `noDelay` here.
    const options = { allowHalfOpen: true, noDelay: true };
    const server = createServer(options);
    const listener = await NodeListener.listen<AddressedTransport>(server, { fd }, clock);
    server.on("connection", (socket) => {
      // A client of a port that has left already has no address either, and must not pass for one of a unix socket.
      const remoteHostname = listener.address && (socket.remoteAddress ?? "");
      listener.add(Object.assign(nodeTransport(socket), { peer: peerOf(socket), remoteHostname }));
    });
    return new FdAcceptor(fd, listener);
  }

  accept(): Promise<AddressedTransport> {
    return this.#listener.accept();
  }

  hide(): void {
    this.#listener.hide();
  }

  close(): void {
    this.#listener.close();
  }
}
