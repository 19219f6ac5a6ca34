/**
 * One end of a connection in the kit's hand: frames by length, as PROTOCOL.md, "The frame", says, and a transcript for
 * the line of a failed check.
 *
 * In: messages or bytes to send. Out: the peer's messages, in order. Refused: what no peer may send, by a `Wrong`.
 */

import { decode, encode, join, Raw } from "./msgpack.ts";
import { shown } from "./values.ts";

/** A message as its fields. */
export type Message = Record<string, unknown>;

/** The longest payload of a short frame. */
export const MAX_SHORT_BYTES = 57_310;

/** How long the kit waits for something that comes at once from a right peer. */
export const PATIENCE_MS = 3_000;

/** What a check has found: what came, and what is right. */
export class Wrong extends Error {
  constructor(readonly came: string, readonly right: string) {
    super(`came: ${came}; right: ${right}`);
  }
}

/** A payload in its frame. */
export function frame(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return join(payload.length > MAX_SHORT_BYTES ? longHeader(payload.length) : header(payload.length), payload, NEWLINE);
}

const NEWLINE = Uint8Array.of(0x0a);

/** The two bytes before a payload of up to 57,310 bytes. */
export function header(size: number): Uint8Array {
  return Uint8Array.of((size >> 8) + 32, (size & 255) + 32); // a Uint8Array takes them modulo 256
}

/** The six bytes before a longer one. */
export function longHeader(size: number): Uint8Array {
  return Uint8Array.of(0x1f, 0x1f, size >>> 24, size >> 16, size >> 8, size);
}

/** Whom a server's certificate may be signed by, beside those whom Deno trusts. */
export interface Tls {
  caCerts: string[];
}

/** Where a server is: a port, with TLS or without, or a unix socket. */
export type Place = { hostname: string; port: number; tls?: Tls } | { path: string };

async function connectTo(place: Place): Promise<Deno.Conn> {
  if ("path" in place) return await Deno.connect({ transport: "unix", path: place.path });
  if (place.tls === undefined) return await Deno.connect(place);
  const conn = await Deno.connectTls({ ...place, ...place.tls });
  try {
    await conn.handshake(); // A certificate that is not trusted is an error of its own, and no lost connection.
  } catch (error) {
    conn.close();
    throw error;
  }
  return conn;
}

/** What a link can hand over: a message, or the end of the peer's half. */
type Arrival = Message | "the end";

/** A connection, at either end. It reads all the time. */
export class Link implements AsyncDisposable {
  readonly #conn: Deno.Conn;
  readonly #arrivals: Arrival[] = [];
  readonly #reading: Promise<void>;
  #wrong: Wrong | undefined;
  #isClosed = false;
  #wake = () => {};
  /** What went each way, for the line of a failure. */
  readonly sent: string[] = [];
  readonly came: string[] = [];
  /** Called for each message before it waits here; true if it is dealt with. */
  onMessage: (message: Message) => boolean = () => false;
  /** Called when something can be handed over, or the peer has done something wrong. */
  onArrival: () => void = () => {};

  constructor(conn: Deno.Conn, readonly patienceMs = PATIENCE_MS) {
    this.#conn = conn;
    if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
    this.#reading = this.#read();
  }

  static async dial(place: Place, patienceMs?: number): Promise<Link> {
    return new Link(await connectTo(place), patienceMs);
  }

  /** Sends messages, in one write. */
  async send(...messages: Message[]): Promise<void> {
    this.sent.push(...messages.map(shown));
    await this.#write(join(...messages.map((message) => frame(encode(message)))));
  }

  /** Sends bytes as they are, each piece in a write of its own. */
  async sendBytes(...pieces: Uint8Array[]): Promise<void> {
    this.sent.push(pieces.length > 3 ? `${pieces.length} pieces` : pieces.map((piece) => shown(piece)).join(" | "));
    for (const piece of pieces) await this.#write(piece);
  }

  /** Ends this half of the connection. */
  async finish(): Promise<void> {
    this.sent.push("FIN");
    await (this.#conn as Deno.TcpConn).closeWrite().catch(ignore);
  }

  /** Waits until something can be handed over; false if nothing comes in time. */
  async comes(patienceMs = this.patienceMs): Promise<boolean> {
    let patient = true;
    const timer = setTimeout(() => {
      patient = false;
      this.#wake();
    }, patienceMs);
    while (this.#arrivals.length === 0 && this.#wrong === undefined && patient) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    clearTimeout(timer);
    return patient;
  }

  /** The next message, or the end of the peer's half. */
  async arrival(patienceMs = this.patienceMs): Promise<Arrival> {
    const inTime = await this.comes(patienceMs);
    if (this.#arrivals.length === 0) {
      throw inTime && this.#wrong || new Wrong(`nothing for ${patienceMs} ms`, "a message, or the end");
    }
    return this.#arrivals[0] === "the end" ? "the end" : this.#arrivals.shift()!;
  }

  /** The next message, which must come. */
  async message(patienceMs?: number): Promise<Message> {
    const arrival = await this.arrival(patienceMs);
    if (arrival === "the end") throw new Wrong("the end of the connection", "a message");
    return arrival;
  }

  /** Fails if anything comes before the end of the peer's half. */
  async expectEnd(patienceMs?: number): Promise<void> {
    const arrival = await this.arrival(patienceMs).catch((error) => {
      throw error instanceof Wrong ? new Wrong(error.came, "the end of the connection") : error;
    });
    if (arrival !== "the end") throw new Wrong(shown(arrival), "the end of the connection");
  }

  /** Whether nothing has come that was not handed over. */
  get isQuiet(): boolean {
    return this.#arrivals.length === 0;
  }

  /** Whether a message waits here. */
  get hasMessage(): boolean {
    return !this.#isClosed && this.#arrivals.length > 0 && this.#arrivals[0] !== "the end";
  }

  /** Whether the peer has ended its half, or broken the connection. */
  get hasEnded(): boolean {
    return this.#arrivals.at(-1) === "the end" || this.#wrong !== undefined;
  }

  /** Throws what the peer has sent that no peer may send. */
  check(): void {
    if (this.#wrong) throw this.#wrong;
  }

  /** Ends both halves now. What has come and was not handed over is dropped. */
  close(): void {
    this.#isClosed = true;
    try {
      this.#conn.close();
    } catch {
      // It was closed before.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#reading;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    let at = 0;
    try {
      while (at < bytes.length) at += await this.#conn.write(bytes.subarray(at));
    } catch {
      // The peer has gone, which the reading side tells.
    }
  }

  async #read(): Promise<void> {
    let held: Uint8Array = new Uint8Array(0);
    const buffer = new Uint8Array(65_536);
    while (true) {
      const size = await this.#conn.read(buffer).catch(() => null);
      if (size === null) break;
      held = join(held, buffer.subarray(0, size));
      try {
        held = this.#takeFrames(held);
      } catch (error) {
        if (!(error instanceof Wrong)) throw error;
        this.#wrong = error;
        this.#arrived();
        return this.close();
      }
    }
    if (held.length > 0) this.#wrong = new Wrong(`the end inside a frame: ${shown(held)}`, "whole frames");
    else this.#arrivals.push("the end");
    this.came.push("FIN");
    this.#arrived();
  }

  #takeFrames(bytes: Uint8Array): Uint8Array {
    let at = 0;
    while (bytes.length - at >= 2) {
      let size = (bytes[at] - 32 & 255) << 8 | (bytes[at + 1] - 32 & 255), start = at + 2;
      if (size === 0xffff) {
        if (bytes.length < start + 4) break;
        size = new DataView(bytes.buffer, bytes.byteOffset + start).getUint32(0);
        start += 4;
        if (size <= MAX_SHORT_BYTES) throw new Wrong(`a long frame of ${size} bytes`, "a short frame for up to 57310");
      } else if (size > MAX_SHORT_BYTES) {
        throw new Wrong(`the header ${shown(bytes.subarray(at, start))}`, "a length of up to 57310, or the long mark");
      }
      if (bytes.length <= start + size) break;
      if (bytes[start + size] !== 0x0a) {
        throw new Wrong(`${shown(bytes.subarray(start + size, start + size + 1))} behind the payload`, "0a");
      }
      this.#take(bytes.subarray(start, start + size));
      at = start + size + 1;
    }
    return bytes.subarray(at);
  }

  #take(payload: Uint8Array): void {
    let message: unknown;
    try {
      message = decode(payload);
    } catch (error) {
      throw new Wrong(`${shown(payload)}: ${(error as Error).message}`, "one MessagePack map");
    }
    if (typeof message !== "object" || message === null || Array.isArray(message) || message instanceof Uint8Array) {
      throw new Wrong(shown(message), "one MessagePack map");
    }
    this.came.push(shown(message));
    if (this.onMessage(message as Message)) return;
    this.#arrivals.push(message as Message);
    this.#arrived();
  }

  #arrived(): void {
    this.#wake();
    this.onArrival();
  }
}

/** A message whose bytes are not those of an encoder. */
export function raw(...bytes: number[]): Raw {
  return new Raw(Uint8Array.from(bytes));
}

function ignore(): void {}
