/**
 * A WebSocket of a browser as a transport. The other runtimes have one too, but packline has its own for them
 * (`web_socket.ts`), which holds senders back and does not wait for acknowledgements.
 *
 * In: a URL. Out: a {@linkcode WebTransport} of the bytes in its messages, however they are cut. Refused: what cannot be reached;
 * text; a server that sends faster than the page reads, beyond 64 MiB.
 */

import type { Transport } from "./transport.ts";

/** Above this much, what the page sends waits, in bytes: the browser has no event for less, so it is looked at. */
const MOST_BUFFERED_BYTES = 1024 * 1024;
const LOOK_MS = 5;

/** What may wait to be read, in bytes. No stream's credit allows as much, and a browser cannot be told to stop receiving. */
const MOST_UNREAD_BYTES = 64 * 1024 * 1024;

/** What a page needs of a transport. A WebSocket has no half close. */
export type WebTransport = Pick<Transport, "read" | "write" | "close">;

/**
 * Opens a WebSocket.
 *
 * @param url Its URL.
 * @param signal Ends the attempt.
 * @returns The transport. Rejects without a reason if it cannot be opened: a browser does not tell a page.
 */
export function openBrowserWebSocket(
  url: string,
  signal: AbortSignal,
): Promise<WebTransport> {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  /** What has come and is not read. */
  let unread: Uint8Array[] = [];
  let unreadBytes = 0;
  let isEnded = false;
  /** Why it has ended, unless from here. */
  let fault: Error | undefined;
  /** Wakes a read. */
  let wake = () => {};

  const end = (text?: string) => {
    if (isEnded) return; // some runtimes say so twice
    isEnded = true;
    fault = text === undefined ? text : new Error(text);
    socket.close(1000);
    wake();
  };
  /** To send on a closed one is silent. */
  const checkOpen = () => {
    if (socket.readyState !== WebSocket.OPEN) throw fault ?? new Error("the WebSocket is closed");
  };

  const transport: WebTransport = {
    async read(into) {
      while (unread.length === 0) {
        if (fault !== undefined) throw fault;
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
    signal.addEventListener("abort", () => {
      if (socket.readyState === WebSocket.CONNECTING) socket.close();
    });
    socket.onopen = () => resolve(transport);
    socket.onclose = ({ code, reason }) => {
      reject(new Error(`the WebSocket cannot be opened (${code}): see the console`));
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
