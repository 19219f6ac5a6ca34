/**
 * A peer that sends and receives bytes, for tests of the wire format.
 *
 * Frames are encoded and decoded here independently of `codec/frame.ts`, so that a mistake there shows. Values go
 * through `codec/msgpack.ts`, which is tested against `@std/msgpack`.
 */

import { connect as connectSocket, type Socket } from "node:net";
import { setImmediate } from "node:timers";
import { assertEquals } from "@std/assert";
import { decode, encode } from "../../codec/msgpack.ts";
import { type Command, command, type Context } from "../../handlers/command.ts";
import type { ErrorOrigin } from "../../handlers/event_log.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import type { ListeningServer, ServeOptions } from "../../server.ts";
import { serve } from "./demo_server.ts";
import { serveOne } from "./serve_one.ts";
import { dialAddress, parseServer } from "../../transport/address.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { memoryPair } from "../../transport/memory.ts";
import { closeQuietly, type Transport as Connection, writeAll } from "../../transport/transport.ts";
import { standardError } from "../../transport/standard_error.ts";
import { FakeClock } from "./fake_clock.ts";
import { FaultProxy, type ProxyOptions } from "../faults/fault_proxy.ts";
import { type Address, addressIn, type Place, TCP, type Transport } from "./transports.ts";

/** A reply, or any other message, as its fields. */
export type Message = Record<string, unknown>;

/** How long a peer waits for bytes before the test fails. Nothing here takes that long. */
const PATIENCE_MS = 10_000;

// Bytes --------------------------------------------------------------------------------------------------------------

/** Bytes as text: `20 26 81`. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/** Text as bytes, blanks ignored. */
export function unhex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replaceAll(/\s/g, "");
  return Uint8Array.from(
    { length: digits.length / 2 },
    (_, index) => parseInt(digits.slice(2 * index, 2 * index + 2), 16),
  );
}

/** Pieces as one. */
export function concat(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Bytes cut into pieces of one size. */
export function chunksOf(bytes: Uint8Array, size: number): Uint8Array[] {
  return Array.from(
    { length: Math.ceil(bytes.length / size) },
    (_, index) => bytes.slice(index * size, (index + 1) * size),
  );
}

// Frames -------------------------------------------------------------------------------------------------------------

/** A payload in its frame: short below 57,311 bytes, else long. */
export function frame(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const size = payload.length;
  const header = size < 57_311
    ? [((size >> 8) + 32) % 256, ((size % 256) + 32) % 256]
    : [0x1f, 0x1f, (size >> 24) & 255, (size >> 16) & 255, (size >> 8) & 255, size & 255];
  return concat(Uint8Array.from(header), payload, Uint8Array.of(0x0a));
}

/** A request, a control message or a reply as a frame: the fields in their order. */
export function message(fields: Message): Uint8Array<ArrayBuffer> {
  return frame(encode(fields));
}

/** A request as a frame. */
export const request = message;

/** A reply as a frame, as a scripted server sends it. */
export const reply = message;

/** Takes whole frames off the front of some bytes. */
export function takeFrames(bytes: Uint8Array): { payloads: Uint8Array[]; rest: Uint8Array } {
  const payloads: Uint8Array[] = [];
  let at = 0;
  while (bytes.length - at >= 2) {
    let size = ((bytes[at] + 224) % 256) * 256 + (bytes[at + 1] + 224) % 256;
    let header = 2;
    if (size === 0xffff) {
      if (bytes.length - at < 6) break;
      header = 6;
      size = new DataView(bytes.buffer, bytes.byteOffset + at + 2).getUint32(0);
    } else if (size >= 57_311) {
      throw new Error(`no frame begins with ${hex(bytes.subarray(at, at + 2))}`);
    }
    const end = at + header + size;
    if (end >= bytes.length) break;
    if (bytes[end] !== 0x0a) throw new Error(`a frame ends with ${hex(bytes.subarray(end, end + 1))}`);
    payloads.push(bytes.slice(at + header, end));
    at = end + 1;
  }
  return { payloads, rest: bytes.slice(at) };
}

/** Some bytes, which must be whole frames, as messages. */
export function messages(bytes: Uint8Array): Message[] {
  const { payloads, rest } = takeFrames(bytes);
  assertEquals(hex(rest), "", "bytes that are no whole frame");
  return payloads.map((payload) => decode(payload) as Message);
}

// Peers --------------------------------------------------------------------------------------------------------------

/** What carries a peer's bytes. */
interface Carrier {
  read(): Promise<Uint8Array | null>;
  write(bytes: Uint8Array): Promise<void>;
  closeWrite(): Promise<void>;
  close(): void;
  reset?(): void;
}

/**
 * One end of a connection, in a test's hand. It reads nothing until the first time it is asked for a reply; from then on
 * it reads all that comes.
 */
export class Peer implements AsyncDisposable {
  readonly #chunks: Uint8Array[] = [];
  readonly #carrier: Carrier;
  readonly #replies: Message[] = [];
  #held: Uint8Array = new Uint8Array(0);
  #reading: Promise<void> | undefined;
  #ended = false;
  #error: unknown;
  #wake = () => {};

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  /** All bytes that have come. */
  get received(): Uint8Array {
    return concat(...this.#chunks);
  }

  /** Sends bytes as they are, each piece in a write of its own; resolves when they have been taken. */
  async sendBytes(...pieces: Uint8Array[]): Promise<void> {
    for (const piece of pieces) await inTime(this.#carrier.write(piece));
  }

  /** Sends requests and control messages, all in one write. */
  send(...fields: Message[]): Promise<void> {
    return this.sendBytes(concat(...fields.map(message)));
  }

  /** Sends one request, and reads one reply. */
  async ask(fields: Message): Promise<Message> {
    await this.send(fields);
    return await this.readReply();
  }

  /** Says that no more will be sent. */
  halfClose(): Promise<void> {
    return this.#carrier.closeWrite();
  }

  /** Ends the connection as a process that was killed with work left does: by a reset. */
  reset(): void {
    if (this.#carrier.reset === undefined) throw new Error("this peer was not made to be reset");
    this.#carrier.reset();
  }

  /** The next reply. */
  async readReply(): Promise<Message> {
    const [first] = await this.readReplies(1);
    return first;
  }

  /** The next replies; an error if the connection ends before. */
  async readReplies(count: number): Promise<Message[]> {
    await this.#until(() => this.#replies.length >= count);
    if (this.#replies.length < count) {
      throw new Error(`the connection ended after ${this.#replies.length} of ${count} replies`, { cause: this.#error });
    }
    return this.#replies.splice(0, count);
  }

  /** All replies up to the end of the connection; an error if it breaks, or ends inside a frame. */
  async readToEnd(): Promise<Message[]> {
    await this.#until(() => false);
    if (this.#error !== undefined) throw this.#error;
    assertEquals(hex(this.#held), "", "the connection ended inside a frame");
    return this.#replies.splice(0);
  }

  /** All replies up to the end of the connection, in order or not: what is cut off over TLS says no goodbye there. */
  async readToBreak(): Promise<Message[]> {
    await this.#until(() => false);
    const broken = [Deno.errors.ConnectionReset, Deno.errors.UnexpectedEof, Deno.errors.BrokenPipe];
    if (this.#error !== undefined && !broken.some((kind) => this.#error instanceof kind)) throw this.#error;
    return this.#replies.splice(0);
  }

  /** One read; answers with how many bytes it brought. For a peer that reads slowly, and in no other way. */
  async readBytesOnce(): Promise<number> {
    return (await inTime(this.#carrier.read()))?.length ?? 0;
  }

  /** What has been read by now. */
  takeReady(): Message[] {
    this.#read();
    return this.#replies.splice(0);
  }

  /** What has come by now; everything that runs has had its turn before. */
  async readReady(): Promise<Message[]> {
    this.#read();
    await settle();
    return this.takeReady();
  }

  /** Whether the other end has ended the connection, in order or by a reset. */
  async hasEnded(): Promise<boolean> {
    this.#read();
    await settle();
    return this.#ended;
  }

  close(): void {
    this.#carrier.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#reading;
    await settle(3);
  }

  async #until(done: () => boolean): Promise<void> {
    this.#read();
    while (!done() && !this.#ended) {
      await inTime(new Promise<void>((resolve) => this.#wake = resolve));
    }
  }

  #read(): void {
    this.#reading ??= this.#readAll();
  }

  async #readAll(): Promise<void> {
    try {
      for (let bytes; (bytes = await this.#carrier.read()) !== null;) {
        this.#chunks.push(bytes);
        const { payloads, rest } = takeFrames(concat(this.#held, bytes));
        this.#held = rest;
        for (const payload of payloads) this.#replies.push(decode(payload) as Message);
        this.#wake();
      }
    } catch (error) {
      this.#error = error;
    }
    this.#ended = true;
    this.#wake();
  }
}

/** Gives everything that waits for its turn, and for nothing else, its turn. No time passes on a fake clock. */
export async function settle(turns = 150): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** Lets a shutdown begin: the server accepts what waits first, for some turns and up to a timer, and closes its port. */
export async function settleShutdown(): Promise<void> {
  await settle();
  await new Promise((resolve) => setTimeout(resolve, 0));
  await settle();
}

/** Fails a test that would hang. */
async function inTime<Value>(promise: Promise<Value>): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing has moved for ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A peer on a socket, of whatever kind the server's is. */
export async function connectPeer(address: Address): Promise<Peer> {
  if (address.url !== undefined) return webSocketPeer(await openWebSocket(address.url, address));
  const conn = await openSocket(address);
  const buffer = new Uint8Array(64 * 1024);
  return new Peer({
    async read() {
      const size = await conn.read(buffer);
      return size === null ? null : buffer.slice(0, size);
    },
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    closeWrite: () => conn.closeWrite(),
    close() {
      try {
        conn.close();
      } catch (error) {
        if (!(error instanceof Deno.errors.BadResource)) throw error;
      }
    },
  });
}

/** A WebSocket to a server. */
export function openWebSocket(url: string, { tls }: Address = {}): Promise<Connection> {
  return dialAddress(denoNetwork, { ...parseServer(url, 0), tls }, new AbortController().signal);
}

/** A peer on a WebSocket. */
export function webSocketPeer(transport: Connection): Peer {
  const buffer = new Uint8Array(64 * 1024);
  return new Peer({
    async read() {
      const size = await transport.read(buffer).catch((error) => {
        // A server that ends a connection at once says so, if it still can.
        const isBreak = /without a close frame$|closed the WebSocket with 1001,/.test(error.message);
        throw isBreak ? new Deno.errors.UnexpectedEof(error.message) : error;
      });
      return size === null ? null : buffer.slice(0, size);
    },
    write: (bytes) => writeAll(transport, bytes),
    closeWrite: () => transport.closeWrite(),
    close: () => transport.close(),
  });
}

/** A socket to a server, and nothing more. */
export async function openSocket({ port = 0, path, tls }: Address): Promise<Deno.Conn> {
  if (path !== undefined) return await Deno.connect({ transport: "unix", path });
  if (tls === undefined) return await Deno.connect({ hostname: "127.0.0.1", port });
  const conn = await Deno.connectTls({ hostname: "127.0.0.1", port, caCerts: tls.ca === undefined ? [] : [tls.ca] });
  await conn.handshake();
  return conn;
}

/** A peer on a socket of TCP. */
export function connectTcp(port: number): Promise<Peer> {
  return connectPeer({ port });
}

/** The port of an address. */
function portOf({ port = 0, url }: Address): number {
  return url === undefined ? port : Number(new URL(url).port);
}

/** A proxy before a server, and the address of the server through it. */
export async function startProxy(address: Address, options?: Omit<ProxyOptions, "port">) {
  const proxy = await FaultProxy.start({ port: portOf(address), ...options });
  const { tls, url } = address;
  const { port } = proxy;
  const through: Address = url === undefined ? { port, tls } : { url: Object.assign(new URL(url), { port }).href, tls };
  return Object.assign(proxy, { through });
}

/** A peer that can be reset: on a socket of `node:net`, the only kind that has a way to; under TLS, one between. */
export async function connectResettable(address: Address): Promise<Peer> {
  const { port = 0, tls, url } = address;
  if (tls !== undefined || url !== undefined) {
    const proxy = await startProxy(address);
    const peer = await connectPeer(proxy.through);
    return Object.assign(peer, {
      reset: () => proxy.cutAll("RST"),
      async [Symbol.asyncDispose]() {
        await Peer.prototype[Symbol.asyncDispose].call(peer);
        await proxy[Symbol.asyncDispose]();
      },
    });
  }
  const socket: Socket = connectSocket({ host: "127.0.0.1", port, noDelay: true, allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.on("error", () => {}); // the reader sees it
  const chunks = socket[Symbol.asyncIterator]();
  return new Peer({
    read: async () => (await chunks.next()).value ?? null,
    write: (bytes) =>
      new Promise((resolve, reject) => socket.write(bytes, (error) => error ? reject(error) : resolve())),
    closeWrite: () => new Promise((resolve) => socket.end(resolve)),
    close: () => void socket.destroy(),
    reset: () => void socket.resetAndDestroy(),
  });
}

/** A peer in memory, and what its other end leads to. */
export function memoryPeer(): [Peer, Connection] {
  const [here, there] = memoryPair();
  const peer = new Peer({
    async read() {
      const buffer = new Uint8Array(64 * 1024);
      const readBytes = await here.read(buffer);
      return readBytes === null ? null : buffer.subarray(0, readBytes);
    },
    write: (bytes) => writeAll(here, bytes),
    closeWrite: () => here.closeWrite(),
    close: () => closeQuietly(here),
  });
  return [peer, there];
}

// Handlers -----------------------------------------------------------------------------------------------------------

/** A call whose handler waits for the test. */
export interface HeldCall {
  readonly params: Message;
  readonly context: Context;
  /** Answers. */
  finish(result?: unknown): void;
  /** Fails. */
  fail(error: unknown): void;
}

/** A command whose handlers end when the test says so, and who notice nothing else. */
export class Held {
  /** All calls so far, in the order in which their handlers began. */
  readonly calls: HeldCall[] = [];
  /** Handlers that run now, and the most that ever did. */
  running = 0;
  peak = 0;
  /** For the commands of a server. */
  readonly command: Command<Message, unknown> = command({
    handler: (params: Message, context) => this.#hold(params, context),
  });

  /** Lets all go that wait now. */
  finishAll(): void {
    for (const call of this.calls) call.finish();
  }

  async #hold(params: Message, context: Context): Promise<unknown> {
    this.running++;
    this.peak = Math.max(this.peak, this.running);
    try {
      return await new Promise((resolve, reject) => {
        this.calls.push({
          params,
          context,
          finish: (result = params.id ?? null) => resolve(result),
          fail: reject,
        });
      });
    } finally {
      this.running--;
    }
  }
}

// Servers ------------------------------------------------------------------------------------------------------------

/** What this process writes to stderr while something runs, as lines. */
export async function stderrLines(run: () => Promise<void>): Promise<string[]> {
  let text = "";
  const original = Deno.stderr.write;
  Deno.stderr.write = (bytes) => {
    text += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  };
  try {
    await run();
    await standardError.flush();
  } finally {
    Deno.stderr.write = original;
  }
  return text.split("\n").slice(0, -1);
}

/** What reached a server's `onError`. What a test does not take makes it fail. */
export class ErrorLog {
  readonly #errors: { error: unknown; origin: ErrorOrigin }[] = [];

  /** The hook, for the options of a server. */
  readonly onError = (error: unknown, origin: ErrorOrigin): void => {
    this.#errors.push({ error, origin });
  };

  /** The errors so far, which are then forgotten. */
  take(): unknown[] {
    return this.#errors.splice(0).map(({ error }) => error);
  }

  /** As {@linkcode take}, with where each came from. */
  takeWithOrigin(): { error: unknown; origin: ErrorOrigin }[] {
    return this.#errors.splice(0);
  }

  /** Fails if there is an error that nobody took. */
  assertEmpty(): void {
    const [first] = this.take();
    if (first !== undefined) {
      throw new Error("an error reached the hook that the test did not expect", { cause: first });
    }
  }
}

/** A listening server and its peers. */
export class TestServer implements AsyncDisposable {
  readonly server: ListeningServer;
  readonly errors: ErrorLog;
  readonly #clock: unknown;
  readonly #place: Place;
  readonly #peers: Peer[] = [];

  constructor(server: ListeningServer, errors: ErrorLog, clock: unknown, place: Place) {
    this.server = server;
    this.errors = errors;
    this.#clock = clock;
    this.#place = place;
  }

  get port(): number {
    return this.server.port;
  }

  /** Where a client finds it. */
  get address(): Address {
    return addressIn(this.#place, this.port);
  }

  /** A peer, which is closed with the server. */
  async connect(): Promise<Peer> {
    return this.#keep(await connectPeer(this.address));
  }

  /** A peer that can be reset, which is closed with the server. */
  async connectResettable(): Promise<Peer> {
    return this.#keep(await connectResettable(this.address));
  }

  /** Closes the peers, then the server, which does not wait for what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#peers) await peer[Symbol.asyncDispose]();
    const shutdown = this.server.shutdown({ graceMs: 0 });
    if (this.#clock instanceof FakeClock) await this.#clock.advance(5_000);
    await shutdown;
    await this.#place[Symbol.asyncDispose]();
    this.errors.assertEmpty();
  }

  #keep(peer: Peer): Peer {
    this.#peers.push(peer);
    return peer;
  }
}

/** A server on this machine: on a free port of TCP, unless another transport is given. */
export async function withServer(options: ServeOptions = {}, transport: Transport = TCP): Promise<TestServer> {
  const errors = new ErrorLog();
  const place = await transport.place();
  const server = await serve({ ...place.serve, onError: errors.onError, ...options });
  return new TestServer(server, errors, options.clock, place);
}

/** A connection served in memory: as a socket, but nothing in it takes time. */
export class ServedInMemory implements AsyncDisposable {
  readonly peer: Peer;
  readonly errors = new ErrorLog();
  /** Resolves when the server has done with the connection. */
  readonly served: Promise<void>;

  constructor(options: ServerOptions) {
    const [peer, there] = memoryPeer();
    this.peer = peer;
    this.served = serveOne(there, { onError: this.errors.onError, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
    await this.served;
    this.errors.assertEmpty();
  }
}

/** A connection in memory, and the peer at its end. */
export function withMemory(options: ServerOptions = {}): ServedInMemory {
  return new ServedInMemory(options);
}
