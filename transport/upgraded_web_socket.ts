/**
 * A WebSocket that the runtime's HTTP server has opened, as a transport: for hosts that offer nothing but HTTP.
 *
 * In: a request. Out: its answer, and a transport. Refused: a request that opens no WebSocket, or from a page that may not. A
 * client that sends more than it may is cut off, because the runtime reads on whatever waits here.
 */

import type { Refusal } from "./acceptor.ts";
import { addressText } from "./address.ts";
import type { Clock } from "./clock.ts";
import type { Origins } from "./origins.ts";
import { messageOf } from "./runtime.ts";
import type { Transport } from "./transport.ts";
import { checkUpgrade, UpgradeError } from "./web_socket.ts";

/** What the host tells of a request, beside the request: `Deno.serve` passes it on. */
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
export interface UpgradeOptions {
  /** The pages that may open a WebSocket; without it, nobody may. */
  readonly origins: Origins | undefined;
  /** The most that may have come and not be read, in bytes. */
  readonly maxUnreadBytes: number;
  readonly clock: Clock;
}

/** The most that is sent at once, so that a slow peer is seen to make progress. */
const MAX_SENT_BYTES = 64 * 1024;

/** A write ends when no more than this waits in the runtime, which tells nobody when: it is looked at after a while. */
const MAX_WAITING_BYTES = 1024 * 1024;
const FIRST_LOOK_MS = 2;
const LONGEST_LOOK_MS = 50;

const NORMAL = 1000;
const TEXT_REFUSED = 1003;
const TOO_MUCH = 1008;

/** What the author of a program reads whose runtime has none for a server: its Request carries no connection. */
const NO_UPGRADE = "Cannot open a WebSocket in fetch: only Deno can. " +
  "In Node and Bun, let the server listen on a port of its own, with webOrigins";

/** What comes of a request. */
export interface Upgrade {
  /** The answer to it. */
  readonly response: Response;
  /** Its connection. */
  readonly transport?: Transport;
  /** Why there is none. */
  readonly refusal?: Refusal;
}

/**
 * Opens a WebSocket for a request.
 *
 * @param request The request. Nothing of it can be read afterwards.
 * @param info What the host tells of it.
 * @param options Who may, and how much may wait.
 * @throws {TypeError} Where the runtime has no upgrade.
 */
export function upgrade(request: Request, info: UpgradeInfo | undefined, options: UpgradeOptions): Upgrade {
  if (globalThis.Deno?.upgradeWebSocket === undefined) throw new TypeError(NO_UPGRADE);
  const peer = info?.remoteAddr && peerOf(info.remoteAddr);
  // Read now: after the upgrade the runtime throws.
  const headers = new Headers(request.headers);
  try {
    const { response, socket } = open(request, headers, options.origins);
    return { response, transport: new UpgradedWebSocket(socket, { ...options, peer, headers }) };
  } catch (error) {
    if (!(error instanceof UpgradeError)) throw error;
    const refusal = { event: "upgrade_refused", reason: error.message, peer: peer ?? "unknown peer" } as const;
    return { response: new Response(error.body, error), refusal };
  }
}

function open(request: Request, headers: Headers, origins: Origins | undefined): Deno.WebSocketUpgrade {
  if (origins === undefined) throw new UpgradeError(403, "this server takes no WebSockets: it has no webOrigins");
  checkUpgrade(headers, origins);
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

class UpgradedWebSocket implements Transport {
  readonly peer: string | undefined;
  readonly headers: Headers;
  readonly releasesBytes = true; // the runtime copies them
  readonly broken: Promise<void>;
  readonly #socket: WebSocket;
  readonly #options: Pick<UpgradeOptions, "maxUnreadBytes" | "clock">;
  readonly #opened = Promise.withResolvers<void>();
  /** What has come and is not read. */
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #onUnread = () => {};
  /** Why nothing more comes. */
  #ended: Error | undefined;
  #isClosing = false;

  constructor(
    socket: WebSocket,
    { peer, headers, ...options }: UpgradeOptions & { peer: string | undefined; headers: Headers },
  ) {
    this.#socket = socket;
    this.peer = peer;
    this.headers = headers;
    this.#options = options;
    const { promise: broken, reject: onBroken } = Promise.withResolvers<void>();
    this.broken = broken;
    for (const promise of [broken, this.#opened.promise]) promise.catch(() => {});
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened.resolve();
    socket.onmessage = ({ data }) => this.#take(data);
    const end = (reason: string) => {
      this.#end(new Error(reason));
      onBroken(this.#ended);
    };
    socket.onerror = (event) => end((event as ErrorEvent).message || "the WebSocket has failed");
    socket.onclose = ({ code }) => end(`the peer has closed the WebSocket with ${code}`);
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#unreadBytes === 0) {
      if (this.#ended !== undefined && this.#isClosing) return null;
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
    const part = bytes.subarray(0, MAX_SENT_BYTES) as Uint8Array<ArrayBuffer>;
    this.#mustBeOpen();
    this.#socket.send(part);
    for (let waitMs = FIRST_LOOK_MS; this.#socket.bufferedAmount > MAX_WAITING_BYTES;) {
      await new Promise<void>((resolve) => this.#options.clock.setTimer(resolve, waitMs, false));
      this.#mustBeOpen();
      waitMs = Math.min(LONGEST_LOOK_MS, 2 * waitMs);
    }
    return part.length;
  }

  /** There is no half of it to close: what was sent arrives, and nothing comes any more. */
  async closeWrite(): Promise<void> {
    await this.#opened.promise;
    this.#close(NORMAL);
  }

  close(): void {
    this.#end(new Error("the connection was closed"));
    this.#close(NORMAL);
  }

  #take(data: unknown): void {
    if (this.#ended !== undefined || this.#isClosing) return;
    if (!(data instanceof ArrayBuffer)) {
      this.#end(new Error("the peer has sent text, and messages here are binary"));
      return this.#close(TEXT_REFUSED);
    }
    if (data.byteLength === 0) return;
    this.#unread.push(new Uint8Array(data));
    this.#unreadBytes += data.byteLength;
    if (this.#unreadBytes > this.#options.maxUnreadBytes) {
      this.#unread = [];
      this.#unreadBytes = 0;
      this.#end(new Error(`the peer has sent ${this.#options.maxUnreadBytes} bytes more than could be taken`));
      return this.#close(TOO_MUCH);
    }
    this.#onUnread();
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    this.#opened.reject(this.#ended);
    this.#onUnread();
  }

  #close(code: number): void {
    this.#isClosing = true;
    if (this.#socket.readyState <= WebSocket.OPEN) this.#socket.close(code);
  }

  #mustBeOpen(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#socket.readyState !== WebSocket.OPEN) throw new Error("the WebSocket is closed"); // send() would drop it
  }
}
