/**
 * A WebSocket of a browser as a transport. The other runtimes have one too, but packline has its own for them
 * (`web_socket.ts`), which holds senders back and does not wait for acknowledgements.
 *
 * In: a URL. Out: a {@linkcode Transport} of the bytes in its messages, however they are cut. Refused: what cannot be reached;
 * text; a server that sends faster than the page reads, beyond 64 MiB.
 */

import type { Transport } from "./transport.ts";

/** Above this much, what the page sends waits, in bytes: the browser has no event for less, so it is looked at. */
const MOST_BUFFERED_BYTES = 1024 * 1024;
const LOOK_MS = 5;

/** What may wait to be read, in bytes. No stream's credit allows as much, and a browser cannot be told to stop receiving. */
const MOST_UNREAD_BYTES = 64 * 1024 * 1024;

/** How a server closes in order: done, going away, without a code. */
const IN_ORDER: readonly number[] = [1000, 1001, 1005];

/**
 * Opens a WebSocket.
 *
 * @param url Its URL.
 * @param signal Ends the attempt.
 * @returns The transport. Rejects without a reason if it cannot be opened: a browser does not tell a page.
 */
export function openBrowserWebSocket(url: string, signal: AbortSignal): Promise<Transport> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const transport = new BrowserWebSocket(socket);
    const abandon = () => {
      socket.close();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abandon, { once: true });
    socket.onopen = () => {
      signal.removeEventListener("abort", abandon);
      resolve(transport);
    };
    socket.onclose = (event) => {
      signal.removeEventListener("abort", abandon);
      reject(new Error(`the WebSocket cannot be opened (${event.code}): see the console`));
      transport.ended(event);
    };
    socket.onmessage = ({ data }) => transport.received(data);
  });
}

class BrowserWebSocket implements Transport {
  readonly #socket: WebSocket;
  /** What has come and is not read. */
  #unread: Uint8Array[] = [];
  #unreadBytes = 0;
  #isEnded = false;
  /** Why it has ended, unless in order. */
  #error: Error | undefined;
  /** Wakes a read. */
  #wake = () => {};

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  received(data: unknown): void {
    if (this.#isEnded) return;
    if (!(data instanceof ArrayBuffer)) return this.#fail("the server sent text");
    if (this.#unreadBytes > MOST_UNREAD_BYTES) return this.#fail("the page is too slow");
    this.#unread.push(new Uint8Array(data));
    this.#unreadBytes += data.byteLength;
    this.#wake();
  }

  /** It is closed. Some runtimes say so twice. */
  ended({ code, reason }: CloseEvent): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    if (!IN_ORDER.includes(code)) this.#error = new Error(`the WebSocket was closed with ${code} ${reason}`.trimEnd());
    this.#wake();
  }

  #fail(text: string): void {
    this.#isEnded = true;
    this.#error = new Error(text);
    this.#socket.close();
    this.#wake();
  }

  async read(into: Uint8Array): Promise<number | null> {
    for (;;) {
      const [first] = this.#unread;
      if (first?.length > 0) {
        const part = first.subarray(0, into.length);
        into.set(part);
        this.#unread[0] = first.subarray(part.length);
        this.#unreadBytes -= part.length;
        return part.length;
      }
      if (first !== undefined) this.#unread.shift();
      else if (this.#error !== undefined) throw this.#error;
      else if (this.#isEnded) return null;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  async write(bytes: Uint8Array): Promise<number> {
    this.#checkOpen();
    this.#socket.send(bytes as Uint8Array<ArrayBuffer>);
    while (this.#socket.bufferedAmount > MOST_BUFFERED_BYTES) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      this.#checkOpen();
    }
    return bytes.length;
  }

  /** To send on a closed one is silent. */
  #checkOpen(): void {
    if (this.#socket.readyState !== WebSocket.OPEN) throw this.#error ?? new Error("the WebSocket is closed");
  }

  /** A WebSocket has no half close: what comes later is not delivered. */
  closeWrite(): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  close(): void {
    this.#isEnded = true;
    this.#unread = [];
    this.#socket.close(1000);
    this.#wake();
  }
}
