/** Both ends of the handshake of a WebSocket (RFC 6455). */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { isOrigin, Origins } from "../../transport/origins.ts";
import { PeekedTransport } from "../../transport/peeked.ts";
import type { Transport } from "../../transport/transport.ts";
import { acceptWebSocket, dialWebSocket, UpgradeError } from "../../transport/web_socket.ts";
import { latin1, OPCODES, ScriptedTransport, webSocketFrame } from "../support/web_socket.ts";
import { settle } from "../support/peers.ts";
import { chunksOf, concat, unhex } from "../support/wire.ts";

/** The mask of the RFC's examples. */
const MASK = unhex("37 fa 21 3d");
const HELLO = latin1("Hello");

const REQUEST = [
  "GET /chat HTTP/1.1",
  "Host: server.example.com",
  "Upgrade: websocket",
  "Connection: keep-alive, Upgrade",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Version: 13",
  "Origin: https://app.example",
];
const ORIGINS = new Origins(["https://app.example"]);

const head = (lines: string[]) => latin1(`${lines.join("\r\n")}\r\n\r\n`);

/** The answer of a server to a request; a text if it refuses. */
async function answerTo(request: Uint8Array, origins = ORIGINS, size = 100_000): Promise<string> {
  const below = new ScriptedTransport(chunksOf(request, size));
  try {
    const transport = await acceptWebSocket(new PeekedTransport(below), origins);
    assertEquals(transport.headers?.get("host"), "server.example.com");
    return new TextDecoder().decode(concat(...below.written));
  } catch (error) {
    if (!(error instanceof UpgradeError)) throw error;
    return `${error.status} ${error.message}`;
  }
}

Deno.test("the sample handshake of RFC 6455 opens a WebSocket, whole or byte by byte", async () => {
  for (const size of [1, 2, 50, head(REQUEST).length - 2, 100_000]) {
    const answer = await answerTo(head(REQUEST), ORIGINS, size);
    assertEquals(answer.split("\r\n"), [
      "HTTP/1.1 101 Switching Protocols",
      "Upgrade: websocket",
      "Connection: Upgrade",
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      "",
      "",
    ]);
  }
});

Deno.test("names of headers and their words may be in any case, and a key that others have is no other header", async () => {
  const loud = REQUEST.map((line) =>
    line.replace(/^[^:]+:/, (name) => name.toUpperCase()).replace("websocket", "WebSocket")
  );
  assertEquals((await answerTo(head([...loud, "X-Origin: https://evil.example"]))).slice(0, 12), "HTTP/1.1 101");
});

Deno.test("a header may have every byte from 0x80 up, as text that is not ASCII has, and each is a character", async () => {
  const every = String.fromCharCode(...Array.from({ length: 128 }, (_, at) => 128 + at));
  const below = new ScriptedTransport(chunksOf(head([...REQUEST, `Cookie: ${every}`]), 100));
  const transport = await acceptWebSocket(new PeekedTransport(below), ORIGINS);
  assertEquals(transport.headers?.get("cookie"), every);
});

Deno.test("a request that says it has no body opens a WebSocket", async () => {
  assertEquals((await answerTo(head([...REQUEST, "Content-Length: 0"]))).slice(0, 12), "HTTP/1.1 101");
  for (const length of ["1", "00", "", "0, 0", "-0"]) {
    assertEquals((await answerTo(head([...REQUEST, `Content-Length: ${length}`]))).slice(0, 3), "400", length);
  }
});

Deno.test("a request that opens no WebSocket has its status", async (t) => {
  const without = (name: string) => REQUEST.filter((line) => !line.startsWith(name));
  const changed = (name: string, line: string) => REQUEST.map((each) => each.startsWith(name) ? line : each);
  const refused: [name: string, request: Uint8Array, status: number][] = [
    ["a foreign origin", head(changed("Origin", "Origin: https://evil.example")), 403],
    ["an origin that begins as the right one", head(changed("Origin", "Origin: https://app.example.evil")), 403],
    ["another port", head(changed("Origin", "Origin: https://app.example:444")), 403],
    ["another scheme", head(changed("Origin", "Origin: http://app.example")), 403],
    ["a page without an origin of its own", head(changed("Origin", "Origin: null")), 403],
    ["an empty origin", head(changed("Origin", "Origin:")), 403],
    ["two origins", head([...REQUEST, "Origin: https://app.example"]), 403],
    ["no upgrade", head(without("Upgrade")), 426],
    ["another upgrade", head(changed("Upgrade", "Upgrade: h2c")), 426],
    ["no connection", head(without("Connection")), 426],
    ["another version", head(changed("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")), 426],
    ["no key", head(without("Sec-WebSocket-Key")), 400],
    ["a short key", head(changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==")), 400],
    ["two keys", head([...REQUEST, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]), 400],
    ["no host", head(without("Host")), 400],
    ["two hosts", head([...REQUEST, "Host: other.example"]), 400],
    ["HTTP/1.0", head(["GET / HTTP/1.0", ...REQUEST.slice(1)]), 400],
    ["three words too many", head(["GET / / HTTP/1.1", ...REQUEST.slice(1)]), 400],
    ["a body", head([...REQUEST, "Content-Length: 5"]), 400],
    ["a body in chunks", head([...REQUEST, "Transfer-Encoding: chunked"]), 400],
    ["a second request behind it", concat(head(REQUEST), head(REQUEST)), 400],
    ["a frame behind it", concat(head(REQUEST), webSocketFrame(OPCODES.binary, HELLO, { mask: MASK })), 400],
    ["a folded header", head([...REQUEST, " folded: 1"]), 400],
    ["a space before the colon", head([...REQUEST, "X-A : 1"]), 400],
    ["a line feed alone", head([...REQUEST, "X-A: 1\nOrigin: https://app.example"]), 400],
    ["a zero byte", head([...REQUEST, "X-A: \0"]), 400],
    ["a header without a name", head([...REQUEST, ": 1"]), 400],
    ["an end within the head", head(REQUEST).slice(0, -1), 400],
    ["a head that is too long", head([...REQUEST, `Cookie: ${"x".repeat(16 * 1024)}`]), 431],
  ];
  for (const [name, request, status] of refused) {
    await t.step(name, async () => assertEquals((await answerTo(request)).slice(0, 4), `${status} `));
  }
});

Deno.test("a program, which tells no origin, may; a page may by its exact origin, or any page by a star", async () => {
  const programs = new Origins([]);
  const noOrigin = REQUEST.filter((line) => !line.startsWith("Origin"));
  assertEquals((await answerTo(head(noOrigin), programs)).slice(0, 12), "HTTP/1.1 101");
  assertEquals((await answerTo(head(REQUEST), programs)).slice(0, 3), "403");
  assertEquals((await answerTo(head(REQUEST), new Origins(["*"]))).slice(0, 12), "HTTP/1.1 101");
  for (
    const origin of ["https://app.example", "http://localhost:8000", "http://[::1]:8000", "chrome-extension://abc", "*"]
  ) {
    assertEquals(isOrigin(origin), true, origin);
  }
  const wrong = [
    "app.example",
    "https://app.example/",
    "https://App.example",
    "https://app.example:443",
    "null",
    "",
    "https://*",
    "https://*.app.example",
    "http://localhost:*",
  ];
  for (const origin of wrong) assertEquals(isOrigin(origin), false, origin);
});

/** What a client makes of an answer. */
async function dialTo(answer: (key: string) => Uint8Array | Promise<Uint8Array>): Promise<Transport> {
  const [here, there] = [Promise.withResolvers<string>(), Promise.withResolvers<void>()];
  const below = new ScriptedTransport([]);
  const answering: Transport = {
    read: (into) => there.promise.then(() => source.read(into)),
    async write(bytes) {
      here.resolve(/Key: (\S+)/.exec(new TextDecoder().decode(bytes))?.[1] ?? "");
      return await below.write(bytes);
    },
    closeWrite: () => Promise.resolve(),
    close: () => below.close(),
  };
  let source = below;
  const dialed = dialWebSocket("ws://h.example:81/a?b", Promise.resolve(answering), new AbortController().signal);
  const key = await here.promise;
  source = new ScriptedTransport([await answer(key)]);
  there.resolve();
  try {
    const request = new TextDecoder().decode(concat(...below.written)).split("\r\n");
    assertEquals(request.slice(0, 2), ["GET /a?b HTTP/1.1", "Host: h.example:81"]);
    return await dialed;
  } catch (error) {
    assertEquals(below.closed, true);
    throw error;
  }
}

async function proof(key: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-1", latin1(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`));
  return new Uint8Array(digest).toBase64();
}

Deno.test("a client takes the right answer, with frames behind it, and no other", async () => {
  const lines = async (key: string) => [
    "HTTP/1.1 101 Switching Protocols",
    "upgrade: WebSocket",
    "connection: upgrade",
    `sec-websocket-accept: ${await proof(key)}`,
  ];
  const right = await dialTo(async (key) => concat(head(await lines(key)), webSocketFrame(OPCODES.binary, HELLO)));
  const space = new Uint8Array(64);
  assertEquals(space.slice(0, await right.read(space) ?? 0), HELLO);
  const interim = concat(head(["HTTP/1.1 100 Continue"]), head(["HTTP/1.1 103 Early Hints", "link: </a>"]));
  const late = await dialTo(async (key) =>
    concat(interim, head(await lines(key)), webSocketFrame(OPCODES.binary, HELLO))
  );
  assertEquals(space.slice(0, await late.read(space) ?? 0), HELLO);
  const keys = new Set<string>();
  const wrong: [RegExp, (key: string) => Uint8Array | Promise<Uint8Array>][] = [
    [/not valid/, (key) => (keys.add(key), head(["HTTP/1.1 101 X", "upgrade: websocket", "connection: upgrade"]))],
    [/not valid/, async (key) => head((await lines(key)).with(3, `sec-websocket-accept: ${await proof("other")}`))],
    [/not valid/, async (key) => (keys.add(key), head([...await lines(key), "sec-websocket-extensions: x"]))],
    [/not valid/, async (key) => head([...await lines(key), "sec-websocket-protocol: x"])],
    [/HTTP 403 Forbidden: the server refuses the origin/, () => head(["HTTP/1.1 403 Forbidden"])],
    [/HTTP 100 Continue: there is no/, () => concat(...Array.from({ length: 10 }, () => interim))],
    [/HTTP 403 Forbidden: the server/, () => concat(interim, head(["HTTP/1.1 403 Forbidden"]))],
    [/HTTP 404: there is nothing at this path/, () => head(["HTTP/1.1 404"])],
    [/HTTP 426 Upgrade Required: the server speaks HTTP/, () => head(["HTTP/1.1 426 Upgrade Required"])],
    [/HTTP 200 OK: there is no WebSocket at this URL/, () => head(["HTTP/1.1 200 OK", "content-length: 0"])],
    [/HTTP 429 Too Many Requests: .* takes no more requests of this/, () => head(["HTTP/1.1 429 Too Many Requests"])],
    [/HTTP 504: a proxy before the server gets no answer/, () => head(["HTTP/1.1 504", "x: \x80\x9c"])],
    [/its head of HTTP is not valid/, () => head(["HTTP/1.1 504", "x: \x01"])],
    [/the server closed the connection and did not answer/, () => latin1("")],
    [/the answer looks like TLS; with TLS, the URL begins with wss/, () => unhex("15 03 03 00 02 02 32")],
    [/HTTP 500: there is no/, () => head(["HTTP/1.1 500 \x1b[31m"])],
    [/does not answer as HTTP\/1\.1 does/, () => head(["SSH-2.0-x"])],
    [/does not answer as HTTP\/1\.1 does; .* takes WebSockets if/, () => unhex("20 26 81 a3 63 6d 64 01 0a")],
    [/does not answer as HTTP\/1\.1 does/, () => latin1("x".repeat(20_000))],
    [/ended within its head of HTTP/, () => latin1("HTTP/1.1 101 Switching")],
    [/longer than 16384/, () => latin1(`HTTP/1.1 101 Switching ${"x".repeat(20_000)}`)],
  ];
  for (const [message, answer] of wrong) {
    const error = await assertRejects(() => dialTo(answer), Error);
    assert(message.test(error.message), error.message);
    assert(!error.message.includes("\x1b"));
  }
  assertEquals(keys.size, 2, "a key was used twice");
});

Deno.test("a dial that is given up, before or within its handshake, closes its connection", async () => {
  for (const early of [true, false]) {
    const wanted = new AbortController();
    const below = new ScriptedTransport([], new Promise(() => {}));
    const reading = Promise.withResolvers<number | null>();
    below.read = () => reading.promise;
    below.close = () => reading.reject(new Error("closed"));
    reading.promise.catch(() => {}); // if nobody has read yet
    if (early) wanted.abort(new Error("given up"));
    const outcome = assertRejects(() => dialWebSocket("ws://a/", Promise.resolve(below), wanted.signal), Error);
    await settle(3);
    wanted.abort(new Error("given up"));
    assertEquals((await outcome as Error).message, early ? "given up" : "closed");
    await assertRejects(() => reading.promise, Error, "closed");
  }
});
