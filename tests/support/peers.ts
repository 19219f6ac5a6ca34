/** Peers that send and receive bytes: over each transport, and in memory. */

import { connect as connectSocket, type Socket } from "node:net";
import { setImmediate } from "node:timers";
import { assertEquals } from "@std/assert";
import { decode } from "./msgpack.ts";
import { dialAddress, parseServer } from "../../transport/address.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { memoryPair } from "../../transport/memory.ts";
import { closeQuietly, type Transport as Connection, writeAll } from "../../transport/transport.ts";
import { FaultProxy, type ProxyOptions } from "../faults/fault_proxy.ts";
import type { Address } from "./transports.ts";
import { concat, hex, type Message, message, takeFrames } from "./wire.ts";

/** How long a peer waits for bytes before the test fails. Nothing here takes that long. */
const PATIENCE_MS = 10_000;

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
  return socketPeer(await openSocket(address));
}

/** A peer on a socket that is open. */
export function socketPeer(conn: Deno.Conn): Peer {
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

/**
 * Connects from another process, sends some bytes and resets each connection, before this process looks at its sockets
 * again.
 */
export function resetUnseen(port: number, connections: number, bytes: readonly number[]): void {
  const program = `
    import { connect } from "node:net";
    for (let left = ${connections}; left > 0; left--) {
      await new Promise((resolve) => {
        const socket = connect(${port}, "127.0.0.1", () => {
          socket.write(Uint8Array.from(${JSON.stringify(bytes)}), () => socket.resetAndDestroy());
        });
        socket.once("close", resolve);
      });
    }`;
  const { success, stderr } = new Deno.Command(Deno.execPath(), { args: ["eval", program] }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
