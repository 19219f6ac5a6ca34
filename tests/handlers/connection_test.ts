/**
 * The eye on the time of a connection, on a clock that stands still: a frame, a silence and a write that take too long,
 * each up to its limit and beyond. The server looks twice a second, so an end may come up to a second late, never early.
 */

import { setImmediate } from "node:timers";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, type ServedInMemory, withMemory, withServer } from "../support/test_server.ts";
import { concat, request, unhex } from "../support/wire.ts";
import { overEach } from "../support/transports.ts";

const PONG = { res: "PONG" };
const LATE_MS = 1_000;

/** Whether the server has given the connection up; what it sent before is dropped. */
async function isOver({ peer, errors }: ServedInMemory): Promise<boolean> {
  await peer.readReady();
  for (const error of errors.take()) assertMatch(String(error), /BAD_FRAME: a frame arrives too slowly/);
  return await peer.hasEnded();
}

/** Answers with that many bytes. */
const BULK = command({ handler: ({ size }: { size: number }) => "x".repeat(size) });

// A turn -------------------------------------------------------------------------------------------------------------

Deno.test("a connection whose requests take long has less of them taken at once, and more again when they do not", async () => {
  const clock = new FakeClock();
  let round = 0;
  let calls: number[] = [];
  const COMPUTE = command({
    handler: ({ ms }: { ms: number }) => {
      clock.leap(ms);
      calls[round] = (calls[round] ?? 0) + 1;
      return null;
    },
  });
  await using served = withMemory({ clock, commands: { COMPUTE } });
  let counting = true;
  const countRounds = () => {
    round++;
    if (counting) setImmediate(countRounds);
  };
  countRounds();
  const mostAtOnce = async (ms: number): Promise<number> => {
    calls = [];
    const frames = Array.from({ length: 256 }, () => request({ cmd: "COMPUTE", ms, text: "x".repeat(2_000) }));
    await served.peer.sendBytes(concat(...frames));
    await served.peer.readReplies(256);
    return Math.max(...calls.slice(-Math.ceil(calls.length / 4)).filter((count) => count > 0));
  };
  await mostAtOnce(4);
  assertEquals(await mostAtOnce(4), 2); // the clock is read after each of this size, and 4 KiB hold the end of one, too
  await mostAtOnce(0);
  assert(await mostAtOnce(0) >= 30);
  counting = false;
  await settle();
});

Deno.test("a message that takes long to read does not hold up a call that comes after it on another connection", async () => {
  const names = Array.from({ length: 60_000 }, (_, index) => [`name ${index} of ${Math.random()}`, 0]);
  const long = request({ cmd: 1, seq: 1, names: Object.fromEntries(names) });
  await using served = await withServer({ maxPayloadBytes: 4 * 1024 * 1024 });
  const peer = await served.connect();
  const neighbour = await served.connect();
  await peer.ask({ cmd: 1 });
  await neighbour.ask({ cmd: 1 });
  await peer.sendBytes(long);
  while (served.server.statistics().bytes.received < long.length) await settle(1);
  const order: string[] = [];
  await Promise.all([
    peer.readReplies(1).then(() => order.push("the long message")),
    neighbour.ask({ cmd: 1 }).then(() => order.push("the neighbour")),
  ]);
  assertEquals(order, ["the neighbour", "the long message"]);
});

// A frame ------------------------------------------------------------------------------------------------------------

Deno.test("a connection ends when a frame takes longer than its time, and not before", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, frameTimeoutMs: 10_000 });
  await served.peer.sendBytes(unhex("20"));
  await clock.advance(10_000);
  assertEquals(await isOver(served), false);
  await clock.advance(LATE_MS);
  assertEquals(await isOver(served), true);
  await clock.advance(2_000); // for what the peer still sends
  await served.served;
});

Deno.test("a byte now and then does not extend the time of a frame", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, frameTimeoutMs: 10_000 });
  const bytes = request({ cmd: 1, text: "x".repeat(100) });
  for (let sent = 0; sent < 20; sent++) {
    await served.peer.sendBytes(bytes.slice(sent, sent + 1));
    await clock.advance(500);
  }
  assertEquals(await isOver(served), false);
  await served.peer.sendBytes(bytes.slice(20, 21));
  await clock.advance(LATE_MS);
  assertEquals(await isOver(served), true);
});

Deno.test("each frame has its time anew", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, frameTimeoutMs: 2_000 });
  const bytes = request({ cmd: 1 });
  // Each piece ends one frame and begins the next, so that the connection is inside a frame all the time.
  await served.peer.sendBytes(bytes.slice(0, 4));
  for (let count = 0; count < 10; count++) {
    await clock.advance(1_500);
    await served.peer.sendBytes(concat(bytes.slice(4), bytes.slice(0, 4)));
    assertEquals(await served.peer.readReply(), PONG);
  }
  await clock.advance(2_000 + LATE_MS);
  assertEquals(await isOver(served), true);
});

Deno.test("a frame that takes too long ends the connection under running handlers, which are told", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, frameTimeoutMs: 2_000 });
  await served.peer.sendBytes(concat(request({ cmd: "HOLD", seq: 1 }), unhex("20")));
  await clock.advance(2_000 + LATE_MS);
  assertEquals(await isOver(served), true);
  assert(held.calls[0].context.signal.aborted);
  held.finishAll();
});

Deno.test("a frame is not late that the server itself does not read on: its memory is full", async () => {
  const clock = new FakeClock();
  const held = new Held();
  const limits = { maxInFlight: 1, maxHeldBytes: 300, frameTimeoutMs: 2_000 };
  await using served = withMemory({ clock, commands: { HOLD: held.command }, ...limits });
  const { peer } = served;
  const hold = request({ cmd: "HOLD" });
  const sent = peer.sendBytes(concat(hold, hold, hold, hold.slice(0, 5)), hold.slice(5));
  await clock.advance(10_000);
  assertEquals([await peer.hasEnded(), held.running], [false, 1]);
  held.finishAll();
  await clock.advance(1_000);
  held.finishAll();
  const replies = await peer.readReplies(4);
  assertEquals(replies.map(({ err }) => err), [undefined, "OVERLOADED", undefined, "OVERLOADED"]);
  await sent;
  // From here on the time runs again.
  await peer.sendBytes(unhex("20"));
  await clock.advance(2_000 + LATE_MS);
  assertEquals(await isOver(served), true);
});

Deno.test("the largest payload may come at 64 or at 5 KB a second, and a call beside it is answered", async () => {
  for (const bytesPerSecond of [64_000, 5_000]) {
    const clock = new FakeClock();
    await using served = withMemory({ clock, frameTimeoutMs: 10_000 });
    const { peer } = served;
    await peer.send({ cmd: 2, sleep: 5, seq: 1 });
    await peer.hasEnded(); // from here on, it reads
    const bytes = request({ cmd: 1, seq: 2, text: "x".repeat(900_000) });
    for (let at = 0; at < bytes.length; at += bytesPerSecond) {
      await peer.sendBytes(bytes.slice(at, at + bytesPerSecond));
      await clock.advance(1_000);
    }
    assertEquals(await peer.readReplies(2), [{ seq: 1, res: "DONE", slept: 5 }, { seq: 2, ...PONG }]);
  }
});

Deno.test("a frame that comes too slowly is told so, and so is the log", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, frameTimeoutMs: 10_000 });
  const { peer, errors } = served;
  const bytes = request({ cmd: 1, text: "x".repeat(50_000) });
  for (let second = 0; second < 11; second++) {
    await peer.sendBytes(bytes.slice(3_000 * second, 3_000 * (second + 1)));
    await clock.advance(1_000);
  }
  const [{ err, msg }] = await peer.readToEnd();
  const [error] = errors.take();
  assertEquals(err, "BAD_FRAME");
  assertMatch(
    String(msg),
    /^a frame arrives too slowly: \d+ bytes in 1\d\.\d s; the minimum is 4096 bytes per second; 33000 of its 50017 bytes have arrived$/,
  );
  assertEquals((error as Error).message, `BAD_FRAME: ${msg}`);
});

Deno.test("a frame whose header counts one byte too many is told how many bytes have come, and of how many", async () => {
  for (
    const [bytes, arrived] of [
      [[0x20, 0x27, 0x81, 0xa3, 0x63, 0x6d, 0x64, 0x01, 0x0a], "9 of its 10 bytes have arrived"],
      [[0x20], "1 of its unknown number of bytes have arrived"],
    ] as const
  ) {
    const clock = new FakeClock();
    await using served = withMemory({ clock, frameTimeoutMs: 10_000 });
    await served.peer.sendBytes(Uint8Array.from(bytes));
    for (let second = 0; second < 13; second++) await clock.advance(1_000);
    const [{ msg }] = await served.peer.readToEnd();
    assert(String(msg).endsWith(`; ${arrived}`), String(msg));
    served.errors.take();
  }
});

// A silence ----------------------------------------------------------------------------------------------------------

Deno.test("a connection ends when it was silent for longer than its time, and not before", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, idleTimeoutMs: 20_000 });
  await clock.advance(15_000);
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  await clock.advance(20_000);
  assertEquals(await isOver(served), false);
  await clock.advance(LATE_MS);
  assertEquals(await isOver(served), true);
  await served.served;
});

Deno.test("no silence is too long with something in flight, beside the lane or in it", async () => {
  for (const fields of [{ seq: 1 }, {}]) {
    const clock = new FakeClock();
    const held = new Held();
    await using served = withMemory({ clock, commands: { HOLD: held.command }, idleTimeoutMs: 2_000 });
    await served.peer.send({ cmd: "HOLD", ...fields });
    await clock.advance(10_000);
    assertEquals(await isOver(served), false);
    held.finishAll();
    assertEquals(await served.peer.readReply(), { ...fields, res: null });
    await clock.advance(1_900);
    assertEquals(await isOver(served), false, "it counts from the reply");
    await clock.advance(100 + LATE_MS);
    assertEquals(await isOver(served), true);
  }
});

Deno.test("a handler that goes on behind its cancel does not keep a silent connection", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, idleTimeoutMs: 2_000 });
  await served.peer.send({ cmd: "HOLD", seq: 1 });
  await served.peer.ask({ cmd: 0, seq: 1, cancel: true });
  await clock.advance(2_000 + LATE_MS);
  assertEquals(await isOver(served), true);
  held.finishAll();
});

Deno.test("no silence is too long while a request waits for room that a cancelled handler still takes", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, maxInFlight: 1, idleTimeoutMs: 2_000 });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 1 });
  await peer.ask({ cmd: 0, seq: 1, cancel: true });
  await peer.send({ cmd: "HOLD", seq: 2 });
  await clock.advance(10_000);
  assertEquals([await peer.hasEnded(), held.calls.length], [false, 1]);
  held.finishAll();
  await settle();
  held.finishAll();
  assertEquals(await peer.readReply(), { seq: 2, res: null });
});

Deno.test("no silence is too long where 0 has switched that off", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, idleTimeoutMs: Infinity });
  await clock.advance(100_000);
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("control messages break a silence, and need no reply for it", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, idleTimeoutMs: 2_000 });
  for (let count = 0; count < 5; count++) {
    await served.peer.send({ cmd: 0, max: 60_000 });
    await clock.advance(1_500);
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

// A server that stood still -----------------------------------------------------------------------------------------

Deno.test("what came while the server stood still is read before a frame or a silence is too long", async () => {
  const bytes = request({ cmd: 1 });
  for (const [before, meanwhile] of [[bytes.slice(0, 0), bytes], [bytes.slice(0, 4), bytes.slice(4)]]) {
    const clock = new FakeClock();
    await using served = withMemory({ clock, frameTimeoutMs: 2_000, idleTimeoutMs: 2_000 });
    await served.peer.sendBytes(before);
    await clock.advance(1_500);
    const sent = served.peer.sendBytes(meanwhile);
    clock.leap(10_000);
    await sent;
    assertEquals(await served.peer.readReply(), PONG);
    await served.peer.sendBytes(before);
    await clock.advance(2_000 + LATE_MS);
    assertEquals(await isOver(served), true, "the time runs again");
  }
});

// A write ------------------------------------------------------------------------------------------------------------

Deno.test("a connection ends when its peer reads nothing for longer than the time of a write, and not before", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { BULK, HOLD: held.command }, writeTimeoutMs: 10_000 });
  await served.peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "BULK", size: 1_000 });
  await clock.advance(10_000);
  assertEquals(held.calls[0].context.signal.aborted, false);
  await clock.advance(LATE_MS);
  assertEquals(held.calls[0].context.signal.aborted, true);
  held.finishAll();
  await served.served;
});

Deno.test("a peer that reads, however slowly, is not given up", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock, commands: { BULK }, writeTimeoutMs: 2_000, maxPayloadBytes: 2 ** 21 });
  const { peer } = served;
  await peer.send({ cmd: 0, max: 2 ** 21 }, { cmd: "BULK", size: 1_000_000 });
  for (let count = 0; count < 10; count++) {
    await clock.advance(1_500);
    assert(await peer.readBytesOnce() > 0);
  }
  await clock.advance(2_000 + LATE_MS);
  await served.served;
});

overEach(
  "a peer that reads nothing is held back at the output limit, then given up; its neighbour sees nothing of it",
  async (transport) => {
    const clock = new FakeClock();
    await using server = await withServer({
      clock,
      commands: { BULK },
      maxQueuedBytes: 100_000,
      writeTimeoutMs: 10_000,
    }, transport);
    const [flooder, neighbour] = [await server.connect(), await server.connect()];
    const requests = concat(...Array.from({ length: 2_000 }, () => request({ cmd: "BULK", size: 50_000 })));
    const flood = flooder.sendBytes(requests).catch(() => {});
    let sent = -1;
    for (let stable = 0; stable < 20;) {
      const { res } = await neighbour.ask({ cmd: "STATS" }) as { res: { bytes: { sent: number } } };
      stable = res.bytes.sent - sent < 10_000 ? stable + 1 : 0;
      sent = res.bytes.sent;
      await settle(2);
    }
    assert(sent < 50_000_000, `${sent} of 100,000,000 bytes were written`);
    // A busy system may take some more after all: then its time begins again.
    let open: number, moved: number;
    do {
      await clock.advance(10_000 + LATE_MS);
      await settle();
      const { res } = await neighbour.ask({ cmd: "STATS" }) as {
        res: { bytes: { sent: number }; connections: { open: number } };
      };
      ({ open } = res.connections);
      moved = res.bytes.sent - sent;
      sent = res.bytes.sent;
    } while (open === 2 && moved >= 10_000);
    assertEquals(open, 1, `${moved} bytes were written last`);
    flooder.close();
    await flood;
  },
);

// A reset that nobody reads ------------------------------------------------------------------------------------------

overEach(
  "a reset is noticed while the server does not read: at its limits, and behind a half-close",
  async (transport) => {
    for (const halfCloses of [false, true]) {
      const clock = new FakeClock();
      const held = new Held();
      await using server = await withServer({ clock, commands: { HOLD: held.command }, maxInFlight: 1 }, transport);
      const peer = await server.connectResettable();
      await peer.send({ cmd: "HOLD", seq: 1 });
      if (halfCloses) await peer.halfClose();
      else await peer.send({ cmd: "HOLD", seq: 2 }, { cmd: "HOLD", seq: 3 });
      while (held.calls.length === 0) await settle();
      const { signal } = held.calls[0].context;
      await clock.advance(2_000);
      assertEquals(signal.aborted, false);
      peer.reset();
      for (let tries = 0; !signal.aborted && tries < 100; tries++) await clock.advance(500);
      assertEquals(signal.aborted, true);
      held.finishAll();
    }
  },
);

Deno.test("a client that has closed both halves is taken for one that still reads, until a reply is written", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using server = await withServer({ clock, commands: { HOLD: held.command } });
  const peer = await server.connect();
  await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", seq: 2 });
  while (held.calls.length < 2) await settle();
  const [first, second] = held.calls;
  peer.close();
  for (let looks = 0; looks < 10; looks++) await clock.advance(500);
  assertEquals(second.context.signal.aborted, false, "nothing on the wire tells it from a half-close");
  first.finish();
  for (let tries = 0; !second.context.signal.aborted && tries < 100; tries++) await clock.advance(500);
  assertEquals(second.context.signal.aborted, true);
  held.finishAll();
});

// The end ------------------------------------------------------------------------------------------------------------

Deno.test("a connection whose last reply has gone is closed, if the peer does not, after two seconds", async () => {
  const clock = new FakeClock();
  await using served = withMemory({ clock });
  await served.peer.sendBytes(unhex("20 21 90 0d"));
  assertEquals((await served.peer.readToEnd()).map(({ err }) => err), ["BAD_FRAME"]);
  let over = false;
  served.served.then(() => over = true);
  await clock.advance(1_999);
  assertEquals(over, false);
  await clock.advance(1);
  await settle();
  assertEquals(over, true);
});

Deno.test("a connection reads on behind a broken frame, so that no reset overtakes its reply", async () => {
  await using served = withMemory();
  const { peer } = served;
  let taken = 0;
  for (const piece of [unhex("20 21 90 0d"), ...new Array(200).fill(new Uint8Array(1_000))]) {
    peer.sendBytes(piece).then(() => taken++, () => {});
  }
  await settle(); // the reply still waits to be read
  assert(taken > 64 && taken < 70, `${taken} pieces of 1,000 bytes`);
  assertEquals((await peer.readToEnd()).map(({ err }) => err), ["BAD_FRAME"]);
});

Deno.test("a connection reads on behind its last reply, but not without end", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.sendBytes(unhex("20 21 90 0d"));
  await peer.readToEnd();
  let taken = 0;
  try {
    for (; taken < 1_000_000; taken += 1_000) await peer.sendBytes(new Uint8Array(1_000));
  } catch {
    // Closed.
  }
  assert(taken >= 64_000 && taken < 70_000, `${taken} bytes`);
  await served.served;
});

Deno.test("a connection that has ended leaves no timer", async () => {
  const clock = new FakeClock();
  {
    await using served = withMemory({ clock });
    await served.peer.send({ cmd: 2, sleep: 1, ttl: 5_000, seq: 1 });
    await clock.advance(1_000);
    assertEquals(await served.peer.readReply(), { seq: 1, res: "DONE", slept: 1 });
  }
  assertEquals(clock.timers, 0);
});
