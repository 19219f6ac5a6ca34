/**
 * A WebSocket that the runtime's HTTP server has opened, as a transport. It is for hosts that support only HTTP.
 *
 * In: a request. Out: the response, and a transport. Refused: a request that does not open a WebSocket, or comes from a
 * page that may not, or finds no room. A client that sends more than it may is cut off, because the runtime keeps
 * reading while bytes wait here.
 *
 * The runtime has no hard end for one WebSocket: after the close frame, a silent peer keeps its socket. So the transport
 * tells when the socket is released, and a request without room gets an answer of HTTP, not a WebSocket that is refused.
 */

import type { Refusal } from "./acceptor.ts";
import { addressText } from "./address.ts";
import type { Clock } from "./clock.ts";
import type { Origins } from "./origins.ts";
import { messageOf } from "./runtime.ts";
import { LARGEST_WRITE_BYTES, type Transport } from "./transport.ts";
import { checkUpgrade, UpgradeError } from "./web_socket.ts";
import { NORMAL, TEXT_REFUSED } from "./web_socket_frames.ts";
import { GOING_AWAY } from "./web_socket_transport.ts";

/** What the host knows about a request besides the request itself. `Deno.serve` passes it on. */
export interface UpgradeInfo {
  /** The address of the client. */
  readonly remoteAddr?: {
    /** The kind of socket, such as `tcp`. */
    readonly transport: string;
    /** The address. */
    readonly hostname?: string;
    /** The port. */
    readonly port?: number;
    /** The path of a unix socket. */
    readonly path?: string;
  };
}

/** Options of the transport. */
interface UpgradeOptions {
  /** The pages that may open a WebSocket. Without it, WebSockets are refused. */
  readonly origins: Origins | undefined;
  /** The maximum of received bytes that are not read yet. */
  readonly maxUnreadBytes: number;
  /** Whether there is no room for one more peer. Called for a request that may open a WebSocket; it tells this itself. */
  readonly refuses: (peer: string | undefined) => boolean;
  /** How long the WebSocket may take to open. */
  readonly openTimeoutMs: number;
  readonly clock: Clock;
}

/**
 * Smaller messages that wait are kept behind one another in buffers of this size. Each for itself, a message of one byte
 * would take 500 bytes, and to take the first of a million would hold up the server for milliseconds.
 */
const GATHERED_BYTES = 16 * 1024;

/**
 * A write ends when at most this many bytes wait in the runtime. There is no event for this, so it is checked at
 * intervals.
 */
const MAX_WAITING_BYTES = 1024 * 1024;
const FIRST_LOOK_MS = 2;
const LONGEST_LOOK_MS = 50;

const TOO_MUCH = 1008;

/** The error in a runtime whose server cannot open a WebSocket for a Request, because its Request has no connection. */
const NO_UPGRADE = "Cannot open a WebSocket in fetch: only Deno can. " +
  "In Node and Bun, let the server listen on a port of its own, with webOrigins";

/** The result of a request to open a WebSocket. */
interface Upgrade {
  /** The response. */
  readonly response: Response;
  /** The connection. */
  readonly transport?: Transport;
  /** Why there is no connection. */
  readonly refusal?: Refusal;
}

/**
 * Opens a WebSocket for a request.
 *
 * @param request The request. It cannot be read afterwards.
 * @param info What the host knows about the request.
 * @param options Which pages may open a WebSocket, and how much input may wait.
 * @throws {TypeError} If the runtime cannot upgrade a request.
 */
export function upgrade(request: Request, info: UpgradeInfo | undefined, options: UpgradeOptions): Upgrade {
  if (globalThis.Deno?.upgradeWebSocket === undefined) throw new TypeError(NO_UPGRADE);
  const peer = info?.remoteAddr && peerOf(info.remoteAddr);
  // Read now, because the runtime throws after the upgrade.
  const headers = new Headers(request.headers);
  try {
    if (options.origins === undefined) {
      throw new UpgradeError(403, "this server takes no WebSockets: it has no webOrigins");
    }
    checkUpgrade(headers, options.origins);
    if (options.refuses(peer)) return { response: responseOf(new UpgradeError(503, "there is no room for it")) };
    const { response, socket } = open(request);
    return { response, transport: new UpgradedWebSocket(socket, { ...options, peer, headers }) };
  } catch (error) {
    if (!(error instanceof UpgradeError)) throw error;
    const refusal = { event: "upgrade_refused", reason: error.message, peer: peer ?? "unknown peer" } as const;
    return { response: responseOf(error), refusal };
  }
}

function responseOf(error: UpgradeError): Response {
  return new Response(error.body, error);
}

function open(request: Request): Deno.WebSocketUpgrade {
  try {
    return Deno.upgradeWebSocket(request);
  } catch (error) {
    throw new UpgradeError(400, `its request opens no WebSocket: ${messageOf(error)}`);
  }
}

function peerOf({ transport, hostname, port, path }: NonNullable<UpgradeInfo["remoteAddr"]>): string {
  return addressText(
    hostname !== undefined && port !== undefined ? { transport, hostname, port } : { transport, path },
  );
}

type PeerOptions = Pick<UpgradeOptions, "maxUnreadBytes" | "openTimeoutMs" | "clock"> & {
  readonly peer: string | undefined;
  readonly headers: Headers;
};

class UpgradedWebSocket implements Transport {
  readonly releasesBytes = true; // the runtime copies the bytes
  readonly broken: Promise<void>;
  readonly #socket: WebSocket;
  readonly #options: PeerOptions;
  readonly #opened = Promise.withResolvers<void>();
  readonly #released = Promise.withResolvers<void>();
  /** The received bytes that are not read yet. */
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #onUnread = () => {};
  /** Why no more input comes. */
  #ended: Error | undefined;
  /** The code of this side's close frame. */
  #closeCode: number | undefined;

  constructor(socket: WebSocket, options: PeerOptions) {
    this.#socket = socket;
    this.#options = options;
    const { promise: broken, reject: onBroken } = Promise.withResolvers<void>();
    this.broken = broken;
    for (const promise of [broken, this.#opened.promise]) promise.catch(() => {});
    const { openTimeoutMs, clock } = options;
    // The runtime reports neither an open nor an end if the peer has left before the answer.
    const late = clock.setTimer(() => end(`it was not open within ${openTimeoutMs} ms`), openTimeoutMs, false);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      clock.clearTimer(late);
      if (this.#closeCode === undefined) this.#opened.resolve();
      else socket.close(this.#closeCode);
    };
    socket.onmessage = ({ data }) => this.#take(data);
    const end = (reason: string) => {
      this.#end(new Error(reason));
      onBroken(this.#ended);
    };
    socket.onerror = (event) => end((event as ErrorEvent).message || "the WebSocket has failed");
    socket.onclose = ({ code }) => {
      clock.clearTimer(late);
      end(`the peer has closed the WebSocket with ${code}`);
      this.#released.resolve();
    };
  }

  get peer(): string | undefined {
    return this.#options.peer;
  }

  get headers(): Headers {
    return this.#options.headers;
  }

  get released(): Promise<void> {
    return this.#released.promise;
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#unreadBytes === 0) {
      if (this.#ended !== undefined && this.#closeCode !== undefined) return null;
      if (this.#ended !== undefined) throw this.#ended;
      await new Promise<void>((resolve) => this.#onUnread = resolve);
    }
    let bytes = 0;
    while (bytes < into.length && this.#unreadBytes > 0) {
      const [first] = this.#unread;
      const part = first.subarray(0, into.length - bytes);
      into.set(part, bytes);
      if (part.length === first.length) this.#unread.shift();
      else this.#unread[0] = first.subarray(part.length);
      bytes += part.length;
      this.#unreadBytes -= part.length;
    }
    return bytes;
  }

  async write(bytes: Uint8Array): Promise<number> {
    await this.#opened.promise;
    const part = bytes.subarray(0, LARGEST_WRITE_BYTES) as Uint8Array<ArrayBuffer>;
    this.#mustBeOpen();
    this.#socket.send(part);
    for (let waitMs = FIRST_LOOK_MS; this.#socket.bufferedAmount > MAX_WAITING_BYTES;) {
      await new Promise<void>((resolve) => this.#options.clock.setTimer(resolve, waitMs, false));
      this.#mustBeOpen();
      waitMs = Math.min(LONGEST_LOOK_MS, 2 * waitMs);
    }
    return part.length;
  }

  /** A WebSocket has no half close. The sent bytes arrive, and no more input comes. */
  async closeWrite(): Promise<void> {
    await this.#opened.promise;
    this.#close(NORMAL);
  }

  close(): void {
    this.#end(new Error("the connection was closed"));
    this.#close(GOING_AWAY);
  }

  #take(data: unknown): void {
    if (this.#ended !== undefined || this.#closeCode !== undefined) return;
    if (!(data instanceof ArrayBuffer)) {
      this.#end(new Error("the peer has sent text, and messages here are binary"));
      return this.#close(TEXT_REFUSED);
    }
    if (data.byteLength === 0) return;
    this.#keep(new Uint8Array(data));
    if (this.#unreadBytes > this.#options.maxUnreadBytes) {
      this.#unread = [];
      this.#unreadBytes = 0;
      this.#end(new Error(`the peer has sent ${this.#options.maxUnreadBytes} bytes more than could be taken`));
      return this.#close(TOO_MUCH);
    }
    this.#onUnread();
  }

  #keep(message: Uint8Array): void {
    this.#unreadBytes += message.length;
    const last = this.#unread.at(-1);
    if (last === undefined || message.length >= GATHERED_BYTES) return void this.#unread.push(message);
    const hasRoom = last.byteOffset + last.length + message.length <= last.buffer.byteLength;
    if (!hasRoom) this.#unread.push(new Uint8Array(GATHERED_BYTES).subarray(0, 0));
    const { buffer, byteOffset, length } = this.#unread.at(-1) as Uint8Array;
    const joined = new Uint8Array(buffer, byteOffset, length + message.length);
    joined.set(message, length);
    this.#unread[this.#unread.length - 1] = joined;
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    this.#opened.reject(this.#ended);
    this.#onUnread();
  }

  #close(code: number): void {
    this.#closeCode ??= code;
    const { readyState } = this.#socket;
    // The runtime forgets a close before the open, which may never come: a peer that has left is not reported.
    if (readyState === WebSocket.CONNECTING) this.#released.resolve();
    if (readyState === WebSocket.OPEN) this.#socket.close(this.#closeCode);
  }

  #mustBeOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#socket.readyState !== WebSocket.OPEN) throw new Error("the WebSocket is closed"); // send() would drop it
  }
}
