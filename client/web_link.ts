/**
 * The one server of a client in a browser. A link dials when a connection is needed, and replaces a connection that the
 * server wants to end.
 *
 * In: the needs of the client; the ends of its connections. Out: a connection for calls. Refused: nothing.
 */

import { RpcError } from "../errors.ts";
import type { WebTransport } from "../transport/browser_web_socket.ts";
import { messageOf } from "../transport/runtime.ts";
import type { Backoff, RetryBudget } from "./retries.ts";
import type { ClientSettings } from "./client_call.ts";
import type { ClientState } from "./rpc_client.ts";
import type { WebConnection } from "./web_connection.ts";

/** How long a dial may take. */
const DIAL_TIMEOUT_MS = 10_000;

/** The longest wait before the client replaces a connection that the server wants to end. */
const LONGEST_RENEWAL_MS = 1_000;

/** The settings of a client in a browser. */
export interface WebSettings extends ClientSettings {
  /** The server, as the user names it. */
  readonly server: string;
  /** Makes a connection. */
  readonly dial: (signal: AbortSignal) => Promise<WebTransport>;
  readonly random: () => number;
  /** The commands. Some have numbers. */
  readonly commands: Readonly<Record<string, { readonly number?: number }>>;
  readonly retryBudget: RetryBudget;
  readonly onState: ((state: ClientState, error?: RpcError) => void) | undefined;
}

/** The part of the client that its link uses. */
export interface WebLinkOwner {
  readonly settings: WebSettings;
  /** Whether calls wait. */
  readonly hasWaiting: boolean;
  /** Makes a connection. */
  attach(transport: WebTransport): WebConnection;
  /** The state of the link has changed. */
  onLinkState(error?: RpcError): void;
}

type Activity = "idle" | "connecting" | "waiting" | "closed";

/** The link to the server, with one connection for new calls. */
export class WebLink {
  /** The error of the last dial or of the last lost connection, until there is a new connection. */
  lastError: RpcError | undefined;
  readonly calls = { sent: 0, refused: 0, lost: 0 };
  /** The connection for new calls. */
  connection: WebConnection | undefined;
  #activity: Activity = "idle";
  /** Ends the dial or the wait that is under way. */
  #attempt: AbortController | undefined;

  constructor(readonly owner: WebLinkOwner, readonly backoff: Backoff) {}

  get state(): Activity | "open" {
    return this.connection ? "open" : this.#activity;
  }

  /** The delay before the next attempt to connect, in milliseconds. */
  get waitMs(): number {
    return this.backoff.waitMs(this.owner.settings.clock.now());
  }

  /** Dials once. Rejects if the dial fails. */
  async dial(): Promise<void> {
    try {
      await this.#dial();
    } finally {
      this.#become("idle", this.lastError);
    }
  }

  /** Dials if there is no connection, and repeats it while calls wait. */
  async seek(): Promise<void> {
    if (this.state !== "idle") return;
    do {
      try {
        if (this.waitMs > 0) await this.#wait();
        else await this.#dial();
      } catch {
        // The error is in `lastError`; waiting calls report it if they time out.
      }
    } while (!this.connection && this.#activity !== "closed" && this.owner.hasWaiting);
    this.#become("idle", this.lastError);
  }

  /** The network may be back. Dials at once if calls wait, and checks an open connection. */
  hurry(): void {
    this.backoff.reset();
    if (this.owner.hasWaiting) this.#attempt?.abort(); // the loop of seek() goes on
    this.connection?.check();
  }

  async #dial(): Promise<void> {
    this.#become("connecting");
    const { clock, dial, server } = this.owner.settings;
    try {
      await this.#within(DIAL_TIMEOUT_MS, async (signal) => {
        const transport = await dial(signal);
        if (signal.aborted) return transport.close();
        this.lastError = undefined;
        this.connection = this.owner.attach(transport);
      });
    } catch (error) {
      this.backoff.failed(clock.now());
      throw this.lastError = error instanceof RpcError
        ? error
        : new RpcError("CONNECTION_LOST", `cannot reach ${server}: ${messageOf(error)}`, {
          retryable: true,
          cause: error,
        });
    }
  }

  async #wait(): Promise<void> {
    this.#become("waiting", this.lastError);
    await this.#within(this.waitMs, () => new Promise(() => {})); // the abort of the attempt ends it
  }

  /** Runs `act`. Rejects after `ms` milliseconds, or if the attempt is aborted. */
  #within(ms: number, act: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { clock } = this.owner.settings;
    const attempt = this.#attempt = new AbortController();
    const { signal } = attempt;
    const timer = clock.setTimer(() => attempt.abort(new Error(`no answer within ${ms} ms`)), ms, true);
    return new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      act(signal).then(resolve, reject);
    }).finally(() => {
      clock.clearTimer(timer);
      this.#attempt = undefined;
    });
  }

  /**
   * The server wants to end a connection, so calls go to the next one. A random wait keeps the clients of a server from
   * dialing all at once.
   */
  onGoing(connection: WebConnection, ms: number): void {
    if (this.connection !== connection) return;
    this.connection = undefined;
    if (connection.answered) this.backoff.reset();
    this.backoff.delay(this.owner.settings.clock.now(), Math.min(ms / 2, LONGEST_RENEWAL_MS));
    this.owner.onLinkState();
  }

  /** A connection takes no more calls. */
  onLeft(connection: WebConnection, reason: RpcError): void {
    if (this.connection !== connection) return;
    this.connection = undefined;
    this.lastError = reason;
    const nowMs = this.owner.settings.clock.now();
    if (connection.answered) this.backoff.lost(nowMs);
    else this.backoff.failed(nowMs);
    this.owner.onLinkState(reason);
  }

  /** Ends attempts to connect. */
  close(reason: RpcError): void {
    this.connection = undefined;
    this.#become("closed");
    this.#attempt?.abort(reason);
  }

  #become(activity: Activity, error?: RpcError): void {
    if (this.state === "closed") return;
    this.#activity = activity;
    this.owner.onLinkState(error);
  }
}
