/**
 * A load on a server in simulated time: sockets that keep what arrives until the runtime looks at them, and a runtime that does
 * so only between two computations. It has no other costs, so that the same load always gives the same result.
 *
 * In: a server, requests and when they arrive. Out: each reply, and when it was written.
 */

import { createServer } from "../../server.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import type { Transport } from "../../transport/transport.ts";
import { type FakeClock, turn } from "./fake_clock.ts";
import { concat, type Message, message, messages } from "./wire.ts";

/** A request of the load. */
export interface Arriving {
  /** When it arrives, from the begin of the load. */
  atMs: number;
  /** On which connection. */
  connection: number;
  /** The request, with a `seq` of its own or with none. */
  request: Message;
}

/** A reply to one of them. */
export interface Answered {
  reply: Message;
  /** How long after the request it was written. */
  afterMs: number;
}

/** After this many turns without anything new, a server has nothing more to do: it may wait for 192 of them. */
const QUIET_TURNS = 200;

/** How long a server with nothing to do sleeps at most, before the runtime looks again. */
const STEP_MS = 5;

/** How long a server may take to end. */
const AFTERWARDS_MS = 10_000;

/** Two sums of the same times may differ by so much. */
const ROUNDING_MS = 1e-6;

class SimulatedSocket implements Transport {
  readonly #onReply: (reply: Message) => void;
  readonly #arrived: Uint8Array[] = [];
  #reading: { into: Uint8Array; done: (bytes: number | null) => void } | undefined;
  #ended = false;

  constructor(onReply: (reply: Message) => void) {
    this.#onReply = onReply;
  }

  arrive(bytes: Uint8Array): void {
    this.#arrived.push(bytes);
  }

  end(): void {
    this.#ended = true;
  }

  /** The runtime looks at the socket: a read completes if there is something. */
  look(): boolean {
    const reading = this.#reading;
    if (reading === undefined || this.#arrived.length === 0 && !this.#ended) return false;
    this.#reading = undefined;
    const all = concat(...this.#arrived.splice(0));
    const part = all.subarray(0, reading.into.length);
    if (part.length < all.length) this.#arrived.push(all.subarray(part.length));
    reading.into.set(part);
    reading.done(part.length || null);
    return true;
  }

  read(into: Uint8Array): Promise<number | null> {
    return new Promise((done) => this.#reading = { into, done });
  }

  write(bytes: Uint8Array): Promise<number> {
    for (const reply of messages(bytes)) this.#onReply(reply);
    return Promise.resolve(bytes.length);
  }

  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.#ended = true;
    this.#reading?.done(null);
    this.#reading = undefined;
  }
}

/**
 * Puts a load on a server until all is answered.
 *
 * @param clock The server's clock; a handler computes with `clock.compute()`.
 * @param options The server.
 * @param load The requests, in the order of their arrival.
 * @returns The answer to each request.
 */
export async function underLoad(
  clock: FakeClock,
  options: ServerOptions,
  load: readonly Arriving[],
): Promise<Answered[]> {
  const server = createServer({ ...options, clock });
  const startMs = clock.now();
  const answers = new Map<Arriving, Answered>();
  // Requests without seq are answered in their order.
  const waiting = Map.groupBy(load, ({ connection, request: { seq } }) => `${connection} ${seq}`);
  const onReply = (connection: number, reply: Message) => {
    const arriving = waiting.get(`${connection} ${reply.seq}`)!.shift()!;
    answers.set(arriving, { reply, afterMs: clock.now() - startMs - arriving.atMs });
  };
  const count = 1 + Math.max(...load.map(({ connection }) => connection));
  const sockets = Array.from({ length: count }, (_, index) => new SimulatedSocket((reply) => onReply(index, reply)));
  const served = Promise.all(sockets.map((socket) => server.accept(socket)));
  let next = 0;
  let quiet = 0;
  while (answers.size < load.length) {
    for (; next < load.length && load[next].atMs <= clock.now() - startMs + ROUNDING_MS; next++) {
      sockets[load[next].connection].arrive(message(load[next].request));
    }
    const beforeMs = clock.now();
    const ready = sockets.filter((socket) => socket.look()).length;
    await turn();
    await clock.advance(0);
    quiet = ready > 0 || clock.now() > beforeMs ? 0 : quiet + 1;
    if (quiet === QUIET_TURNS) {
      const untilNextMs = next < load.length ? load[next].atMs - (clock.now() - startMs) : Infinity;
      await clock.advance(Math.min(untilNextMs, STEP_MS));
      quiet = 0;
    }
  }
  for (const socket of sockets) socket.end();
  for (const socket of sockets) socket.look();
  let isOver = false;
  const ended = Promise.all([served, server.shutdown({ graceMs: 0 })]).then(() => isOver = true);
  // A server with many connections ends some of them only after rounds of the event loop, and their timers begin then.
  while (!isOver) await clock.advance(AFTERWARDS_MS);
  await ended;
  return load.map((arriving) => answers.get(arriving)!);
}
