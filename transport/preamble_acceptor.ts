/**
 * Accepts connections that first need a preamble, each on its own: the header of a proxy, or the handshake of a
 * WebSocket.
 *
 * In: an acceptor, and a preamble. Out: connections that completed the preamble, and connections that need none.
 * Refused, and reported: connections whose preamble fails. The time of each preamble is limited, and so is their
 * number.
 */

import type { Acceptor, Refusal } from "./acceptor.ts";
import type { Clock } from "./clock.ts";
import { closeTransport, type Transport } from "./transport.ts";

/** Why a preamble has no more time: it is late, too many newer connections wait too, or the server has ended. */
export type PreambleEnd = "late" | "crowded" | "closed";

/** What a connection does before it is accepted. */
export interface Preamble<In extends Transport> {
  /** The event to report if it fails. */
  readonly event: Refusal["event"];
  /**
   * Runs the preamble.
   *
   * @param transport The connection.
   * @param ended Resolves when there is no more time. The preamble must then settle at once.
   * @returns The connection; `null` if the peer has left; `undefined` at once if this connection needs no preamble.
   * @throws {PreambleError} If the connection is refused. Any other error means that the peer has left.
   */
  run(transport: In, ended: Promise<PreambleEnd>): Promise<Transport | null> | undefined;
  /** Tells a refused peer why, before its connection is closed. Never rejects, and settles as `run` does. */
  refuse?(transport: In, error: PreambleError, ended: Promise<PreambleEnd>): Promise<void>;
}

/** A connection is refused. The text is a sentence about the peer, "it". */
export class PreambleError extends Error {
  /** The name of the class. */
  override readonly name: string = "PreambleError";
}

/** Options of the acceptor. */
interface PreambleOptions {
  /** The time limit. */
  readonly handshakeTimeoutMs: number;
  /** The largest number of preambles in progress. One more ends the oldest. */
  readonly maxConnections: number;
  /** Called before each connection. Returns a promise if open connections come first. */
  rest?(): Promise<void> | undefined;
  readonly clock: Clock;
  /** Called with the reason if a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/** An acceptor of one kind of connection. */
export interface PreambleSource<In extends Transport> extends Acceptor {
  accept(): Promise<In>;
}

/** Accepts the connections that have completed their preamble. */
export class PreambleAcceptor<In extends Transport> implements Acceptor {
  readonly #source: PreambleSource<In>;
  readonly #preamble: Preamble<In>;
  readonly #options: PreambleOptions;
  /** Connections in their preamble, the oldest first, each with a function that ends the preamble. */
  readonly #unready = new Map<In, (why: PreambleEnd) => void>();
  readonly #ready: Transport[] = [];
  /** The next connection of the source. Only one is requested at a time. */
  #next: Promise<void> | undefined;
  #onReady = () => {};
  #closed = false;

  constructor(source: PreambleSource<In>, preamble: Preamble<In>, options: PreambleOptions) {
    this.#source = source;
    this.#preamble = preamble;
    this.#options = options;
  }

  get hostname(): string {
    return this.#source.hostname;
  }

  get port(): number {
    return this.#source.port;
  }

  get address(): string {
    return this.#source.address;
  }

  get handshakes(): number {
    return this.#source.handshakes + this.#unready.size;
  }

  async accept(): Promise<Transport> {
    while (true) {
      const ready = this.#ready.shift();
      if (ready !== undefined) return ready;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onReady = resolve;
      await Promise.race([promise, this.#next ??= this.#takeNext()]);
    }
  }

  hide(): void {
    this.#source.hide?.();
  }

  async renew(): Promise<void> {
    await this.#source.renew?.();
  }

  close(): void {
    this.#closed = true;
    this.#source.close();
    for (const end of this.#unready.values()) end("closed");
    for (const transport of this.#ready) closeTransport(transport);
  }

  #takeNext(): Promise<void> {
    const next = this.#take().finally(() => this.#next = undefined);
    next.catch(() => {}); // if nothing waits now, the next `accept()` gets the same error
    return next;
  }

  async #take(): Promise<void> {
    await this.#options.rest?.();
    const transport = await this.#source.accept();
    const ending = Promise.withResolvers<PreambleEnd>();
    const done = this.#preamble.run(transport, ending.promise);
    if (done === undefined) this.#ready.push(transport);
    else void this.#follow(transport, done, ending);
  }

  async #follow(
    transport: In,
    done: Promise<Transport | null>,
    { promise: ended, resolve: end }: PromiseWithResolvers<PreambleEnd>,
  ): Promise<void> {
    const { clock, handshakeTimeoutMs, maxConnections, onRefused } = this.#options;
    const [endOldest] = this.#unready.values();
    if (this.#unready.size >= maxConnections) endOldest("crowded");
    this.#unready.set(transport, end);
    const timer = clock.setTimer(() => end("late"), handshakeTimeoutMs, false);
    try {
      const ready = await done;
      if (ready === null || this.#closed) closeTransport(ready ?? transport);
      else this.#ready.push(ready);
      this.#onReady();
    } catch (error) {
      if (!this.#closed && error instanceof PreambleError) {
        onRefused({ event: this.#preamble.event, reason: error.message, peer: transport.peer ?? "unknown peer" });
        await this.#preamble.refuse?.(transport, error, ended);
      }
      closeTransport(transport);
    } finally {
      clock.clearTimer(timer);
      this.#unready.delete(transport);
    }
  }
}
