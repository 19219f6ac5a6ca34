/**
 * Hostile bytes on real sockets, beside 64 good clients whose calls all succeed: each gets what PROTOCOL.md says
 * under "What goes wrong", and no more, and the connection goes on or ends as it says.
 *
 * A server on the runtime's own `conn.readable` is the canary: it loses replies at a half close.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { serveOne } from "../support/serve_one.ts";
import { newSeed, Random } from "../support/random.ts";
import { connectPeer, connectResettable } from "../support/peers.ts";
import { Held, type TestServer, withServer } from "../support/test_server.ts";
import { concat, frame, type Message, request } from "../support/wire.ts";
import { testWith } from "../production/programs.ts";
import { type Address, TCP, TLS, type Transport } from "../support/transports.ts";
import { besideGoodClients, shown, statisticsOf, until, untilAtRest } from "./beside.ts";
import { fromStreams } from "../../transport/transport.ts";

const PING = request({ cmd: 1 });
const PONG = { res: "PONG" };

const GOOD_CLIENTS = 64;

/** What is sent, and what comes back. */
interface Hostile {
  name: string;
  bytes: Uint8Array;
  /** `seq`, where there is one, and `res` or the code, of each reply. */
  replies: Message[];
  /** Whether the server then closes, or answers a PING as before. */
  then: "closes" | "goes on";
  /** Says that no more will come, as soon as all has been sent. */
  halfClose?: boolean;
}

/** A reply without what is for people. */
function essence({ seq, res, err }: Message): Message {
  const reply: Message = err === undefined ? { res } : { err };
  return seq === undefined ? reply : { seq, ...reply };
}

/** Fails unless a server deals with it as it must. */
async function check(address: Address, { bytes, replies, then, halfClose }: Hostile): Promise<void> {
  await using peer = await connectPeer(address);
  await peer.sendBytes(bytes);
  if (halfClose) await peer.halfClose();
  if (then === "closes") {
    assertEquals((await peer.readToEnd()).map(essence), replies);
  } else {
    assertEquals((await peer.readReplies(replies.length)).map(essence), replies);
    assertEquals(await peer.ask({ cmd: 1, seq: 77 }), { seq: 77, ...PONG });
    await peer.halfClose();
    assertEquals(await peer.readToEnd(), []);
  }
}

/** A map of one field whose value is nested or repeated as a test likes: `{ p: ..., cmd: 1 }`. */
function pingWith(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return frame(concat(Uint8Array.of(0x82, 0xa1, 0x70), value, Uint8Array.of(0xa3, 0x63, 0x6d, 0x64, 0x01)));
}

/** The header of an array of so many values. */
function arrayHeader(count: number): Uint8Array {
  return Uint8Array.of(0xdd, count >> 24, count >> 16, count >> 8, count);
}

const text = (ascii: string) => new TextEncoder().encode(ascii);
const many = <Item>(count: number, item: (index: number) => Item): Item[] =>
  Array.from({ length: count }, (_, i) => item(i));

const badFrame = { err: "BAD_FRAME" };
const invalid = { err: "INVALID_MESSAGE" };

const wrongTerminator = PING.with(-1, 0x0d);

const HOSTILE: Hostile[] = [
  { name: "a wrong terminator", bytes: wrongTerminator, replies: [badFrame], then: "closes" },
  {
    name: "a good frame behind a broken one",
    bytes: concat(wrongTerminator, PING, PING),
    replies: [badFrame],
    then: "closes",
  },
  { name: "a short header of 57,311 bytes", bytes: Uint8Array.of(0xff, 0xff), replies: [badFrame], then: "closes" },
  {
    name: "a long header over the limit",
    bytes: Uint8Array.of(0x1f, 0x1f, 0xff, 0xff, 0xff, 0xff),
    replies: [badFrame],
    then: "closes",
  },
  {
    name: "a long frame for a short payload",
    bytes: Uint8Array.of(0x1f, 0x1f, 0, 0, 0, 6),
    replies: [badFrame],
    then: "closes",
  },
  { name: "a first payload of no bytes", bytes: frame(new Uint8Array(0)), replies: [badFrame], then: "closes" },
  {
    name: "bytes behind the map",
    bytes: frame(concat(PING.slice(2, -1), PING.slice(2, -1))),
    replies: [invalid],
    then: "goes on",
  },
  {
    name: "an HTTP request, which ends",
    bytes: text("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    replies: [badFrame],
    then: "closes",
    halfClose: true,
  },
  {
    name: "an HTTP request with a cookie as long as the frame that GE declares",
    bytes: text(`GET / HTTP/1.1\r\nCookie: ${"x".repeat(12_000)}\r\n\r\n`),
    replies: [badFrame],
    then: "closes",
  },
  {
    name: "a TLS hello",
    bytes: concat(Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3), new Uint8Array(500)),
    replies: [badFrame],
    then: "closes",
  },
  {
    name: "a depth bomb",
    bytes: pingWith(concat(new Uint8Array(57_000).fill(0x91), Uint8Array.of(0xc0))),
    replies: [invalid],
    then: "goes on",
  },
  {
    name: "65,000 empty texts, which are no more than allowed",
    bytes: pingWith(concat(arrayHeader(65_000), new Uint8Array(65_000).fill(0xa0))),
    replies: [PONG],
    then: "goes on",
  },
  {
    name: "200,000 empty texts, which take more memory than allowed",
    bytes: pingWith(concat(arrayHeader(200_000), new Uint8Array(200_000).fill(0xa0))),
    replies: [invalid],
    then: "goes on",
  },
  {
    name: "an array that declares 4 billion values and has none",
    bytes: pingWith(arrayHeader(-1)),
    replies: [invalid],
    then: "goes on",
  },
  {
    name: "100 good frames and a bad one",
    bytes: concat(...many(100, (seq) => request({ cmd: 1, seq })), wrongTerminator),
    replies: [...many(100, (seq) => ({ seq, ...PONG })), badFrame],
    then: "closes",
  },
  {
    name: "100 good frames in the lane and a bad one",
    bytes: concat(...many(100, () => request({ cmd: 2, sleep: 0.0001 })), wrongTerminator),
    replies: [...many(100, () => ({ res: "DONE" })), badFrame],
    then: "closes",
  },
  ...[1, 50, 1_000].flatMap((count): Hostile[] => [
    {
      name: `a half close behind ${count} that wait in line`,
      bytes: concat(...many(count, (index) => index % 10 === 0 ? request({ cmd: 2, sleep: 0.0001 }) : PING)),
      replies: many(count, (index) => index % 10 === 0 ? { res: "DONE" } : PONG),
      then: "closes",
      halfClose: true,
    },
    {
      name: `a half close behind ${count} side by side`,
      bytes: concat(...many(count, (seq) => request({ cmd: 2, sleep: 0.01, seq }))),
      replies: many(count, (seq) => ({ seq, res: "DONE" })),
      then: "closes",
      halfClose: true,
    },
  ]),
  {
    name: "100,000 cancels of nothing",
    bytes: concat(...new Array(100_000).fill(request({ cmd: 0, seq: 5, cancel: true }))),
    replies: [],
    then: "goes on",
  },
  {
    name: "10,000 requests, each cancelled at once",
    bytes: concat(
      ...many(10_000, (seq) => concat(request({ cmd: 2, sleep: 60, seq }), request({ cmd: 0, seq, cancel: true }))),
    ),
    replies: many(10_000, (seq) => ({ seq, err: "CANCELLED" })),
    then: "goes on",
  },
  {
    name: "100 bad messages, which are no more than allowed",
    bytes: concat(...many(100, () => frame(Uint8Array.of(0x81, 0xc1)))),
    replies: many(100, () => invalid),
    then: "goes on",
  },
  {
    name: "10,000 bad messages",
    bytes: concat(...many(10_000, () => frame(Uint8Array.of(0x81, 0xc1)))),
    replies: many(101, () => invalid),
    then: "closes",
  },
  {
    // The requests come in the same read as the last strike: not one of them may begin.
    name: "a seq in flight, 101 times more, and requests right behind, and another 10,000 times",
    bytes: concat(
      request({ cmd: 2, sleep: 60, seq: 1 }),
      ...many(101, () => request({ cmd: 1, seq: 1 })),
      ...many(100, (seq) => request({ cmd: 2, sleep: 60, seq: 2 + seq })),
      ...many(10_000, () => request({ cmd: 1, seq: 1 })),
    ),
    replies: many(101, () => invalid),
    then: "closes",
  },
];

for (const transport of [TCP, TLS]) {
  testWith(
    transport.packages,
    `hostile wire - each gets what it must, and 64 good clients notice nothing (${transport.name})`,
    async (t) => {
      await using server = await withServer({}, transport);
      const { address } = server;
      const fared = await besideGoodClients(address, GOOD_CLIENTS, async () => {
        for (const hostile of HOSTILE) await t.step(hostile.name, () => check(address, hostile));
        await t.step("2,000 connections of random bytes", () => checkRandom(address));
        await t.step("truncation at every byte, with FIN", () => checkTruncations(address));
        await t.step("truncation at every byte, with RST", () => checkResets(server));
        await t.step("a frame that never ends", () => checkEndlessFrame(transport));
      });
      console.log(shown(fared));
      const { refused } = await untilAtRest(address);
      console.log(refused);
      assert(fared.p99Ms < 1_000, `good calls took ${fared.p99Ms} ms`);
    },
  );
}

/** Random bytes, then FIN: whatever they happen to mean, the answer is one of three, and a broken frame is the last. */
async function checkRandom(address: Address): Promise<void> {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const checkOne = async () => {
    await using peer = await connectPeer(address);
    const bytes = random.bytes(random.between(1, 2_000));
    // Every other one looks like a short frame, so that not all end at the header.
    if (random.chance(0.5)) bytes.set([0x20, 0x20 + random.below(40)].slice(0, bytes.length));
    await peer.sendBytes(bytes);
    await peer.halfClose();
    const codes = (await peer.readToEnd()).map(({ err }) => err);
    for (const [index, code] of codes.entries()) {
      const allowed = index === codes.length - 1 ? ["BAD_FRAME", "INVALID_MESSAGE"] : ["INVALID_MESSAGE"];
      assert(allowed.includes(String(code)), `${code} for random bytes`);
    }
  };
  for (let round = 0; round < 40; round++) await Promise.all(many(50, checkOne));
}

/** One in the lane, one beside it, one that cannot be done. */
const THREE = [
  request({ cmd: 2, sleep: 0.0001 }),
  request({ cmd: 1, seq: 7 }),
  request({ cmd: 99, seq: 8, meta: { token: "x" } }),
];
const STREAM = concat(...THREE);

async function checkTruncations(address: Address): Promise<void> {
  const before = (await statisticsOf(address)).refused.truncated;
  let inside = 0;
  for (let length = 0; length <= STREAM.length; length++) {
    let whole = 0;
    for (let end = 0; whole < 3 && (end += THREE[whole].length) <= length;) whole++;
    if (length !== concat(...THREE.slice(0, whole)).length) inside++;
    const replies = [{ res: "DONE" }, { seq: 7, ...PONG }, { seq: 8, err: "CMD_NOT_FOUND" }].slice(0, whole);
    await using peer = await connectPeer(address);
    await peer.sendBytes(STREAM.subarray(0, length));
    await peer.halfClose();
    const received = (await peer.readToEnd()).map(essence);
    // DELAY ends in its own time.
    const inOrder = replies.map((reply) => received.find(({ seq }) => seq === reply.seq));
    assertEquals([inOrder, received.length], [replies, whole], `cut after ${length} bytes`);
  }
  assertEquals((await statisticsOf(address)).refused.truncated - before, inside);
}

async function checkResets(server: TestServer): Promise<void> {
  const before = (await statisticsOf(server.address)).connections;
  for (let length = 0; length <= STREAM.length; length++) {
    await using peer = await connectResettable(server.address);
    await peer.sendBytes(STREAM.subarray(0, length));
    peer.reset();
  }
  await until(
    "the connections are gone",
    async () => (await statisticsOf(server.address)).connections.open === before.open,
  );
  assertEquals(server.errors.take(), []);
}

/** A frame has its time, whatever comes of it meanwhile; what runs beside it is told. */
async function checkEndlessFrame(transport: Transport): Promise<void> {
  const held = new Held();
  await using server = await withServer({ commands: { HELD: held.command }, frameTimeoutMs: 100 }, transport);
  await using peer = await server.connect();
  await peer.sendBytes(concat(request({ cmd: "HELD", seq: 1 }), text("GET / HTTP/1.1\r\n")));
  assertEquals((await peer.readToEnd()).map(({ err }) => err), ["BAD_FRAME"]);
  assertEquals(server.errors.take().length, 1, "the log says why");
  assert(held.calls[0].context.signal.aborted);
  held.finishAll();
}

Deno.test("hostile wire - canary: a server on conn.readable loses what a half close leaves in flight", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served: Promise<void>[] = [];
  const accepting = (async () => {
    try {
      for await (const conn of listener) served.push(serveOne(fromStreams(conn), { onError() {} }));
    } catch {
      // The listener is closed.
    }
  })();
  const halfClose = HOSTILE.find(({ name }) => name === "a half close behind 50 side by side") as Hostile;
  await assertRejects(() => check({ port: listener.addr.port }, halfClose));
  listener.close();
  await accepting;
  await Promise.all(served);
});
