/** Order (PROTOCOL.md, "The frame", "Order", "What goes wrong"): the lane, requests with `seq`, half-closes, and a broken frame behind it all. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { newSeed, Random } from "../support/random.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory } from "../support/test_server.ts";
import { chunksOf, concat, frame, hex, request, unhex } from "../support/wire.ts";

const SEED = newSeed();

const PONG = { res: "PONG" };
const BAD_FRAME = unhex("20 21 90 0d");

Deno.test("dispatch answers a request as the article's server does, byte for byte", async () => {
  const pairs: [request: string, reply: string][] = [
    ["202681a3636d64010a", "202a81a3726573a4504f4e470a"], // PING
    ["202d82a5736c656570ffa3636d64020a", "203381a3657272ad494e56414c49445f534c4545500a"], // DELAY -1
    ["2021900a", "203381a3657272ad434d445f4e4f545f464f554e440a"], // FOO
  ];
  for (const [asked, answered] of pairs) {
    await using served = withMemory();
    await served.peer.sendBytes(unhex(asked));
    await served.peer.halfClose();
    await served.peer.readToEnd();
    assertEquals(hex(served.peer.received), hex(unhex(answered)));
  }
});

Deno.test("dispatch answers after a stream that cannot be sent to its end, and not before its error", async () => {
  let give!: (item: unknown) => void;
  const STREAM = command(async function* () {
    yield 1;
    yield await new Promise<unknown>((resolve) => give = resolve);
    yield 3;
  });
  await using served = withMemory({ commands: { STREAM } });
  const { peer } = served;
  const throwing = {
    get text(): string {
      throw new Error("a bug");
    },
  };
  for (const unsendable of [new Map(), throwing]) {
    await peer.send({ cmd: "STREAM" }, { cmd: 1 });
    assertEquals(await peer.readReply(), { res: 1, more: true });
    await settle();
    give(unsendable);
    const [first, second] = await peer.readReplies(2);
    assertEquals([first.err, second], ["REPLY_NOT_ENCODABLE", PONG]);
  }
  assertEquals(served.errors.take().length, 2);
});

Deno.test("dispatch answers requests without seq in their order, with a slow one in front", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", id: "slow" }, { cmd: 1 }, { cmd: "NOTHING" }, { cmd: 2, sleep: -1 }, {
    cmd: "HOLD",
    id: 2,
  });
  await peer.sendBytes(frame(unhex("81 c1")));
  await peer.send({ cmd: "HOLD", id: 3 });
  assertEquals(await peer.readReady(), []);
  assertEquals(held.calls.length, 1, "one at a time");
  held.calls[0].finish();
  const [slow, pong, unknown, invalid, ...rest] = await peer.readReady();
  assertEquals([slow, pong, unknown, invalid], [{ res: "slow" }, PONG, { err: "CMD_NOT_FOUND" }, {
    err: "INVALID_SLEEP",
  }]);
  assertEquals(rest, []);
  held.calls[1].finish();
  const [second, malformed, ...more] = await peer.readReady();
  assertEquals([second.res, malformed.err, more], [2, "INVALID_MESSAGE", []]);
  held.calls[2].finish();
  assertEquals(await peer.readReady(), [{ res: 3 }]);
});

Deno.test("dispatch keeps nothing of what the lane has done with, though something waits in it all the time", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  const text = "x".repeat(50_000);
  await peer.send({ cmd: "HOLD", text });
  const before = Deno.memoryUsage().heapUsed;
  for (let count = 0; count < 4_000; count++) {
    await peer.send({ cmd: "HOLD", text });
    while (held.calls.length === 0) await settle(1);
    held.calls.shift()!.finish(1);
  }
  const grownBytes = Deno.memoryUsage().heapUsed - before;
  assert(grownBytes < 100_000_000, `200 MB of requests have left ${grownBytes} bytes`);
  await peer.readReplies(4_000);
  held.finishAll();
});

Deno.test("dispatch answers requests with seq beside one another, as they complete", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send(...[10, 11, 12, 13].map((seq) => ({ cmd: "HOLD", seq, id: seq })));
  assertEquals(await peer.readReady(), []);
  assertEquals(held.calls.length, 4, "all at once");
  held.calls[2].finish();
  assertEquals(await peer.readReady(), [{ seq: 12, res: 12 }]);
  held.calls[3].finish();
  held.calls[0].finish();
  assertEquals(await peer.readReady(), [{ seq: 13, res: 13 }, { seq: 10, res: 10 }]);
  held.calls[1].finish();
  assertEquals(await peer.readReady(), [{ seq: 11, res: 11 }]);
});

Deno.test("dispatch serves both kinds on one connection: neither waits for the other", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", id: "lane" }, { cmd: 1 }, { cmd: 1, seq: 7 }, { cmd: "HOLD", seq: 8, id: "beside" });
  assertEquals(await peer.readReady(), [{ seq: 7, ...PONG }]);
  held.calls[0].finish();
  assertEquals(await peer.readReady(), [{ res: "lane" }, PONG]);
  assertEquals(held.calls[1].params, { id: "beside" });
  held.calls[1].finish();
  assertEquals(await peer.readReady(), [{ seq: 8, res: "beside" }]);
});

Deno.test("dispatch refuses a seq that is in flight, without that seq, and answers the first", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 0 }, { cmd: 1, seq: 0 }, { cmd: "HOLD", seq: 0 }, { cmd: 1, seq: 0, ttl: -1 });
  const refused = await peer.readReady();
  assertEquals(refused.map(({ seq, err }) => [seq, err]), new Array(3).fill([undefined, "INVALID_MESSAGE"]));
  assertEquals(held.calls.length, 1);
  held.calls[0].finish();
  assertEquals(await peer.readReady(), [{ seq: 0, res: null }]);
  assertEquals(await peer.ask({ cmd: 1, seq: 0 }), { seq: 0, ...PONG }, "free again");
});

Deno.test("dispatch refuses a seq that is none, without seq", async () => {
  await using served = withMemory();
  for (const seq of [-1, 1.5, "1", null, 2n ** 53n, [], NaN]) {
    const { err, seq: told } = await served.peer.ask({ cmd: 1, seq });
    assertEquals([err, told], ["INVALID_MESSAGE", undefined], Deno.inspect(seq));
  }
  assertEquals(await served.peer.ask({ cmd: 1, seq: 2 ** 53 - 1 }), { seq: 2 ** 53 - 1, ...PONG });
});

for (const count of [1, 50, 1_000]) {
  Deno.test(`dispatch answers all of ${count} requests behind which the client half-closes`, async () => {
    const held = new Held();
    await using served = withMemory({ commands: { HOLD: held.command } });
    const { peer } = served;
    const requests = Array.from({ length: count }, (_, index) => request({ cmd: "NOTHING", seq: index, id: index }));
    const last = request({ cmd: "HOLD", id: "last" });
    const sent = peer.sendBytes(concat(...requests, last)).then(() => peer.halfClose());
    const replies = await peer.readReplies(count);
    assertEquals(replies.map(({ seq }) => seq), requests.map((_, index) => index));
    await sent;
    assertEquals(await peer.hasEnded(), false, "the last is not answered yet");
    held.finishAll();
    assertEquals(await peer.readToEnd(), [{ res: "last" }]);
    await served.served;
  });
}

Deno.test("dispatch closes at once behind a half-close with nothing in flight", async () => {
  await using served = withMemory();
  await served.peer.halfClose();
  assertEquals(await served.peer.readToEnd(), []);
  await served.served;
});

Deno.test(`dispatch answers the same however the bytes are cut (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  const stream = concat(
    ...Array.from({ length: 30 }, (_, index) => request({ cmd: random.pick(["PING", 1, "\n", 0.5]), seq: index })),
    frame(unhex("90")),
    request({ cmd: 1, text: "\n".repeat(3_000) }),
    frame(unhex("81")),
  );
  const answers = async (chunks: Uint8Array[]) => {
    await using served = withMemory();
    const sent = served.peer.sendBytes(...chunks).then(() => served.peer.halfClose());
    await served.peer.readToEnd();
    await sent;
    return hex(served.peer.received);
  };
  const whole = await answers([stream]);
  assert(whole.length > 1_000);
  for (const size of [1, 2, 3, 1_000]) assertEquals(await answers(chunksOf(stream, size)), whole, `chunks of ${size}`);
  for (let round = 0; round < 20; round++) {
    assertEquals(await answers(random.pieces(stream, random.pick([2, 20, 200]))), whole, `round ${round}`);
  }
});

// A broken frame -----------------------------------------------------------------------------------------------------

Deno.test("dispatch answers a broken frame last, then ends the connection, and reads nothing behind it", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.sendBytes(
    concat(request({ cmd: 1 }), request({ cmd: 1, seq: 5 }), BAD_FRAME, request({ cmd: 1, seq: 6 })),
  );
  const [first, second, last, ...rest] = await peer.readToEnd();
  assertEquals([first, second], [PONG, { seq: 5, ...PONG }]);
  assertEquals([last.err, last.seq, typeof last.msg], ["BAD_FRAME", undefined, "string"]);
  assertEquals(rest, []);
});

Deno.test("dispatch answers a broken frame behind all that is still in flight", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  const { peer } = served;
  await peer.sendBytes(concat(
    request({ cmd: "HOLD", seq: 1 }),
    request({ cmd: "HOLD", id: "lane" }),
    request({ cmd: "HOLD", id: "waits in the lane" }),
    request({ cmd: "HOLD", seq: 2 }),
    BAD_FRAME,
  ));
  assertEquals(await peer.readReady(), []);
  held.finishAll();
  assertEquals((await peer.readReady()).length, 3);
  assertEquals(await peer.hasEnded(), false);
  held.finishAll();
  const [lane, last, ...rest] = await peer.readToEnd();
  assertEquals([lane.res, last.err, rest], ["waits in the lane", "BAD_FRAME", []]);
});

Deno.test("dispatch tells a peer that goes on sending of its broken frame all the same", async () => {
  await using served = withMemory();
  const { peer } = served;
  const flood = (async () => {
    await peer.sendBytes(BAD_FRAME);
    while (true) await peer.sendBytes(new Uint8Array(1_000));
  })();
  const [reply, ...rest] = await peer.readToEnd();
  assertEquals([reply.err, rest], ["BAD_FRAME", []]);
  await assertRejects(() => flood);
  await served.served;
});

Deno.test("dispatch says nothing to a stream that ends inside a frame, and answers what came before", async () => {
  const bytes = request({ cmd: 1 });
  for (let cut = 1; cut < bytes.length; cut++) {
    await using served = withMemory();
    await served.peer.sendBytes(concat(bytes, bytes.slice(0, cut)));
    await served.peer.halfClose();
    assertEquals(await served.peer.readToEnd(), [PONG]);
  }
});

Deno.test("dispatch sends nothing that was not asked for", async () => {
  await using served = withMemory();
  assertEquals(await served.peer.readReady(), []);
  await served.peer.send({ cmd: 0, max: 100_000 }, { cmd: 0, seq: 5, cancel: true }, { cmd: 0, seq: 5, credit: 5 });
  assertEquals(await served.peer.readReady(), []);
  await settle();
  assertEquals(served.peer.received.length, 0);
});
