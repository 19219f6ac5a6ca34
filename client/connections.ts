/**
 * All connections of a client, also old ones that still wait for replies: which of them take calls.
 *
 * In: connections. Out: those that have room for calls. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";
import { Sweeper } from "../session/sweeper.ts";
import { clientTelemetry } from "../session/telemetry.ts";
import type { Clock } from "../transport/clock.ts";
import type { CallConnection } from "./client_call.ts";
import type { ClientConnection } from "./client_connection.ts";

/** The connections of one client. */
export class Connections {
  readonly #all = new Set<ClientConnection>();
  readonly #sweeper: Sweeper;
  /** What all of them have received and sent. */
  readonly traffic = { bytesReceived: 0, bytesSent: 0 };
  readonly #unobserve: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#sweeper = new Sweeper(clock, this.#all);
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

  /** One of them has an open call: all are checked from now on. */
  watch(): void {
    this.#sweeper.start();
  }

  /**
   * At the end of a turn: lets all send what goes before calls.
   *
   * @param hasOpen Whether a connection has a server that does not want to end it: then the others are left out.
   * @returns Those that take calls, if there are any.
   */
  prepare(nowMs: number, hasOpen: boolean): ClientConnection[] | undefined {
    let ready: ClientConnection[] | undefined;
    for (const connection of this.#all) {
      if (!connection.prepare(nowMs) || connection.isGoing && hasOpen) continue;
      if (ready === undefined) ready = [connection]; // an array that grows from nothing takes room for 17
      else ready.push(connection);
    }
    return ready;
  }

  /** Whether another one takes a call now. */
  hasRoomBeside(connection: CallConnection): boolean {
    for (const other of this.#all) if (other !== connection && other.hasRoom) return true;
    return false;
  }

  /** Ends all. Never rejects. */
  async close(error: RpcError): Promise<void> {
    await Promise.all([...this.#all].map((connection) => connection.close(error)));
    this.#sweeper.stop();
    this.#unobserve?.();
  }
}

/** Connections to other servers than one that was tried, or at least other connections, if there are any. */
export function elsewhere(ready: ClientConnection[], tried: CallConnection): ClientConnection[] {
  const servers = ready.filter(({ peer }) => peer !== tried.peer);
  const others = servers.length > 0 ? servers : ready.filter((connection) => connection !== tried);
  return others.length > 0 ? others : ready;
}
