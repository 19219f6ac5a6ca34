/**
 * The handshake of a WebSocket (RFC 6455, section 4), at either end.
 *
 * In: a connection. Out: a transport of the bytes in the messages. Refused: as a client, an answer that does not open a
 * WebSocket; as a server, a request that does not ask for a WebSocket, or comes from a page that may not open one.
 */

import type { Origins } from "./origins.ts";
import { PeekedTransport } from "./peeked.ts";
import { PreambleError } from "./preamble_acceptor.ts";
import { closeTransport, FIRST_READ_BYTES, type Transport, writeAll } from "./transport.ts";
import { WebSocketTransport } from "./web_socket_transport.ts";

/** The longest head of a request or an answer. Cookies may be long. */
const MAX_HEAD_BYTES = 16 * 1024;

/** So many interim answers, such as 103, may come before the answer. A proxy sends one or two. */
const MAX_INTERIM = 10;

const HEAD_END = "\r\n\r\n";
const VERSION = "13";

/** The text that is added to the key for the proof in the answer (RFC 6455, section 1.3). */
const PROOF = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Valid names and values of headers (RFC 9110, section 5). */
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** The meanings of answers other than 101, for a client. */
const MEANINGS: Readonly<Record<number, string>> = {
  401: "the server, or a proxy before it, asks for a login",
  403: "the server refuses the origin of this client, or a proxy before it refuses the client",
  404: "there is nothing at this path",
  426: "the server speaks HTTP there, and opens no WebSocket for this request",
  429: "the server, or a proxy before it, takes no more requests of this client for now",
  502: "a proxy before the server cannot reach it",
  503: "the server has no room or shuts down, or a proxy before it finds none that is ready",
  504: "a proxy before the server gets no answer from it",
};

/** The answers to a request that opens no WebSocket: the phrase of the status, and a text for people. */
const ANSWERS = {
  400: ["Bad Request", "this is not a valid request for a WebSocket"],
  403: [
    "Forbidden",
    "this server refuses the origin of this page; webOrigins (--web-origin) names those that may call it",
  ],
  426: ["Upgrade Required", "this is a packline server, which takes WebSockets and no other requests of HTTP"],
  431: ["Request Header Fields Too Large", "the headers are too long"],
  503: ["Service Unavailable", "this server has no room for another connection, or shuts down"],
} as const;

/** A request opens no WebSocket. */
export class UpgradeError extends PreambleError {
  /** Always `"UpgradeError"`. */
  override readonly name = "UpgradeError";
  /** The status of the answer. */
  readonly status: keyof typeof ANSWERS;

  /**
   * @param status The status of the answer.
   * @param reason The reason, as a sentence about the peer, "it".
   */
  constructor(status: keyof typeof ANSWERS, reason: string) {
    super(reason);
    this.status = status;
  }

  /** The headers of the answer. */
  get headers(): Record<string, string> {
    const headers = { "content-type": "text/plain; charset=utf-8", "connection": "close" };
    return this.status === 426 ? { ...headers, "upgrade": "websocket", "sec-websocket-version": VERSION } : headers;
  }

  /** The text of the answer. */
  get body(): string {
    return `packline: ${ANSWERS[this.status][1]}\n`;
  }
}

/** The errors of a client whose server takes no WebSockets, or only with TLS. */
const NO_HTTP =
  "the server does not answer as HTTP/1.1 does; a server of packline takes WebSockets if it has webOrigins";
const NO_ANSWER = "the server closed the connection and did not answer";
const IS_TLS = "the answer looks like TLS; with TLS, the URL begins with wss://";
const TLS_ALERT = "\x15\x03";

/** The first line of a request or an answer, and its headers. */
interface Head {
  readonly line: string;
  readonly headers: Headers;
}

/**
 * Opens a WebSocket as a client.
 *
 * @param url Its URL.
 * @param connecting The connection to its host.
 * @param signal Ends the attempt.
 * @returns The transport.
 */
export async function dialWebSocket(
  url: string,
  connecting: Promise<Transport>,
  signal: AbortSignal,
): Promise<Transport> {
  const transport = new PeekedTransport(await connecting);
  const abandon = () => closeTransport(transport);
  signal.addEventListener("abort", abandon, { once: true });
  try {
    signal.throwIfAborted();
    const { host, pathname, search } = new URL(url);
    const key = base64(crypto.getRandomValues(new Uint8Array(16)));
    const lines = [
      `GET ${pathname}${search} HTTP/1.1`,
      `Host: ${host}`,
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Key: ${key}`,
      `Sec-WebSocket-Version: ${VERSION}`,
    ];
    await writeAll(transport, latin1(lines.join("\r\n") + HEAD_END));
    await checkAnswer(transport, key);
    return new WebSocketTransport(transport, "client");
  } catch (error) {
    closeTransport(transport);
    throw error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

async function checkAnswer(transport: PeekedTransport, key: string, interim = 0): Promise<void> {
  const { line, headers } = await readHead(transport).catch((error) => {
    throw error instanceof UpgradeError ? answerError(error, textOf(transport.bytes.subarray(0, 5))) : error;
  });
  const [, status, phrase = ""] = /^HTTP\/1\.1 (\d{3})(?: (.*))?$/.exec(line) ?? [];
  if (status === undefined) throw new Error(NO_HTTP);
  if (status.startsWith("1") && status !== "101" && interim < MAX_INTERIM) {
    return await checkAnswer(transport, key, interim + 1);
  }
  if (status !== "101") {
    const meaning = MEANINGS[Number(status)] ?? "there is no WebSocket at this URL";
    const shown = /^[ -~]+$/.test(phrase) ? `${status} ${phrase}` : status;
    throw new Error(`the answer is HTTP ${shown}: ${meaning}`);
  }
  const isRight = hasToken(headers, "upgrade", "websocket") && hasToken(headers, "connection", "upgrade") &&
    headers.get("sec-websocket-accept") === await proofOf(key) && !headers.has("sec-websocket-extensions") &&
    !headers.has("sec-websocket-protocol");
  if (!isRight) throw new Error("the server's answer to the handshake of the WebSocket is not valid");
}

/** Why there is no answer of HTTP, by its first bytes. */
function answerError(error: UpgradeError, beginning: string): Error {
  if (beginning === "HTTP/") return error;
  return new Error(beginning === "" ? NO_ANSWER : beginning.startsWith(TLS_ALERT) ? IS_TLS : NO_HTTP);
}

/**
 * Opens a WebSocket as a server.
 *
 * @param transport The connection, which begins with an HTTP request.
 * @param origins The pages that may open a WebSocket.
 * @returns The transport.
 * @throws {UpgradeError} If the request does not open a WebSocket, see {@linkcode answerRefusal}.
 */
export async function acceptWebSocket(transport: PeekedTransport, origins: Origins): Promise<Transport> {
  const head = await readHead(transport);
  if (transport.bytes.length > 0) throw new UpgradeError(400, "it does not wait for the answer to its HTTP request");
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${await proofOf(keyOf(head, origins))}`,
  ];
  await writeAll(transport, latin1(lines.join("\r\n") + HEAD_END));
  return new WebSocketTransport(transport, "server", head.headers);
}

/**
 * Tells a peer that its request opens no WebSocket, and waits until the peer has read this, because a close with unread
 * input would reset the connection. Never rejects.
 */
export async function answerRefusal(transport: Transport, error: UpgradeError): Promise<void> {
  const { status, headers, body } = error;
  const fields = Object.entries({ ...headers, "content-length": `${body.length}` });
  const lines = [`HTTP/1.1 ${status} ${ANSWERS[status][0]}`, ...fields.map(([name, value]) => `${name}: ${value}`)];
  try {
    await writeAll(transport, latin1(lines.join("\r\n") + HEAD_END + body));
    await transport.closeWrite();
    const dropped = new Uint8Array(FIRST_READ_BYTES);
    for (let bytes: number | null = 0, most = MAX_HEAD_BYTES; bytes !== null && most > 0; most -= bytes ?? 0) {
      bytes = await transport.read(dropped);
    }
  } catch {
    // The peer has left already.
  }
}

/** The key of a request that opens a WebSocket. */
function keyOf({ line, headers }: Head, origins: Origins): string {
  if (!/^GET \S+ HTTP\/1\.1$/.test(line)) throw new UpgradeError(400, "its request line is not that of HTTP/1.1");
  // Some clients and proxies give the length of no body.
  const hasBody = (headers.get("content-length") ?? "0") !== "0" || headers.has("transfer-encoding");
  if (hasBody || !/^[^\s,]+$/.test(headers.get("host") ?? "")) {
    throw new UpgradeError(400, "its request has a body, or not one host");
  }
  checkUpgrade(headers, origins);
  const key = headers.get("sec-websocket-key") ?? "";
  if (!/^[A-Za-z0-9+/]{21}[AQgw]==$/.test(key)) {
    throw new UpgradeError(400, "its request has no valid Sec-WebSocket-Key");
  }
  return key;
}

/**
 * Checks whether a request asks for a WebSocket, and may open one.
 *
 * @param headers Its headers.
 * @param origins The pages that may open a WebSocket.
 * @throws {UpgradeError} If the request does not ask for a WebSocket, or may not open one.
 */
export function checkUpgrade(headers: Headers, origins: Origins): void {
  if (!hasToken(headers, "upgrade", "websocket") || !hasToken(headers, "connection", "upgrade")) {
    throw new UpgradeError(426, "it sends an HTTP request, and here only a WebSocket can be opened");
  }
  if (headers.get("sec-websocket-version") !== VERSION) {
    throw new UpgradeError(426, `it does not speak version ${VERSION} of WebSocket`);
  }
  if (!origins.has(headers.get("origin"))) {
    throw new UpgradeError(403, "the origin of its page is not among those of webOrigins (--web-origin)");
  }
}

/** Reads a head, and leaves the bytes after it unread. */
async function readHead(transport: PeekedTransport): Promise<Head> {
  for (let start = 0;;) {
    const { bytes } = transport;
    const end = start + textOf(bytes.subarray(start, MAX_HEAD_BYTES)).indexOf(HEAD_END);
    if (end >= start) {
      const head = parseHead(textOf(bytes.subarray(0, end)));
      transport.skip(end + HEAD_END.length);
      return head;
    }
    start = Math.max(0, bytes.length - HEAD_END.length); // bytes that were searched are not searched again
    if (bytes.length >= MAX_HEAD_BYTES) {
      throw new UpgradeError(431, `its head of HTTP is longer than ${MAX_HEAD_BYTES} bytes`);
    }
    if (!await transport.more()) throw new UpgradeError(400, "it has ended within its head of HTTP");
  }
}

function parseHead(text: string): Head {
  const [line, ...fields] = text.split("\r\n");
  const headers = new Headers();
  for (const field of fields) {
    const colon = field.indexOf(":");
    const [name, value] = [field.slice(0, Math.max(0, colon)), field.slice(colon + 1)];
    if (!NAME.test(name) || !VALUE.test(value)) throw new UpgradeError(400, "its head of HTTP is not valid");
    headers.append(name, value);
  }
  return { line, headers };
}

/** Whether a header that is a list contains a token, in upper or lower case. */
function hasToken(headers: Headers, name: string, token: string): boolean {
  return (headers.get(name) ?? "").split(",").some((each) => each.trim().toLowerCase() === token);
}

/** The proof that a server has read the key. */
async function proofOf(key: string): Promise<string> {
  return base64(new Uint8Array(await crypto.subtle.digest("SHA-1", latin1(key + PROOF))));
}

/** Uses `btoa`, which every runtime has. */
function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** The text of at most 16 KiB, a character a byte. A `TextDecoder` cannot: to it, "latin1" means windows-1252. */
function textOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function latin1(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
