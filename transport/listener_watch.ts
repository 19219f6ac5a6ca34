/**
 * Watches Node's listener, which has a flaw in this runtime: if a connection comes while the process has no free file
 * descriptor, it silently stops accepting forever. So after some time without clients, the watch connects to it, and
 * reports if that goes unnoticed.
 *
 * In: each connection that the listener reports. Out: a report that it is deaf.
 */

import type { Clock, Timer } from "./clock.ts";
import { addressText } from "./tcp.ts";

/** How often the listener is checked, and how long it may take to notice a connection. */
const LOOK_MS = 5_000;
const NOTICE_MS = 1_000;

/** On a shared port the kernel picks a listener for each connection: this many attempts almost surely reach ours. */
const SHARED_LOOKS = 32;

/** What to watch. */
export interface WatchOptions {
  readonly hostname: string;
  readonly port: number;
  readonly reusePort: boolean;
  readonly clock: Clock;
  /** Takes the peer's address of each connection that the watch has made, to close it. */
  onLooked(peer: string): void;
  /** Called when the listener does not notice connections. */
  onDeaf(): void;
}

/** Watches one listener. */
export class ListenerWatch {
  readonly #options: WatchOptions;
  /** Connections reported by the listener; how many at the last check; whether it has been found alive since. */
  #reported = 0;
  #reportedBefore = 0;
  #alive = true;
  #timer: Timer | undefined;
  #closed = false;
  #onReported = () => {};

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#lookLater();
  }

  /** The listener has reported a connection. */
  report(): void {
    this.#reported++;
    this.#onReported();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== undefined) this.#options.clock.clearTimer(this.#timer);
    this.#onReported();
  }

  #lookLater(): void {
    this.#timer = this.#options.clock.setTimer(
      async () => {
        await this.#look();
        if (!this.#closed) this.#lookLater();
      },
      LOOK_MS,
      false,
    );
  }

  /** Checks the listener: not while clients come, and once in each silence after them. */
  async #look(): Promise<void> {
    const heard = this.#reported > this.#reportedBefore;
    this.#reportedBefore = this.#reported;
    if (heard) this.#alive = false;
    if (heard || this.#alive) return;
    this.#alive = await this.#isNoticed();
    this.#reportedBefore = this.#reported;
    if (!this.#alive && !this.#closed) this.#options.onDeaf();
  }

  /** Connects to the listener, to see whether it notices. */
  async #isNoticed(): Promise<boolean> {
    const { hostname, port, reusePort } = this.#options;
    const looks = Array.from(
      { length: reusePort ? SHARED_LOOKS : 1 },
      () => Deno.connect({ hostname, port }).catch(() => undefined),
    );
    // If all fail, an earlier attempt to listen again has failed, or there is still no free file descriptor.
    const conns = (await Promise.all(looks)).filter((conn) => conn !== undefined);
    const noticed = conns.length > 0 && (this.#reported > this.#reportedBefore || await this.#noticesOne());
    for (const conn of conns) {
      this.#options.onLooked(addressText(conn.localAddr));
      conn.close();
    }
    return noticed;
  }

  /** Whether the listener soon reports a connection. */
  async #noticesOne(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = this.#options.clock.setTimer(() => resolve(false), NOTICE_MS, false);
    this.#onReported = () => resolve(true);
    const noticed = await promise;
    this.#onReported = () => {};
    this.#options.clock.clearTimer(timer);
    return noticed;
  }
}
