/**
 * Accepts connections by `node:net`: in Node at an address or a path, and in any runtime on a listening socket that
 * this process was started with, for example by a socket unit of systemd. `Deno.listen` does not support such a socket.
 *
 * In: an address, a path or a file descriptor. Out: connections. Refused: an address in use, a descriptor that is not a
 * listening socket.
 *
 * A socket from the system stays open when this process ends, and keeps new clients for the next process.
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
  /** Only for a socket from the system, which stays open. A port can only be closed, and `unix.ts` hides a path. */
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
    // The options are a variable, because the types lack `noDelay` here.
    const options = { allowHalfOpen: true, noDelay: true };
    const server = createServer(options);
    const listener = await NodeListener.listen<AddressedTransport>(server, place, clock);
    server.on("connection", (socket) => {
      const remoteHostname = listener.address && socket.remoteAddress;
      // A TCP client that has already left has no address either. It must not count as a client of a unix socket.
      if (listener.address && remoteHostname === undefined) return void socket.destroy();
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
