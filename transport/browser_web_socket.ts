/**
 * A browser's WebSocket as a transport. For other runtimes, packline has its own WebSocket (`web_socket.ts`), which
 * applies backpressure to senders and does not wait for acknowledgements.
 *
 * In: a URL. Out: a {@linkcode WebTransport} of the bytes in its messages, however they are split. Refused: a server
 * that cannot be reached; text; a server that sends more than 64 MiB faster than the page reads.
 */

import type { Transport } from "./transport.ts";

/**
 * If the browser has buffered more bytes than this, a write waits. There is no event for a drained buffer, so it is
 * checked at intervals.
 */
const MOST_BUFFERED_BYTES = 1024 * 1024;
const LOOK_MS = 5;

/** The maximum of unread bytes. No stream's credit allows as much, and a browser cannot be told to stop receiving. */
const MOST_UNREAD_BYTES = 64 * 1024 * 1024;

/** The part of a transport that a page needs. A WebSocket has no half close. */
export type WebTransport = Pick<Transport, "read" | "write" | "close">;

/**
 * Opens a WebSocket.
 *
 * @param url Its URL.
 * @param signal Ends the attempt.
 * @returns The transport. Rejects without a reason if the WebSocket cannot be opened, because a browser does not tell a
 * page the reason.
 */
export function openBrowserWebSocket(
  url: string,
  signal: AbortSignal,
): Promise<WebTransport> {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  /** The received chunks that are not read yet. */
  let unread: Uint8Array[] = [];
  let unreadBytes = 0;
  let isEnded = false;
  /** Why it has ended, unless this side closed it. */
  let fault: Error | undefined;
  /** Wakes a read. */
  let wake = () => {};

  const end = (text?: string) => {
    if (isEnded) return; // some runtimes report the end twice
    isEnded = true;
    if (text) fault = new Error(text);
    socket.close(1000);
    wake();
  };
  /** A closed WebSocket drops output silently, so check first. */
  const checkOpen = () => {
    if (socket.readyState !== WebSocket.OPEN) throw fault ?? new Error("the WebSocket is closed");
  };

  const transport: WebTransport = {
    async read(into) {
      while (unread.length === 0) {
        if (fault) throw fault;
        if (isEnded) return null;
        await new Promise<void>((resolve) => wake = resolve);
      }
      const part = unread[0].subarray(0, into.length);
      into.set(part);
      unread[0] = unread[0].subarray(part.length);
      if (unread[0].length === 0) unread.shift();
      unreadBytes -= part.length;
      return part.length;
    },
    async write(bytes) {
      checkOpen();
      socket.send(bytes as Uint8Array<ArrayBuffer>);
      while (socket.bufferedAmount > MOST_BUFFERED_BYTES) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        checkOpen();
      }
      return bytes.length;
    },
    close() {
      unread = [];
      end();
    },
  };

  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => end());
    socket.onopen = () => resolve(transport);
    socket.onclose = ({ code, reason }) => {
      reject(new Error(`the WebSocket cannot be opened (${code})`));
      end(`the WebSocket was closed with ${code} ${reason}`.trimEnd());
    };
    socket.onmessage = ({ data }) => {
      if (isEnded) return;
      if (!(data instanceof ArrayBuffer)) return end("the server sent text");
      if (unreadBytes > MOST_UNREAD_BYTES) return end("the page is too slow");
      if (data.byteLength > 0) unread.push(new Uint8Array(data));
      unreadBytes += data.byteLength;
      wake();
    };
  });
}
