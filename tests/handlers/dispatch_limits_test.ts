/** Limits of what runs at once (PROTOCOL.md, "Order", "Cancel", "What goes wrong"): at the limit, and one beyond. */

import { assert, assertEquals } from "@std/assert";
import { encode } from "../support/msgpack.ts";
import { command } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import type { Limits } from "../../limits.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { concat, frame, type Message, request, unhex } from "../support/wire.ts";
import { overEach } from "../support/transports.ts";

const PONG = { res: "PONG" };

function holds(count: number, from = 0): Message[] {
  return Array.from({ length: count }, (_, index) => ({ cmd: "HOLD", seq: from + index, id: from + index }));
}

/** Sends each request in a write of its own, without waiting: what the server does not read stays behind. */
function pour(peer: { send(...fields: Message[]): Promise<void> }, all: Message[]): { taken: number } {
  const poured = { taken: 0 };
  for (const fields of all) peer.send(fields).then(() => poured.taken++, () => {});
  return poured;
}

// In flight on one connection ----------------------------------------------------------------------------------------

Deno.test("dispatch runs as many handlers as maxInFlight; the other calls are read and wait", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlight: 3 });
  const poured = pour(served.peer, holds(20));
  await settle();
  assertEquals([held.calls.length, held.peak, poured.taken], [3, 3, 20]);
  held.calls[1].finish();
  assertEquals(await served.peer.readReady(), [{ seq: 1, res: 1 }]);
  assertEquals([held.calls.length, held.peak], [4, 3], "one out, one in");
  while (held.calls.length < 20) {
    held.finishAll();
    await settle();
  }
  held.finishAll();
  assertEquals((await served.peer.readReplies(19)).length, 19);
  assertEquals(held.peak, 3);
});

Deno.test("dispatch does not count what waits in the lane as running", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlight: 3 });
  await served.peer.send({ cmd: "HOLD" }, { cmd: 1 }, { cmd: 1 }, ...holds(10));
  await settle();
  assertEquals([held.calls.length, held.running], [3, 3]);
  held.calls[0].finish();
  assertEquals(await served.peer.readReady(), [{ res: null }, PONG, PONG]);
  assertEquals(held.running, 3);
  while (held.calls.length < 11) {
    held.finishAll();
    await settle();
  }
  held.finishAll();
  await served.peer.readReplies(10);
});

Deno.test("dispatch holds to maxInFlight also where all came in one read", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlight: 3 });
  const sent = served.peer.sendBytes(concat(...holds(10).map(request), frame(unhex("81 c1")), request({ cmd: 1 })));
  const replies: Message[] = [];
  for (let round = 0; round < 10; round++) {
    await settle();
    held.finishAll();
    replies.push(...await served.peer.readReady());
  }
  await sent;
  assertEquals(held.peak, 3);
  assertEquals(replies.filter(({ seq }) => seq !== undefined).map(({ seq }) => seq), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(replies.filter(({ seq }) => seq === undefined).map(({ err, res }) => err ?? res), [
    "INVALID_MESSAGE",
    "PONG",
  ]);
});

Deno.test("dispatch lets a cancel through at exactly the limit; the place is free when the handler ends", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlight: 3 });
  const { peer } = served;
  await peer.send(...holds(3));
  await settle();
  assertEquals(await peer.ask({ cmd: 0, seq: 1, cancel: true }), { seq: 1, err: "CANCELLED" });
  pour(peer, [{ cmd: "HOLD", seq: 7, id: 7 }]);
  await settle();
  assertEquals(held.calls.length, 3, "the cancelled handler still runs");
  held.calls[1].finish();
  await settle();
  assertEquals(held.calls.length, 4);
  held.finishAll();
  assertEquals((await peer.readReplies(3)).map(({ seq }) => seq), [0, 2, 7]);
});

Deno.test("dispatch lets credit through at exactly the limit", async () => {
  const COUNT = command({
    async *handler(_params: Message): AsyncGenerator<number, void, void> {
      for (let count = 1;; count++) yield count;
    },
  });
  await using served = withMemory({ commands: { COUNT }, maxInFlight: 1 });
  await served.peer.send({ cmd: "COUNT", seq: 1, credit: 1 });
  assertEquals((await served.peer.readReady()).length, 1);
  await served.peer.send({ cmd: 0, seq: 1, credit: 2 });
  assertEquals((await served.peer.readReady()).length, 2);
});

overEach(
  "dispatch keeps to maxInFlight on a socket, under a client that sends a thousand at once",
  async (transport) => {
    let [running, peak] = [0, 0];
    const WORK = command({
      handler: async ({ id }: { id: number }) => {
        peak = Math.max(peak, ++running);
        await settle(1);
        running--;
        return id;
      },
    });
    await using server = await withServer({ commands: { WORK }, maxInFlight: 8 }, transport);
    const peer = await server.connect();
    const sent = peer.send(...Array.from({ length: 1_000 }, (_, id) => ({ cmd: "WORK", seq: id, id })));
    const replies = await peer.readReplies(1_000);
    await sent;
    assertEquals(new Set(replies.map(({ seq }) => seq)).size, 1_000);
    assert(replies.every(({ seq, res }) => seq === res));
    assertEquals([peak, running], [8, 0]);
  },
);

overEach(
  "dispatch leaves what it does not read in the kernel: a client that does not wait is held back",
  async (transport) => {
    const held = new Held();
    await using server = await withServer({
      commands: { HOLD: held.command },
      maxInFlight: 1,
      maxHeldBytes: 2 ** 20,
      maxPayloadBytes: 2 ** 20,
    }, transport);
    const peer = await server.connect();
    const watcher = await server.connect();
    let sent = 0;
    // A kernel keeps some 10 MiB of a connection at the most; what is sent beyond is somewhere in the server's memory.
    const megabyte = request({ cmd: "HOLD", text: "x".repeat(2 ** 20 - 50) });
    const sending = (async () => {
      for (; sent < 64; sent++) await peer.sendBytes(megabyte);
    })().catch(() => {});
    let received = -1;
    for (let stable = 0; stable < 5;) {
      await settle();
      const { res } = await watcher.ask({ cmd: "STATS" }) as { res: { bytes: { received: number } } };
      const [before, now] = [received, res.bytes.received];
      stable = now - before < 1_000 ? stable + 1 : 0;
      received = now;
    }
    assert(received < 4 * 2 ** 20, `${received} bytes were read`);
    assert(sent < 20, `${sent} MiB were taken`);
    assertEquals(held.running, 1);
    peer.close();
    await sending;
    held.finishAll();
  },
);

// In flight in the whole server --------------------------------------------------------------------------------------

overEach("dispatch answers OVERLOADED, unstarted, beyond maxInFlightTotal, over all connections", async (transport) => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command }, maxInFlightTotal: 3 }, transport);
  const [one, two] = [await server.connect(), await server.connect()];
  await one.send(...holds(2));
  await until(() => held.running === 2);
  await two.send(...holds(1));
  await until(() => held.running === 3);
  assertEquals(await one.ask({ cmd: "HOLD", seq: 5 }), { seq: 5, err: "OVERLOADED" });
  assertEquals(await two.ask({ cmd: "HOLD" }), { err: "OVERLOADED" });
  assertEquals(await two.ask({ cmd: 2, sleep: 0 }), { err: "OVERLOADED" });
  assertEquals(held.calls.length, 3);
  held.calls[0].finish();
  await one.readReply();
  assertEquals((await two.ask({ cmd: 2, sleep: 0 })).res, "DONE");
  held.finishAll();
  await Promise.all([one.readReply(), two.readReply()]);
});

Deno.test("dispatch frees a place in the whole server when the handler ends, not at the cancel", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlightTotal: 1 });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 1 });
  await peer.ask({ cmd: 0, seq: 1, cancel: true });
  assertEquals(await peer.ask({ cmd: 2, sleep: 0 }), { err: "OVERLOADED" });
  held.finishAll();
  await settle();
  assertEquals((await peer.ask({ cmd: 2, sleep: 0 })).res, "DONE");
});

// Output -------------------------------------------------------------------------------------------------------------

/**
 * How many of these requests are begun, that come in one write from a peer which reads nothing. The clock stands, so that
 * no turn is over before the output is full.
 */
async function begunUnread(limits: Partial<Limits>, ...requests: Message[]): Promise<number> {
  let begun = 0;
  const BULK = command({
    handler({ size }: { size: number }) {
      begun++;
      return "x".repeat(size);
    },
  });
  await using served = withMemory({ clock: new FakeClock(), commands: { BULK }, ...limits });
  const sent = served.peer.sendBytes(concat(...requests.map(request)));
  await settle();
  const before = begun;
  await served.peer.readReplies(requests.filter(({ cmd }) => cmd !== 0).length);
  await sent;
  return before;
}

const bulk = (count: number, size: number): Message[] => new Array(count).fill({ cmd: "BULK", size });

Deno.test("dispatch begins nothing beyond maxQueuedBytes: the reply that reaches it is the last", async () => {
  const frameBytes = frame(encode({ res: "x".repeat(50_000) })).length;
  assertEquals(await begunUnread({ maxQueuedBytes: 3 * frameBytes }, ...bulk(40, 50_000)), 3);
  assertEquals(await begunUnread({ maxQueuedBytes: 3 * frameBytes + 1 }, ...bulk(40, 50_000)), 4);
});

Deno.test("dispatch exceeds maxQueuedBytes by one reply at the most, however large the peer takes them", async () => {
  const leave = { cmd: 0, max: 2 ** 20 };
  const small = new Array(31).fill({ cmd: 1 });
  // 4 MiB: four replies of a million bytes are below, five are beyond.
  assertEquals(await begunUnread({}, leave, ...bulk(40, 1_000_000)), 5);
  assertEquals(await begunUnread({}, ...small, leave, ...small, ...bulk(40, 1_000_000)), 5);
});

Deno.test("dispatch goes on when half of maxQueuedBytes is sent, not a reply for each that is", async () => {
  let begun = 0;
  const BULK = command({ handler: ({ size }: { size: number }) => (begun++, "x".repeat(size)) });
  const frameBytes = frame(encode({ res: "x".repeat(50_000) })).length;
  await using served = withMemory({ clock: new FakeClock(), commands: { BULK }, maxQueuedBytes: 10 * frameBytes });
  const sent = served.peer.sendBytes(concat(...bulk(40, 50_000).map(request)));
  await settle();
  assertEquals(begun, 10);
  let readBytes = 0;
  while (begun === 10) {
    readBytes += await served.peer.readBytesOnce();
    await settle();
  }
  // What is sent has been read, but for one write that stands in the pipe.
  assert(readBytes >= 5 * frameBytes - 64 * 1024 && readBytes <= 6 * frameBytes + 64 * 1024, `${readBytes} bytes`);
  while (readBytes < 40 * frameBytes) readBytes += await served.peer.readBytesOnce();
  await sent;
  assertEquals([begun, readBytes], [40, 40 * frameBytes]);
});

// Strikes ------------------------------------------------------------------------------------------------------------

Deno.test("dispatch takes as many bad messages as maxStrikes, and closes at one more", async () => {
  await using served = withMemory({ maxStrikes: 5 });
  const { peer } = served;
  for (let count = 0; count < 5; count++) await peer.sendBytes(frame(unhex("81 c1")));
  assertEquals((await peer.readReplies(5)).map(({ err }) => err), new Array(5).fill("INVALID_MESSAGE"));
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  await peer.sendBytes(frame(unhex("81 c1")));
  const last = await peer.readToEnd();
  assertEquals(last.map(({ err }) => err), ["INVALID_MESSAGE"]);
});

Deno.test("dispatch counts each INVALID_MESSAGE as a strike, and in STATS, whatever is wrong", async () => {
  const bad = [{ cmd: 1, seq: -1 }, { cmd: 1, ttl: 0 }, { cmd: 1, meta: 1 }, { cmd: 1, credit: 1 }, {
    cmd: 0,
    max: "1",
  }];
  for (const fields of bad) {
    await using served = withMemory({ maxStrikes: 2 });
    const { peer } = served;
    await peer.send(fields, fields);
    assertEquals((await peer.readReplies(2)).map(({ err }) => err), ["INVALID_MESSAGE", "INVALID_MESSAGE"]);
    const { res } = await peer.ask({ cmd: 4 });
    assertEquals((res as ServerStatistics).refused.invalidMessage, 2, Deno.inspect(fields));
    await peer.send(fields, { cmd: 1 });
    assertEquals((await peer.readToEnd()).map(({ err }) => err), ["INVALID_MESSAGE"], Deno.inspect(fields));
  }
});

Deno.test("dispatch counts a seq that is in flight twice as a strike; nothing else that is refused", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, maxStrikes: 2 });
  const { peer } = served;
  for (
    const fields of [{ cmd: "NO" }, {}, { cmd: 2, sleep: -1 }, { cmd: 0, seq: 5, cancel: true }, {
      cmd: 0,
      max: 60_000,
    }]
  ) {
    for (let count = 0; count < 5; count++) await peer.send(fields);
  }
  await peer.readReplies(15);
  await peer.send(...holds(1), ...holds(1), ...holds(1));
  assertEquals((await peer.readReplies(2)).map(({ err }) => err), ["INVALID_MESSAGE", "INVALID_MESSAGE"]);
  assertEquals(await peer.hasEnded(), false);
  await peer.send(...holds(1));
  assertEquals((await peer.readToEnd()).map(({ err }) => err), ["INVALID_MESSAGE"]);
  assert(held.calls[0].context.signal.aborted);
  held.finishAll();
});

Deno.test("dispatch forgets strikes when their window is over", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, maxStrikes: 2, strikeWindowMs: 10_000 });
  const { peer } = served;
  const strike = () => peer.sendBytes(frame(unhex("81 c1"))).then(() => peer.readReply());
  for (let window = 0; window < 5; window++) {
    await strike();
    await clock.advance(9_000);
    await strike();
    await clock.advance(1_100);
  }
  await clock.advance(10_000);
  await strike();
  await strike();
  await peer.sendBytes(frame(unhex("81 c1")));
  assertEquals((await peer.readToEnd()).length, 1);
});

Deno.test("dispatch counts strikes in every window, wherever it begins; one that is older than that by 1 ms is none", async () => {
  for (const [lastAfterMs, closes] of [[10_000, true], [10_001, false]] as const) {
    for (const waitMs of [0, 8_500, 9_500]) {
      const clock = new FakeClock();
      await using served = withMemory({ clock, maxStrikes: 2, strikeWindowMs: 10_000 });
      const { peer } = served;
      const strike = () => peer.sendBytes(frame(unhex("81 c1"))).then(() => peer.readReply());
      await clock.advance(waitMs);
      await strike();
      await clock.advance(5_000);
      await strike();
      await clock.advance(lastAfterMs - 5_000);
      await strike();
      assertEquals(await peer.hasEnded(), closes, `the first after ${waitMs} ms, the third ${lastAfterMs} ms later`);
    }
  }
});

Deno.test("dispatch begins nothing behind the strike that ends the connection", async () => {
  let begun = 0;
  const COUNT = command({
    handler: (_params: Message) => {
      begun++;
      return begun;
    },
  });
  const LATER = command({ handler: (_params: Message) => Promise.resolve(++begun) });
  await using served = withMemory({ commands: { COUNT, LATER }, maxStrikes: 1 });
  await served.peer.sendBytes(concat(
    request({ cmd: "COUNT" }),
    frame(unhex("81 c1")),
    frame(unhex("81 c1")),
    request({ cmd: "COUNT" }),
    request({ cmd: "LATER", seq: 1 }),
  ));
  const replies = await served.peer.readToEnd();
  assertEquals(replies.map(({ res, err }) => res ?? err), [1, "INVALID_MESSAGE", "INVALID_MESSAGE"]);
  await settle();
  assertEquals(begun, 1);
});

/** Turns the event loop until something holds: on a socket, a message takes its time. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 1_000) throw new Error(`it never holds that ${holds}`);
    await settle();
  }
}
