/**
 * Hostile bytes from a server, on real sockets: the calls that were answered before them have their replies, the others the
 * truth, and the next call goes to another connection. Beside it, good clients of a good server notice nothing.
 *
 * A client that passes over what it cannot read is the canary: its calls never settle.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { testWith } from "../production/programs.ts";
import { type Network, ScriptedServer, tcpNetwork, tlsNetwork } from "../support/scripted_server.ts";
import { TCP, TLS } from "../support/transports.ts";
import { withServer } from "../support/test_server.ts";
import { concat, frame, message, takeFrames, unhex } from "../support/wire.ts";
import { besideGoodClients, shown, until } from "./beside.ts";

/** Calls in flight when the bytes come: their `seq` are 0, 1 and 2. */
const CALLS = 3;

/** What the server sends, and what becomes of the calls: `"value"`, or a code. */
interface Hostile {
  name: string;
  bytes: Uint8Array;
  outcomes: [string, string, string];
  /** Says that no more will come. */
  halfClose?: boolean;
  /** Replies that belong to nobody. */
  lateReplies?: number;
}

const many = <Item>(count: number, item: (index: number) => Item): Item[] =>
  Array.from({ length: count }, (_, i) => item(i));
const text = (ascii: string) => new TextEncoder().encode(ascii);

const VALUE = 7;
const good = (seq: number) => message({ seq, res: VALUE });
const [ZERO, ONE, TWO] = [0, 1, 2].map(good);
const ALL = concat(ZERO, ONE, TWO);

/** A reply to call 1 with one more field, whose value a test writes by hand. */
function oneWith(value: Uint8Array): Uint8Array<ArrayBuffer> {
  return frame(concat(unhex("83 a3 73 65 71 01 a3 72 65 73 07 a1 70"), value));
}

/** Behind a reply to call 0, something that ends the connection. */
function ending(name: string, bytes: Uint8Array): Hostile {
  return { name, bytes: concat(ZERO, bytes), outcomes: ["value", "BAD_REPLY", "BAD_REPLY"] };
}

const HOSTILE: Hostile[] = [
  ending("a wrong terminator, and good replies behind it", concat(ONE.with(-1, 0x0d), ONE, TWO)),
  ending("a short header of 57,311 bytes", unhex("ff ff")),
  ending("a long header over the limit", unhex("1f 1f ff ff ff ff")),
  ending("a long frame for a short payload", unhex("1f 1f 00 00 00 06")),
  ending("a payload of no bytes", frame(new Uint8Array(0))),
  ending("bytes behind the map", frame(concat(ONE.slice(2, -1), TWO.slice(2, -1)))),
  ending("a TLS alert", unhex("15 03 03 00 02 02 28")),
  ending(
    "an HTTP answer as long as the frame that HT declares",
    text(`HTTP/1.1 400 Bad Request\r\n${"x".repeat(11_000)}`),
  ),
  ending("a depth bomb", oneWith(concat(new Uint8Array(57_000).fill(0x91), unhex("c0")))),
  ending(
    "200,000 empty texts, which take more memory than allowed",
    oneWith(concat(unhex("dd 00 03 0d 40"), new Uint8Array(200_000).fill(0xa0))),
  ),
  ending("an array that declares 4 billion values and has none", oneWith(unhex("dd ff ff ff ff"))),
  ending("a reply whose seq is a text", message({ seq: "1", res: VALUE })),
  {
    name: "an HTTP answer, which ends",
    bytes: text("HTTP/1.1 400 Bad Request\r\n\r\n"),
    outcomes: ["CONNECTION_LOST", "CONNECTION_LOST", "CONNECTION_LOST"],
    halfClose: true,
  },
  {
    name: "65,000 empty texts, which are no more than allowed",
    bytes: concat(ZERO, oneWith(concat(unhex("dd 00 00 fd e8"), new Uint8Array(65_000).fill(0xa0))), TWO),
    outcomes: ["value", "value", "value"],
  },
  {
    name: "10,000 replies to nobody",
    bytes: concat(...many(10_000, (index) => good(100 + index)), ALL),
    outcomes: ["value", "value", "value"],
    lateReplies: 10_000,
  },
  {
    name: "each reply 1,000 times",
    bytes: concat(...many(1_000, () => ALL)),
    outcomes: ["value", "value", "value"],
    lateReplies: 3 * 999,
  },
];

/** Makes the calls that the bytes are for, and waits for what becomes of them. */
async function outcomesOf(client: Client, send: () => Promise<void>, patienceMs?: number): Promise<string[]> {
  const outcomes: string[] = [];
  for (let index = 0; index < CALLS; index++) {
    client.reply("PING").then(({ res }) => {
      assertEquals(res, VALUE as unknown);
      outcomes[index] = "value";
    }).catch((error) => outcomes[index] = error instanceof RpcError ? error.code : String(error));
  }
  await send();
  await until("all calls settle", () => Object.keys(outcomes).length === CALLS, patienceMs);
  return outcomes;
}

/** Lets a client meet a bad server first, and a good one then. */
async function check(
  goodPort: number,
  { bytes, outcomes, halfClose, lateReplies = 0 }: Hostile,
  {
    through = (transport: Transport) => transport,
    patienceMs = undefined as number | undefined,
    listen = tcpNetwork as () => Network | Promise<Network>,
  } = {},
): Promise<void> {
  using network = await listen();
  let dials = 0;
  const dial = async (): Promise<Transport> =>
    dials++ === 0 ? through(await network.dial()) : await Deno.connect({ hostname: "127.0.0.1", port: goodPort });
  const accepted = ScriptedServer.accept(network);
  await using client = await connect({ dial, timeoutMs: Infinity, random: () => 0 });
  await using server = await accepted;
  const send = async () => {
    await server.requests(CALLS);
    await server.send(bytes);
    if (halfClose) await server.halfClose();
  };
  assertEquals(await outcomesOf(client, send, patienceMs), outcomes);
  await until("replies to nobody are counted", () => client.statistics().lateReplies === lateReplies);
  const survives = outcomes.every((outcome) => outcome === "value");
  if (survives) {
    assertEquals(client.state, "open");
  } else {
    assertEquals(await server.rest(), [], "nothing more is said to it");
    assertEquals(await client.reply("PING"), { res: "PONG" });
  }
  assertEquals(dials, survives ? 1 : 2);
}

for (const [transport, listen] of [[TCP, tcpNetwork], [TLS, tlsNetwork]] as const) {
  testWith(
    transport.packages,
    `bad server - each call gets its reply or the truth, and 8 good clients notice nothing (${transport.name})`,
    async (t) => {
      await using server = await withServer();
      const fared = await besideGoodClients(server.port, 8, async () => {
        for (const hostile of HOSTILE) await t.step(hostile.name, () => check(server.port, hostile, { listen }));
        await t.step("200 connections of random bytes", () => checkRandom(listen));
      });
      console.log(shown(fared));
    },
  );
}

/** Random bytes, then FIN: whatever they happen to mean, each call settles with a code that is true. */
async function checkRandom(listen: () => Network | Promise<Network>): Promise<void> {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  using network = await listen();
  for (let count = 0; count < 200; count++) {
    const accepted = ScriptedServer.accept(network);
    await using client = await connect({ dial: () => network.dial(), timeoutMs: Infinity });
    await using server = await accepted;
    const bytes = random.bytes(random.between(1, 2_000));
    // Every other one looks like a short frame, so that not all end at the header.
    if (random.chance(0.5)) bytes.set([0x20, 0x20 + random.below(40)].slice(0, bytes.length));
    const outcomes = await outcomesOf(client, async () => {
      await server.requests(CALLS);
      await server.send(bytes);
      await server.halfClose();
    });
    for (const outcome of outcomes) assert(["BAD_REPLY", "CONNECTION_LOST"].includes(outcome), outcome);
  }
}

Deno.test("bad server - one that sends a byte now and then does not hold a call beyond its time", async () => {
  const clock = new FakeClock();
  using network = tcpNetwork();
  const accepted = ScriptedServer.accept(network);
  await using client = await connect({ dial: () => network.dial(), clock, timeoutMs: 10_000 });
  await using server = await accepted;
  let code = "";
  const call = client.reply("PING").catch((error) => code = error.code);
  await server.request();
  const bytes = message({ seq: 0, res: "x".repeat(100) });
  let seconds = 0;
  for (; code === "" && seconds < 20; seconds++) {
    await server.send(bytes.slice(seconds, seconds + 1));
    await clock.advance(1_000);
  }
  await call;
  assertEquals(code, "TIMEOUT");
  assert(seconds === 10 || seconds === 11, `${seconds} s`);
});

Deno.test("bad server - one that reads nothing does not hold a call beyond its time, written or not", async () => {
  const clock = new FakeClock();
  using network = tcpNetwork();
  const accepted = ScriptedServer.accept(network, { reads: false });
  await using client = await connect({ dial: () => network.dial(), clock, timeoutMs: 10_000 });
  await using _server = await accepted;
  // 200 MB: more than any kernel keeps for one connection, and more calls than may be in flight.
  const value = "x".repeat(1_000_000);
  const codes = Promise.all(many(200, () => client.reply("PING", { value }).then(() => "value", ({ code }) => code)));
  await clock.advance(10_010);
  assertEquals(new Set(await codes), new Set(["TIMEOUT"]));
});

/** Passes on whole frames with the newline that they should have, and nothing else. */
function forgiving(transport: Transport): Transport {
  let held = new Uint8Array(0);
  const repair = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      const { payloads, rest } = takeFrames(concat(held, chunk).map((byte) => byte === 0x0d ? 0x0a : byte));
      held = new Uint8Array(rest);
      for (const payload of payloads) if (payload[0] === 0x82) controller.enqueue(frame(payload));
    },
  });
  const { readable, writable, close } = streamsOf(transport);
  return fromStreams({ writable, readable: readable.pipeThrough(repair), close });
}

Deno.test("bad server - canary: a client that passes over what is wrong is caught", async () => {
  await using server = await withServer();
  const [terminator] = HOSTILE;
  const noPayload = HOSTILE.find(({ name }) => name === "a payload of no bytes") as Hostile;
  await check(server.port, terminator);
  await assertRejects(() => check(server.port, terminator, { through: forgiving }), Error, "not equal");
  await assertRejects(
    () => check(server.port, noPayload, { through: forgiving, patienceMs: 200 }),
    Error,
    "not within 200 ms: all calls settle",
  );
});
