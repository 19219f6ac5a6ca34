/**
 * The servers of a client, and its connections to them: which servers there are, which has a connection, which
 * connections have room, and which of two takes the next call.
 *
 * In: a list of servers, or a function that finds them; connections, including old ones that still wait for replies.
 * Out: links to servers; connections that take calls. Refused: nothing; if no list can be found, the last one stays in
 * use.
 */

import { RpcError } from "../errors.ts";
import { MAX_TIMER_MS, OPTION_KINDS } from "../limits.ts";
import { Sweeper } from "../session/deadlines.ts";
import { clientTelemetry } from "../session/telemetry.ts";
import { TurnPace, YieldBudget } from "../session/yield_budget.ts";
import { type Clock, type Timer, within } from "../transport/clock.ts";
import { isDenied, messageOf } from "../transport/runtime.ts";
import type { Transport } from "../transport/transport.ts";
import type { CallConnection } from "./client_call.ts";
import type { ClientConnection } from "./client_connection.ts";
import { Link, type LinkOwner, type LinkState } from "./link.ts";
import type { SentCalls } from "./calls.ts";

/**
 * The function that finds the servers is called again after this time, if calls are made. Names are often cached as
 * long.
 */
const ASK_AGAIN_MS = 30_000;

/** After a loss, a failed dial or its own failure, the function is called again, but no sooner than this. */
const ASK_SOONEST_MS = 1_000;

/** How long the function may take. */
const ASK_TIMEOUT_MS = 10_000;

/** The status of one server of a client. */
export interface ServerStatus extends SentCalls {
  /** The server, as `servers` names it. */
  readonly address: string;
  /**
   * `open`: it takes calls; `connecting`; `waiting` before the next attempt to connect; `going`: it is about to stop,
   * and gets calls only if no other server takes them; `idle`: it has no connection until a call needs one; `closed`.
   */
  readonly state: LinkState;
  /** Its unanswered calls and streams. */
  readonly inFlight: number;
  /** The delay before the next attempt to connect, in milliseconds. */
  readonly waitMs: number;
  /** The error of the last attempt to connect or of the last lost connection, until there is a new connection. */
  readonly error: RpcError | undefined;
}

/** Where the servers are. */
export interface ServersOptions {
  /** The servers, or a function that finds them. */
  readonly servers: readonly string[] | (() => readonly string[] | Promise<readonly string[]>);
  readonly connectionsPerServer: number;
  /** Makes a connection to one of them. */
  readonly dial: (signal: AbortSignal, server: string) => Promise<Transport>;
  readonly clock: Clock;
  readonly random: () => number;
}

/** The servers of one client. */
export class Servers {
  /** Whether a connection was lost or a dial failed, so that the servers may have changed. */
  isStale = false;
  readonly #options: ServersOptions;
  readonly #owner: LinkOwner;
  #links: Link[] = [];
  #asking: Promise<void> | undefined;
  /** Ends the wait for the function. */
  #attempt = new AbortController();
  #askedMs = -Infinity;
  /** Why the function found no servers. */
  #unknown: RpcError | undefined;
  /** Runs while calls wait for the function to find the first servers. */
  #nextAsk: Timer | undefined;
  /** Whether `open()` waits for a connection. */
  #isOpening = false;
  /** Keeps the program alive. */
  #waiting: Timer | undefined;
  #closed: RpcError | undefined;

  constructor(options: ServersOptions, owner: LinkOwner) {
    this.#options = options;
    this.#owner = owner;
    if (typeof options.servers !== "function") this.#use(options.servers);
  }

  /** Dials all servers. Resolves when one is reached, and rejects if none can be. */
  async open(): Promise<void> {
    this.#isOpening = true;
    this.keepAlive();
    try {
      await this.#open();
    } finally {
      this.#isOpening = false;
      this.keepAlive();
    }
  }

  async #open(): Promise<void> {
    if (typeof this.#options.servers === "function") await this.#ask();
    if (this.#unknown !== undefined) throw isDenied(this.#unknown.cause) ? this.#unknown.cause : this.#unknown;
    try {
      await Promise.any(this.#links.map((link) => link.dial()));
    } catch (error) {
      const { errors } = error as AggregateError;
      throw this.#closed ?? errors.find(isDenied) ?? (errors.length === 1 ? errors[0] : this.obstacle);
    }
  }

  /**
   * Keeps the program alive while `open()` or a call waits for a connection. The timers of dials do not keep it alive,
   * because dials go on when nobody waits for them any more.
   */
  keepAlive(): void {
    const { clock } = this.#options;
    const isNeeded = this.#isNeeded;
    if (!isNeeded && this.#waiting !== undefined) {
      clock.clearTimer(this.#waiting);
      this.#waiting = undefined;
    } else if (isNeeded && this.#waiting === undefined) {
      const again = () => {
        this.#waiting = undefined;
        this.keepAlive();
      };
      this.#waiting = clock.setTimer(again, MAX_TIMER_MS, true);
    }
  }

  /** Whether `open()` or a call waits for a connection. */
  get #isNeeded(): boolean {
    return this.#closed === undefined && (this.#isOpening || this.#owner.isStranded);
  }

  /** Dials servers without a connection, and looks for servers, each if it is time. */
  seek(): void {
    this.keepAlive();
    for (const link of this.#links) link.seek();
    const { servers, clock } = this.#options;
    if (typeof servers !== "function" || this.#nextAsk !== undefined) return;
    if (clock.now() - this.#askedMs >= (this.isStale ? ASK_SOONEST_MS : ASK_AGAIN_MS)) void this.#ask();
  }

  /** Whether there is a connection that takes calls, even if it is full for the moment. */
  get isOpen(): boolean {
    return this.#links.some((link) => link.isOpen);
  }

  /** The state of the client as a whole. */
  get state(): "open" | "connecting" | "waiting" | "idle" {
    const links = this.#links;
    if (links.some(({ state }) => state === "open" || state === "going")) return "open";
    if (this.#asking !== undefined || links.some(({ activity }) => activity === "connecting")) return "connecting";
    const isWaiting = this.#nextAsk !== undefined || links.some(({ activity }) => activity === "waiting");
    return isWaiting ? "waiting" : "idle";
  }

  /** Why there is no connection. */
  get obstacle(): RpcError | undefined {
    if (this.#links.length === 0) return this.#unknown ?? unknownServers("the function has not returned");
    const errors = this.#links.map((link) => link.obstacle).filter((error) => error !== undefined);
    if (errors.length < 2) return errors[0];
    const texts = new Set(errors.map((error) => error.toJSON().msg ?? error.code));
    return new RpcError("CONNECTION_LOST", [...texts].join("; "), { retryable: true, cause: errors[0] });
  }

  /** The status of all servers. */
  status(connections: Iterable<ClientConnection>): ServerStatus[] {
    return this.#links.map((link) => {
      let inFlight = 0;
      for (const { place, unanswered } of connections) if (place === link) inFlight += unanswered;
      const { address, state, waitMs, lastError: error, calls } = link;
      return { address, state, inFlight, waitMs, error, ...calls };
    });
  }

  /** Of two connections that are picked at random, the one with fewer calls in flight. */
  better(connections: readonly ClientConnection[]): ClientConnection {
    const { length } = connections;
    if (length === 1) return connections[0];
    const first = this.#below(length);
    let second = this.#below(length - 1);
    if (second >= first) second++;
    const [one, other] = [connections[first], connections[second]];
    return one.unanswered <= other.unanswered ? one : other;
  }

  close(reason: RpcError): void {
    this.#closed = reason;
    this.keepAlive();
    this.#attempt.abort(reason);
    if (this.#nextAsk !== undefined) this.#options.clock.clearTimer(this.#nextAsk);
    for (const link of this.#links) link.close(reason);
  }

  #below(count: number): number {
    return Math.min(count - 1, Math.floor(this.#options.random() * count));
  }

  /** Calls the function. Never rejects. */
  #ask(): Promise<void> {
    return this.#asking ??= this.#findServers().finally(() => {
      this.#asking = undefined;
      if (this.#closed === undefined) this.#owner.onLinkState(this.#unknown);
    });
  }

  async #findServers(): Promise<void> {
    const { servers, clock } = this.#options;
    this.#askedMs = clock.now();
    this.isStale = false;
    const attempt = this.#attempt = new AbortController();
    const late = () => new Error(`the function has not returned within ${ASK_TIMEOUT_MS} ms`);
    const ask = async () => await (servers as () => Promise<readonly string[]>)();
    try {
      const found = await within(clock, ASK_TIMEOUT_MS, ask(), late, attempt);
      if (!OPTION_KINDS.texts.is(found)) throw new TypeError("the function did not return an array of texts");
      if (found.length === 0) throw new TypeError("the function returned no servers");
      this.#use(found);
      this.#unknown = undefined;
    } catch (error) {
      this.#unknown = error instanceof RpcError ? error : unknownServers(error);
      this.#askAgain();
    }
  }

  /** Calls the function again later, if calls wait and there is no server to dial. */
  #askAgain(): void {
    if (this.#closed !== undefined || this.#links.length > 0 || !this.#owner.isStranded) return;
    const ask = () => {
      this.#nextAsk = undefined;
      if (this.#owner.isStranded) void this.#ask();
    };
    this.#nextAsk = this.#options.clock.setTimer(ask, ASK_SOONEST_MS, false);
  }

  /** Uses a new list of servers. Keeps the links to servers that are still in it. */
  #use(servers: readonly string[]): void {
    const { dial, clock, random, connectionsPerServer } = this.#options;
    const before = new Map<string, Link[]>();
    for (const link of this.#links) before.set(link.address, [...before.get(link.address) ?? [], link]);
    this.#links = [];
    // While another server is open, a dial goes on: it is for the calls to come.
    const isAwaited = () => this.#isNeeded || this.isOpen;
    for (const server of new Set(servers)) {
      const links = before.get(server) ??
        Array.from({ length: connectionsPerServer }, () => {
          return new Link(server, this.#owner, { dial: (signal) => dial(signal, server), isAwaited, clock, random });
        });
      before.delete(server);
      this.#links.push(...links);
    }
    const reason = new RpcError("CLOSED", "the server is no longer in the list");
    for (const links of before.values()) for (const link of links) link.close(reason);
  }
}

function unknownServers(cause: unknown): RpcError {
  const text = `cannot find the servers: ${messageOf(cause)}`;
  return new RpcError("CONNECTION_LOST", text, { retryable: true, cause });
}

/** A call that has no answer yet and gets a second copy. */
export interface LateCall {
  readonly isSettled: boolean;
  /** The connection that the call was sent on; `undefined` while it waits to be sent again. */
  readonly connection: CallConnection | undefined;
  /** Sends the second copy. */
  sendSecond(connection: ClientConnection, nowMs: number): void;
}

/** The connections of one client. */
export class Connections {
  /** The calls whose second copies wait for another connection. */
  readonly late = new Set<LateCall>();
  readonly #all = new Set<ClientConnection>();
  readonly #sweeper: Sweeper;
  /** The bytes that all connections have received and sent. */
  readonly traffic = { bytesReceived: 0, bytesSent: 0 };
  /** How much of what they receive is processed before the program gets its turn. */
  readonly pace: TurnPace;
  readonly #yieldBudget: YieldBudget;
  readonly #unobserve: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#sweeper = new Sweeper(clock, this.#all);
    this.#yieldBudget = new YieldBudget(clock);
    this.pace = new TurnPace(this.#yieldBudget);
    this.#unobserve = clientTelemetry?.observe(() => ({
      calls: this.unanswered,
      connections: this.#all.size,
      ...this.traffic,
    }));
  }

  /** Unanswered calls and streams. */
  get unanswered(): number {
    let calls = 0;
    for (const { unanswered } of this.#all) calls += unanswered;
    return calls;
  }

  [Symbol.iterator](): Iterator<ClientConnection> {
    return this.#all.values();
  }

  add(connection: ClientConnection): void {
    this.#all.add(connection);
  }

  delete(connection: ClientConnection): void {
    this.#all.delete(connection);
  }

  /** A connection has an open call, so all are checked from now on. */
  watch(): void {
    this.#sweeper.start();
  }

  /**
   * At the end of a turn, lets each connection send what goes before calls.
   *
   * @param hasOpen Whether there is a connection that its server does not want to end. If so, the others are left out.
   * @returns The connections that take calls, if there are any.
   */
  prepare(nowMs: number, hasOpen: boolean): ClientConnection[] | undefined {
    let ready: ClientConnection[] | undefined;
    for (const connection of this.#all) {
      if (!connection.prepare(nowMs) || connection.isGoing && hasOpen) continue;
      if (ready === undefined) ready = [connection]; // an empty array that grows takes room for 17
      else ready.push(connection);
    }
    return ready;
  }

  /**
   * Where a second copy may go: the connections with room to other servers, or else other connections with room. One
   * that is not ready, such as a quiet one, is worth the wait: it wakes the client.
   */
  beside(first: CallConnection): ClientConnection[] {
    return othersThan(first, [...this.#all].filter(({ hasRoom }) => hasRoom));
  }

  /** Sends the second copies that may go to ready connections, each to the better one. The others wait on. */
  sendSecond(ready: ClientConnection[], nowMs: number, better: (some: ClientConnection[]) => ClientConnection): void {
    for (const call of this.late) {
      if (call.isSettled) this.late.delete(call);
      if (call.isSettled || call.connection === undefined) continue;
      const others = this.beside(call.connection).filter((other) => ready.includes(other));
      if (others.length === 0) continue;
      this.late.delete(call);
      call.sendSecond(better(others), nowMs);
    }
  }

  /** Closes all connections. Never rejects. */
  async close(error: RpcError): Promise<void> {
    await Promise.all([...this.#all].map((connection) => connection.close(error)));
    this.#sweeper.stop();
    this.#yieldBudget.close();
    this.#unobserve?.();
  }
}

/** The connections to servers other than the one that was tried, or else other connections, if there are any. */
export function elsewhere(ready: ClientConnection[], tried: CallConnection): ClientConnection[] {
  const others = othersThan(tried, ready);
  return others.length > 0 ? others : ready;
}

/** The connections to servers other than that of the first one, or else all others. */
function othersThan(first: CallConnection, connections: ClientConnection[]): ClientConnection[] {
  const servers = connections.filter(({ peer }) => peer !== first.peer);
  return servers.length > 0 ? servers : connections.filter((connection) => connection !== first);
}
