/**
 * Accepts connections by `node:net`: at an address or a path in Node, and in any runtime on a socket that listens already
 * and that this process was started with, as by a socket unit of systemd, which `Deno.listen` does not take.
 *
 * In: an address, a path or a file descriptor. Out: connections. Refused: an address in use, a descriptor that is no
 * listening socket.
 *
 * A socket that was given stays open when this process ends, and keeps the clients that come for the next one.
 */

import { createServer } from "node:net";
import type { Clock } from "./clock.ts";
import { NodeListener, type NodePlace } from "./node_listener.ts";
import type { PreambleSource } from "./preamble_acceptor.ts";
import type { AddressedTransport } from "./proxy_preamble.ts";
import { addressText } from "./address.ts";
import { nodeTransport, peerOf } from "./node_transport.ts";

/** Accepts clients of TCP or a unix socket. */
export class NodeAcceptor implements PreambleSource<AddressedTransport> {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly handshakes = 0;
  /** A socket that was given stays open, and a path can be hidden; a port can only be closed. */
  readonly hide?: () => void;
  readonly #listener: NodeListener<AddressedTransport>;

  private constructor(place: NodePlace, listener: NodeListener<AddressedTransport>) {
    const { address: hostname, port } = listener.address ?? { address: "", port: 0 };
    this.hostname = hostname;
    this.port = port;
    this.address = addressText({
      transport: "fd" in place ? `fd:${place.fd}` : "unix",
      ...listener.address && { hostname, port },
    });
    if ("fd" in place) this.hide = () => listener.hide();
    this.#listener = listener;
  }

  /** Starts accepting. */
  static async listen(place: NodePlace, clock: Clock): Promise<NodeAcceptor> {
    // A variable, because the types lack `noDelay` here.
    const options = { allowHalfOpen: true, noDelay: true };
    const server = createServer(options);
    const listener = await NodeListener.listen<AddressedTransport>(server, place, clock);
    server.on("connection", (socket) => {
      // A client of a port that has left already has no address either, and must not pass for one of a unix socket.
      const remoteHostname = listener.address && (socket.remoteAddress ?? "");
      listener.add(Object.assign(nodeTransport(socket), { peer: peerOf(socket), remoteHostname }));
    });
    return new NodeAcceptor(place, listener);
  }

  accept(): Promise<AddressedTransport> {
    return this.#listener.accept();
  }

  close(): void {
    this.#listener.close();
  }
}
