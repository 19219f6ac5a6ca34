/**
 * Serves one connection of a server, from accept to close.
 *
 * In: a transport. Out: a promise of its end, which never rejects. Refused: nothing. What the server has no room for is
 * told so, and closed.
 */

import { DecodeStage } from "../codec/decode.ts";
import { encodeFrame, EncodeStage } from "../codec/encode.ts";
import { type ClientMessage, Reply } from "../codec/message.ts";
import { readRequest } from "../codec/read_message.ts";
import { writeReply } from "../codec/write_message.ts";
import type { RpcError } from "../errors.ts";
import { DEFAULT_GRACE_MS } from "../limits.ts";
import { Connection } from "../session/connection.ts";
import { StreamPipeline } from "../session/pipeline.ts";
import { ReadPace } from "../session/read_pace.ts";
import { within } from "../transport/clock.ts";
import { messageOf } from "../transport/runtime.ts";
import { closeTransport, type Transport, writeAll } from "../transport/transport.ts";
import type { CallerConnection } from "./caller_connection.ts";
import { DispatchStage } from "./dispatch.ts";
import type { ServerOutput } from "./reply_encoding.ts";
import type { OpenConnection, ServerState } from "./server_state.ts";

/** How long a connection waits for its peer to close after the last reply, so that the reply is not lost to a reset. */
const LINGER_MS = 2_000;

/** The maximum age of connections varies by up to this share, so that the clients do not all leave at once. */
const AGE_JITTER = 0.1;

/** One connection of a server. */
export class ServerConnection implements OpenConnection {
  readonly #connection: Connection<ClientMessage, ServerOutput>;
  readonly #dispatch: DispatchStage;
  /** When the connection reaches its maximum age, and when it is then cut. */
  #agedAtMs: number;
  #cutAtMs = Infinity;

  /** @param random Returns a number from 0 to 1, for the jitter of its maximum age. */
  constructor(server: ServerState, transport: Transport, random: () => number) {
    const { clock, limits, counts } = server;
    const pace = new ReadPace(server);
    const options = {
      clock,
      Pipeline: StreamPipeline,
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
      return { decode: new DecodeStage(readRequest, limits, pace), dispatch, encode };
    });
    this.#dispatch = dispatch;
    const { maxConnectionAgeMs: ageMs } = limits;
    this.#agedAtMs = ageMs === Infinity ? Infinity : clock.now() + ageMs * (1 + AGE_JITTER * (2 * random() - 1));
  }

  /** The connection as the service sees it. */
  get caller(): CallerConnection {
    return this.#dispatch.caller;
  }

  /** Why the connection has ended, as text. */
  get endReason(): string {
    const { endReason } = this.#dispatch;
    return messageOf(endReason?.cause ?? endReason);
  }

  /** Serves until both directions have ended or the connection is closed. */
  run(): Promise<void> {
    return this.#connection.run();
  }

  get ended(): Promise<void> {
    return this.#connection.ended;
  }

  drain(graceMs: number): void {
    this.#agedAtMs = Infinity; // it ends within this grace, which its client may have been told
    this.#dispatch.drain(graceMs);
  }

  cut(why: string): number {
    return this.#dispatch.cut(why);
  }

  close(): void {
    this.#connection.close();
  }

  sweep(nowMs: number, isBehind: boolean): boolean {
    if (nowMs >= this.#agedAtMs) {
      this.#cutAtMs = nowMs + DEFAULT_GRACE_MS;
      this.drain(DEFAULT_GRACE_MS);
    } else if (nowMs >= this.#cutAtMs) {
      this.cut("the connection has reached the largest age that the server allows");
    }
    this.#connection.sweep(nowMs, isBehind);
    return true;
  }
}

/** Tells a client why its connection is not served, and closes it: after `writeTimeoutMs` also if it does not read. */
export async function refuseConnection(
  transport: Transport,
  error: RpcError,
  { clock, limits }: Pick<ServerState, "clock" | "limits">,
): Promise<void> {
  const tell = async () => {
    await writeAll(transport, encodeFrame(new Reply(undefined, error, false), writeReply));
    await transport.closeWrite();
  };
  const late = () => new Error("the client does not read");
  await within(clock, limits.writeTimeoutMs, tell(), late).catch(() => {}); // any error: it cannot be told
  closeTransport(transport);
}
