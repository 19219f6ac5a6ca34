/**
 * A proxy that does to connections what networks and crashing processes do to them: it splits what is sent into pieces,
 * delays them, freezes, and cuts, in order (FIN) or not (RST).
 *
 *     client ── proxy ── server        up: client to server; down: server to client
 *
 * What is passed on is passed on unchanged and in order: so whatever arrives wrong was sent wrong.
 *
 * In: the port of a server, a seed, and what shall happen to each connection. Out: a port to dial instead. The faults of a
 * connection depend on the seed and on how many there were before it, and on nothing else.
 */

import { connect, createServer, type Server, type Socket } from "node:net";
import { Random } from "../support/random.ts";

/** How a connection ends: in order, or as that of a process that was killed with work left. */
export type End = "FIN" | "RST";

/** Which way bytes go. */
export type Direction = "up" | "down";

/** What happens to a connection. */
export interface Faults {
  /** Bytes go on in pieces of random sizes, up to this one. */
  largestPiece?: number;
  /** One piece in ten waits before it goes on, up to this many milliseconds. */
  longestDelayMs?: number;
  /** The connection ends, for both sides, when exactly so many bytes have gone one way and there may be more. */
  cut?: { direction: Direction; afterBytes: number; end: End };
}

/** What a proxy is given. */
export interface ProxyOptions {
  /** Where the server listens. */
  port: number;
  seed?: number;
  /** What happens to the next connection. */
  faults?: (random: Random) => Faults;
}

/** A proxy for one server. */
export class FaultProxy implements AsyncDisposable {
  /** Connections that were cut, as planned or by {@linkcode cutAll}. */
  cuts = 0;
  /** Connections so far. */
  connections = 0;
  readonly #listener: Server;
  readonly #links = new Set<Link>();
  #thawed: PromiseWithResolvers<void> | undefined;

  private constructor({ port, seed = 0, faults = () => ({}) }: ProxyOptions) {
    this.#listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      const random = new Random(seed + this.connections++);
      const link = new Link(this, client, port, faults(random), random);
      this.#links.add(link);
      void link.ended.then(() => this.#links.delete(link));
    });
  }

  static async start(options: ProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options);
    await new Promise<void>((resolve) => proxy.#listener.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    return (this.#listener.address() as { port: number }).port;
  }

  /** Resolves at once, unless everything stands still. */
  get thawed(): Promise<void> | undefined {
    return this.#thawed?.promise;
  }

  /** From now on nothing moves; the connections stay. */
  freeze(): void {
    this.#thawed ??= Promise.withResolvers();
  }

  /** All goes on. */
  resume(): void {
    this.#thawed?.resolve();
    this.#thawed = undefined;
  }

  /** Ends all connections. */
  cutAll(end: End): void {
    for (const link of this.#links) link.cut(end);
  }

  /** Ends all, and waits until nothing is left of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    this.resume();
    await Promise.all([...this.#links].map((link) => link.destroy()));
    await closed;
  }
}

/** One connection: two sockets, and what flows between them. */
class Link {
  /** Resolves when both sockets are closed. */
  readonly ended: Promise<void>;
  readonly #proxy: FaultProxy;
  readonly #client: Socket;
  readonly #server: Socket;
  #isCut = false;

  constructor(proxy: FaultProxy, client: Socket, port: number, faults: Faults, random: Random) {
    this.#proxy = proxy;
    this.#client = client;
    this.#server = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    const flows = [
      this.#flow("up", this.#client, this.#server, faults, random),
      this.#flow("down", this.#server, this.#client, faults, random),
    ];
    this.ended = Promise.all([...flows, closeOf(this.#client), closeOf(this.#server)]).then(() => {});
  }

  /** Ends the connection for both sides. */
  cut(end: End): void {
    if (this.#isCut) return;
    this.#isCut = true;
    this.#proxy.cuts++;
    for (const socket of [this.#client, this.#server]) {
      if (end === "RST") socket.resetAndDestroy();
      else socket.end();
    }
  }

  async destroy(): Promise<void> {
    this.#isCut = true;
    this.#client.destroy();
    this.#server.destroy();
    await this.ended;
  }

  /** Passes on what comes. After a cut in order, what still comes is read and dropped, up to the other end's own FIN. */
  async #flow(direction: Direction, from: Socket, to: Socket, faults: Faults, random: Random): Promise<void> {
    const cut = faults.cut?.direction === direction ? faults.cut : undefined;
    const inlet = new Inlet(from);
    let passedBytes = 0;
    for (let chunk = await inlet.next(); chunk !== null; chunk = await inlet.next()) {
      for (const piece of faults.largestPiece ? random.pieces(chunk, faults.largestPiece) : [chunk]) {
        if (faults.longestDelayMs && random.chance(0.1)) await delay(random.between(1, faults.longestDelayMs));
        await this.#proxy.thawed;
        if (this.#isCut) break;
        const taken = cut ? piece.subarray(0, cut.afterBytes - passedBytes) : piece;
        await write(to, taken);
        passedBytes += taken.length;
        if (passedBytes === cut?.afterBytes) this.cut(cut.end);
      }
    }
    // The end passes through as it came.
    if (inlet.broken) to.resetAndDestroy();
    else if (!this.#isCut) to.end();
  }
}

/** What comes from a socket, chunk by chunk; no more is read than is asked for. */
class Inlet {
  /** Whether it ended by a reset. */
  broken = false;
  #chunks: Uint8Array[] = [];
  #ended = false;
  #wake = () => {};

  constructor(socket: Socket) {
    socket.on("data", (chunk: Uint8Array) => {
      socket.pause();
      this.#chunks.push(chunk);
      this.#wake();
    });
    socket.on("error", () => this.broken = true);
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on("end", end);
    socket.on("close", end);
    this.#resume = () => socket.resume();
  }

  async next(): Promise<Uint8Array | null> {
    while (this.#chunks.length === 0 && !this.#ended) {
      this.#resume();
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.#chunks.shift() ?? null;
  }

  readonly #resume: () => void;
}

/** Resolves when the kernel has taken the bytes, or the socket is gone. */
function write(socket: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    if (!socket.writable) return resolve();
    socket.write(bytes, () => resolve());
  });
}

function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
