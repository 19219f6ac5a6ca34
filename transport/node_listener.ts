/**
 * Listens with a server of `node:net` or `node:tls`, which are part of the runtime, at an address or on a socket that
 * this process was started with.
 *
 * In: a server, and where to listen. Out: its address; its connections, one by one. Refused: a descriptor that is not a
 * listening socket.
 *
 * Node's listener has a flaw in this runtime: if a connection arrives while the process has no free file descriptor,
 * the listener silently stops accepting forever. Listening again with the same handle wakes it up. This does nothing to
 * a working listener, and takes less than a microsecond, so it is done every few seconds.
 */

import type { AddressInfo, Server } from "node:net";
import type { Clock, Timer } from "./clock.ts";
import { systemError } from "./runtime.ts";
import type { Transport } from "./transport.ts";

/** How often a listener is woken up. */
const WAKE_MS = 5_000;

/** How many connections the kernel keeps for a listener; Node's default. */
const BACKLOG = 511;

/** Where to listen. */
export type NodePlace = { host: string; port: number; reusePort: boolean } | { path: string } | { fd: number };

/** The handle of a listening server, as the runtime stores it. */
interface Listening {
  readonly _handle?: { listen?(backlog: number): number } | null;
}

/** One listening server of Node. */
export class NodeListener<Each extends Transport = Transport> {
  /** The address and the port; `undefined` for a unix socket. */
  readonly address: AddressInfo | undefined;
  readonly #server: Server;
  readonly #clock: Clock;
  readonly #waiting: Each[] = [];
  #accepting: PromiseWithResolvers<Each> | undefined;
  #timer: Timer | undefined;
  #closed = false;

  private constructor(server: Server, clock: Clock) {
    const address = server.address(); // for a path, Node returns text
    this.address = typeof address === "object" && address !== null ? address : undefined;
    this.#server = server;
    this.#clock = clock;
    this.#wakeLater();
  }

  /** Starts listening. */
  static async listen<Each extends Transport>(
    server: Server,
    place: NodePlace,
    clock: Clock,
  ): Promise<NodeListener<Each>> {
    const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(place, resolve);
    try {
      await listening;
    } catch (error) {
      if (!("fd" in place)) throw error;
      throw new TypeError(`Cannot listen on file descriptor ${place.fd}: it is no listening socket`, { cause: error });
    }
    server.off("error", reject);
    return new NodeListener(server, clock);
  }

  /** The next connection. Rejects with `BadResource` if the listener has been closed. */
  accept(): Promise<Each> {
    const next = this.#waiting.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (this.#closed) return Promise.reject(systemError("BadResource", "the listener is closed"));
    this.#accepting = Promise.withResolvers();
    return this.#accepting.promise;
  }

  /** A connection has arrived. */
  add(transport: Each): void {
    const accepting = this.#accepting;
    this.#accepting = undefined;
    if (this.#closed) transport.close();
    else if (accepting) accepting.resolve(transport);
    else this.#waiting.push(transport);
  }

  /** Takes no more connections from the kernel. `accept()` still returns those that have arrived. */
  hide(): void {
    if (this.#timer === undefined) return;
    this.#clock.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#server.close();
  }

  close(): void {
    if (this.#closed) return;
    this.hide();
    this.#closed = true;
    this.#accepting?.reject(systemError("BadResource", "the listener is closed"));
    for (const transport of this.#waiting) transport.close();
  }

  #wakeLater(): void {
    this.#timer = this.#clock.setTimer(
      () => {
        (this.#server as Listening)._handle?.listen?.(BACKLOG);
        this.#wakeLater();
      },
      WAKE_MS,
      false,
    );
  }
}
