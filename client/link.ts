/**
 * One server of a client, or one of several connections to it. A link dials when a connection is needed, one dial at a
 * time, and waits after failures and losses. It tests each connection after the client's first one by a PING, and
 * replaces a connection that the server wants to end.
 *
 * In: the needs of the client; a way to dial; the end of its connection. Out: a connection for calls. Refused: nothing.
 */

import { RpcError } from "../errors.ts";
import { type Clock, sleep, type Timer } from "../transport/clock.ts";
import { type Dial, dialInTime, unreachable } from "../transport/address.ts";
import { isDenied } from "../transport/runtime.ts";
import { closeTransport, type Transport } from "../transport/transport.ts";
import type { ClientConnection, ConnectionPlace } from "./client_connection.ts";
import type { InOrderMemory } from "./replies.ts";
import { Backoff } from "./retries.ts";

/**
 * The longest wait before the client replaces a connection that the server wants to end. It is at most half of the time
 * that the server gives.
 */
const LONGEST_RENEWAL_MS = 1_000;

/** Such a connection takes no more calls after this part of that time, so that the last calls are answered. */
const USABLE_PART = 0.75;

/**
 * The state of one server of a client. `open`: it takes calls; `connecting`; `waiting` before the next attempt to
 * connect; `going`: it is about to stop, and gets calls only if no other server takes them; `idle`: it has no
 * connection until a call needs one; `closed`.
 */
export type LinkState = "open" | "connecting" | "waiting" | "going" | "idle" | "closed";

/** The part of the client that its links use. */
export interface LinkOwner {
  /** Whether calls wait and no connection takes them. */
  readonly isStranded: boolean;
  /** Whether a link has a connection that the server does not want to end. */
  readonly isOpen: boolean;
  /** Makes a connection. */
  attach(link: Link, transport: Transport): ClientConnection;
  /** Whether a new connection must answer a PING before it takes calls. */
  readonly mustProve: boolean;
  /** The state of a link has changed. */
  onLinkState(error?: RpcError): void;
}

/** What a link needs. */
interface LinkOptions {
  readonly dial: Dial;
  /** Whether anybody waits for its connection, or may use it beside others. */
  readonly isAwaited: () => boolean;
  readonly clock: Clock;
  readonly random: () => number;
}

/** A link to one server, with one connection for new calls. */
export class Link implements ConnectionPlace {
  /** The server, as the user names it. */
  readonly address: string;
  readonly memory: InOrderMemory = { servesOnce: undefined };
  readonly calls = { sent: 0, refused: 0, lost: 0 };
  readonly #owner: LinkOwner;
  readonly #clock: Clock;
  readonly #dialer: Dialer;
  /** The connection for new calls. */
  #connection: ClientConnection | undefined;
  /** The previous connection, if the server wants to end it and there is no other yet. */
  #going: ClientConnection | undefined;
  /** They replace the previous connection, and end its use. */
  #timers: Timer[] = [];
  #activity: "idle" | "connecting" | "waiting" | "closed" = "idle";
  /** When the current activity began. */
  #sinceMs = 0;

  /**
   * @param address The server, as the user names it.
   * @param owner The client.
   */
  constructor(address: string, owner: LinkOwner, options: LinkOptions) {
    this.address = address;
    this.#owner = owner;
    this.#clock = options.clock;
    this.#dialer = new Dialer(options);
  }

  /** Whether it has a connection that takes calls, even if it is full for the moment. */
  get isOpen(): boolean {
    return this.#connection !== undefined;
  }

  get state(): LinkState {
    if (this.#activity === "closed") return "closed";
    if (this.#connection !== undefined) return "open";
    if (this.#going !== undefined) return "going";
    return this.#activity === "idle" && this.waitMs > 0 ? "waiting" : this.#activity;
  }

  /** What it does while it has no connection. */
  get activity(): "idle" | "connecting" | "waiting" | "closed" {
    return this.#activity;
  }

  /** The delay before the next attempt to connect, in milliseconds. */
  get waitMs(): number {
    return this.isOpen ? 0 : this.#dialer.waitMs;
  }

  /** The error of the last dial or of the last lost connection. */
  get lastError(): RpcError | undefined {
    return this.#dialer.lastError;
  }

  /** Why it has no connection. */
  get obstacle(): RpcError | undefined {
    if (this.isOpen || this.lastError !== undefined || this.#activity !== "connecting") return this.lastError;
    const text = `still connecting to ${this.address} after ${Math.round(this.#clock.now() - this.#sinceMs)} ms`;
    return new RpcError("CONNECTION_LOST", text, { retryable: true });
  }

  /** Dials once. Rejects if the dial fails. */
  async dial(): Promise<void> {
    try {
      await this.#dial();
    } finally {
      this.#become("idle", this.lastError);
    }
  }

  /** Dials if there is no connection and the wait is over. If calls are stranded, waits and then dials. */
  seek(): void {
    if (this.isOpen || this.#activity !== "idle" || this.waitMs > 0 && !this.#owner.isStranded) return;
    void this.#seek();
  }

  async #seek(): Promise<void> {
    do {
      try {
        if (this.waitMs > 0) await this.#wait();
        else await this.#dial();
      } catch {
        // The dialer stores the error; waiting calls report it if they time out. A connection that the server wants to
        // end takes no more calls, because they would only delay that server.
        this.#retireGoing();
      }
    } while (!this.#isClosed && !this.isOpen && this.#owner.isStranded);
    this.#become("idle", this.lastError);
  }

  async #dial(): Promise<void> {
    this.#become("connecting");
    const transport = await this.#dialer.dial();
    if (this.#isClosed) return closeTransport(transport);
    const { mustProve } = this.#owner;
    const connection = this.#owner.attach(this, transport);
    try {
      if (mustProve) await connection.prove();
      if (this.#isClosed) return connection.leave();
      if (!connection.open()) throw new RpcError("CONNECTION_LOST", `${connection.peer} ended the connection at once`);
    } catch (error) {
      connection.leave();
      this.#dialer.lost(error as RpcError, false);
      throw error;
    }
    this.#dialer.lastError = undefined;
    this.#connection = connection;
    this.#retireGoing();
  }

  async #wait(): Promise<void> {
    this.#become("waiting", this.lastError);
    await this.#dialer.wait();
  }

  onGoing(connection: ClientConnection, ms: number): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#dialer.forgive();
    const renewalMs = Math.min(ms / 2, LONGEST_RENEWAL_MS);
    if (connection.idle) {
      connection.leave();
    } else if (this.#owner.isOpen) {
      this.#dialer.delay(renewalMs);
      connection.leave();
    } else {
      this.#retireGoing();
      this.#going = connection;
      // Until then, calls use the old connection. If it is idle by then, it is replaced only when a call needs a
      // connection.
      this.#dialer.delay(renewalMs);
      const endUse = () => {
        this.#retireGoing();
        this.#owner.onLinkState();
      };
      this.#timers = [
        this.#clock.setTimer(() => connection.idle ? endUse() : this.seek(), Math.ceil(this.#dialer.waitMs), false),
        this.#clock.setTimer(endUse, ms * USABLE_PART, false),
      ];
    }
    this.#owner.onLinkState();
  }

  #retireGoing(): void {
    for (const timer of this.#timers) this.#clock.clearTimer(timer);
    this.#timers = [];
    const going = this.#going;
    this.#going = undefined;
    going?.leave();
  }

  onLeft(connection: ClientConnection, reason: RpcError | undefined): void {
    if (this.#connection === connection) {
      this.#connection = undefined;
      // A server that closes after each reply is not lost.
      const isUsual = this.memory.servesOnce === true && connection.answered;
      this.#dialer.lost(isUsual ? undefined : reason, connection.answered);
    } else if (this.#going === connection) {
      this.#dialer.lost(reason, connection.answered);
      this.#retireGoing();
    } else {
      return;
    }
    this.#owner.onLinkState(reason);
  }

  /** Ends attempts to connect. An open connection closes when its calls are answered. */
  close(reason: RpcError): void {
    this.#become("closed");
    this.#dialer.abort(reason);
    this.#retireGoing();
    this.#connection?.leave();
  }

  get #isClosed(): boolean {
    return this.#activity === "closed";
  }

  #become(activity: Link["activity"], error?: RpcError): void {
    if (this.#isClosed) return;
    this.#activity = activity;
    this.#sinceMs = this.#clock.now();
    this.#owner.onLinkState(error);
  }
}

/** Makes the connections to one server. */
class Dialer {
  /** The error of the last dial or of the last lost connection. */
  lastError: RpcError | undefined;
  readonly #options: LinkOptions;
  readonly #backoff: Backoff;
  /** Aborts the current dial or wait. */
  #attempt = new AbortController();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
  }

  get #nowMs(): number {
    return this.#options.clock.now();
  }

  /** Dials once. Stores the error that it throws in `lastError`, except for a missing permission. */
  async dial(): Promise<Transport> {
    this.#attempt = new AbortController();
    try {
      const { dial, clock, isAwaited } = this.#options;
      return await dialInTime(dial, clock, this.#attempt, isAwaited);
    } catch (error) {
      this.lastError = error instanceof RpcError ? error : unreachable("the server", error);
      this.#backoff.failed(this.#nowMs);
      throw isDenied(error) ? error : this.lastError;
    }
  }

  /** A connection is lost. A connection that never answered counts as a failed dial. */
  lost(error: RpcError | undefined, hadAnswered: boolean): void {
    this.lastError = error;
    if (error === undefined) return;
    if (hadAnswered) this.#backoff.lost(this.#nowMs);
    else this.#backoff.failed(this.#nowMs);
  }

  /** The connection has worked to its end, so earlier failures say nothing about the next dial. */
  forgive(): void {
    this.#backoff.reset();
  }

  /** The next dial starts at a random time in the next `longestMs` milliseconds. */
  delay(longestMs: number): void {
    this.#backoff.delay(this.#nowMs, longestMs);
  }

  /** The delay before the next attempt to connect, in milliseconds. */
  get waitMs(): number {
    return this.#backoff.waitMs(this.#nowMs);
  }

  /** Waits before the next dial. Rejects if aborted. */
  wait(): Promise<void> {
    this.#attempt = new AbortController();
    return sleep(this.#options.clock, this.waitMs, this.#attempt.signal, false);
  }

  /** Aborts the current dial or wait. */
  abort(reason: RpcError): void {
    this.#attempt.abort(reason);
  }
}
