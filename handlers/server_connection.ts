/**
 * Serves one connection of a server, from accept to close.
 *
 * In: a transport. Out: a promise of its end, which never rejects. Refused: nothing.
 */

import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage } from "../codec/encode.ts";
import type { ClientMessage, Reply } from "../codec/message.ts";
import { readRequest } from "../codec/read_message.ts";
import { Connection } from "../session/connection.ts";
import { ReadPace } from "../session/read_pace.ts";
import type { Transport } from "../transport/transport.ts";
import type { Call } from "./call.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { DispatchStage } from "./dispatch.ts";
import type { OpenConnection, ServerState } from "./server_state.ts";

/** How long a connection waits for its peer to close after the last reply, so that the reply is not lost to a reset. */
const LINGER_MS = 2_000;

/** One connection of a server. */
export class ServerConnection implements OpenConnection {
  readonly #connection: Connection<ClientMessage, Reply<Call>>;
  readonly #dispatch: DispatchStage;

  constructor(server: ServerState, transport: Transport) {
    const { clock, limits, counts } = server;
    const pace = new ReadPace(server);
    const options = {
      clock,
      limits,
      unnamedPeer: "unknown peer",
      lingerMs: LINGER_MS,
      traffic: counts,
      pace,
    };
    let dispatch!: DispatchStage;
    this.#connection = new Connection(transport, options, (connection) => {
      dispatch = new DispatchStage(server, connection, pace);
      const encode = new EncodeStage(dispatch.encoding, connection.output);
      return { decode: new DecodeStage(readRequest, limits, true), dispatch, encode };
    });
    this.#dispatch = dispatch;
  }

  /** The connection as the service sees it. */
  get caller(): CallerConnection {
    return this.#dispatch.caller;
  }

  /** Serves until both directions have ended or the connection is closed. */
  run(): Promise<void> {
    return this.#connection.run();
  }

  get ended(): Promise<void> {
    return this.#connection.ended;
  }

  drain(): void {
    this.#dispatch.drain();
  }

  cut(): void {
    this.#dispatch.cut();
  }

  close(): void {
    this.#connection.close();
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    this.#connection.sweep(nowMs, isBehind);
    return true;
  }
}
