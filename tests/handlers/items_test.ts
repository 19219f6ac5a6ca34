/** Streams from the caller (PROTOCOL.md, "Streams from the caller"): items as they are granted, and one end that nobody mistakes. */

import { assert, assertEquals, assertMatch, assertObjectMatch } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { bytes, command, type Middleware, unchecked } from "../../handlers/command.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { ServedCalls } from "../support/items.ts";
import { frame, type Message, message, type Peer, settle, unhex, withMemory } from "../support/wire.ts";

const PONG = { res: "PONG" };

/** A request with a stream. */
function upload(cmd: string, seq = 1, fields: Message = {}): Message {
  return { ...fields, cmd, seq, $items: true };
}

/** An item of the stream. */
function item(value: unknown, seq = 1): Message {
  return { cmd: 0, seq, item: value };
}

/** The end of the stream. */
function end(seq = 1): Message {
  return { cmd: 0, seq, end: true };
}

/** The items that were granted by now, and the other messages. */
async function readGrants(peer: Peer): Promise<{ credit: number; others: Message[] }> {
  const all = await peer.readReady();
  const grants = all.filter((message) => "credit" in message);
  return {
    credit: grants.reduce((sum, { credit }) => sum + (credit as number), 0),
    others: all.filter((message) => !("credit" in message)),
  };
}

// Items --------------------------------------------------------------------------------------------------------------

Deno.test("items - TALLY counts the items of a stream that come as they are granted", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send(upload("TALLY"), item("é"));
  // Of the largest items that are allowed, four fit; of small ones, 256.
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 3 }, { seq: 1, credit: 253 }]);
  await peer.send(item(new Uint8Array(5)), item(7), item(null), end());
  assertEquals(await peer.readReply(), { seq: 1, res: { items: 4, bytes: 7 } });
});

Deno.test("items - TALLY answers for a stream without items", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: { items: 0, bytes: 0 } }]);
});

Deno.test("items - ECHO sends each item back, and nil at the end", async () => {
  await using served = withMemory();
  const { peer } = served;
  await peer.send(upload("ECHO"), item("a"));
  assertEquals(await peer.readReady(), [{ seq: 1, credit: 256 }, { seq: 1, res: "a", more: true }]);
  await peer.send(item({ b: 1 }), end());
  assertEquals(await peer.readReady(), [{ seq: 1, res: { b: 1 }, more: true }, { seq: 1, res: null }]);
  assertEquals(await peer.ask({ cmd: "ECHO", data: 5 }), { res: 5 });
});

Deno.test("items - one item comes before the handler takes, and more are granted as it takes them", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(1));
  assertEquals(await peer.readReady(), [], "nothing is granted for a handler that takes nothing");
  assertEquals(await reading.take(), { done: false, value: 1 });
  assertEquals(await readGrants(peer), { credit: 256, others: [] });
  await peer.send(...Array.from({ length: 256 }, (_, index) => item(index)));
  for (let taken = 0; taken < 127; taken++) assertEquals((await reading.take()).value, taken);
  assertEquals(await peer.readReady(), [], "less than half of the window is free");
  await reading.take();
  assertEquals(await readGrants(peer), { credit: 128, others: [] });
  await peer.send(end());
  for (let taken = 128; taken < 256; taken++) assertEquals((await reading.take()).value, taken);
  assertEquals(await reading.take(), { done: true, value: undefined });
  reading.finish("all");
  assertEquals(await peer.readReply(), { seq: 1, res: "all" });
});

Deno.test("items - a command without the option takes a stream as well, and knows whether there is one", async () => {
  const seen: unknown[] = [];
  const LOOK = command(async (_: Message, { items }) => {
    seen.push(items === undefined);
    for await (const each of items ?? []) seen.push(each);
    return seen.length;
  });
  await using served = withMemory({ commands: { LOOK } });
  assertEquals(await served.peer.ask({ cmd: "LOOK", seq: 1 }), { seq: 1, res: 1 });
  await served.peer.send(upload("LOOK"), item("x"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: 3 }]);
  assertEquals(seen, [true, false, "x"]);
});

Deno.test("items - a command with the option refuses a call without a stream, unstarted, behind its middleware", async () => {
  let passed = 0;
  let started = 0;
  const counted: Middleware = (_call, next) => {
    passed++;
    return next();
  };
  const UPLOAD = command.with(counted)({
    items: bytes,
    handler: (_: object) => {
      started++;
    },
  });
  await using served = withMemory({ commands: { UPLOAD } });
  assertObjectMatch(await served.peer.ask({ cmd: "UPLOAD", seq: 1 }), {
    seq: 1,
    err: "INVALID_PARAMS",
    msg: "UPLOAD takes a stream of items, and the call has none: give one as the option items",
    data: [{ path: ["items"], message: "must be a stream of items" }],
  });
  assertEquals([passed, started], [1, 0]);
});

Deno.test("items - INFO tells which commands need a stream", async () => {
  await using served = withMemory();
  const { res } = await served.peer.ask({ cmd: 3 }) as { res: { commands: Message[] } };
  assertEquals(res.commands.filter(({ items }) => items !== undefined), [{
    name: "TALLY",
    number: null,
    summary: "Counts the items and bytes of its stream",
    params: [],
    stream: false,
    items: true,
  }]);
});

// Schemas ------------------------------------------------------------------------------------------------------------

/** Texts, without the blanks around them. */
function trimming(isLater: boolean): StandardSchema<string, string> {
  return {
    "~standard": {
      version: 1,
      vendor: "by hand",
      validate(value) {
        const result = typeof value === "string"
          ? { value: value.trim() }
          : { issues: [{ message: "must be text", path: ["inner", { key: 0 }] }] };
        return isLater ? settle(1).then(() => result) : result;
      },
    },
  };
}

Deno.test("items - a schema checks one item after the other, at once or later, and the handler gets its output", async () => {
  for (const isLater of [false, true]) {
    const JOIN = command({
      items: trimming(isLater),
      async handler(_: object, { items }) {
        let all = "";
        for await (const text of items) all += text;
        return all;
      },
    });
    await using served = withMemory({ commands: { JOIN } });
    const { peer } = served;
    await peer.send(upload("JOIN"), item(" a "));
    await readGrants(peer);
    await peer.send(item("b "), end());
    assertEquals(await peer.readReply(), { seq: 1, res: "ab" });
    await peer.send(upload("JOIN"), item(" a "));
    await readGrants(peer);
    await peer.send(item(5), item("c"), end());
    assertEquals(await peer.readReply(), {
      seq: 1,
      err: "INVALID_PARAMS",
      msg: "items.1.inner.0: must be text",
      data: [{ path: ["items", 1, "inner", 0], message: "must be text" }],
    });
  }
});

Deno.test("items - after an item that does not fit, a handler that reads on is told so again, and never that this was all", async () => {
  const told: unknown[] = [];
  const STUBBORN = command({
    items: bytes,
    async handler(_: object, { items }) {
      for (let tries = 0; tries < 3; tries++) {
        try {
          for await (const each of items) told.push(each);
          told.push("the end");
        } catch (error) {
          told.push((error as RpcError).code);
        }
      }
      return "done";
    },
  });
  await using served = withMemory({ commands: { STUBBORN } });
  await served.peer.send(upload("STUBBORN"), item("no bytes"), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: "done" }]);
  assertEquals(told, ["INVALID_PARAMS", "INVALID_PARAMS", "INVALID_PARAMS"]);
});

Deno.test("items - a schema for the parameters and one for the items, with what a middleware gives, in an async generator", async () => {
  const giving: Middleware<{ user: string }> = (_call, next) => next({ user: "Ada" });
  const params: StandardSchema<{ sep: string }, { separator: string }> = {
    "~standard": {
      version: 1,
      vendor: "by hand",
      validate: (value) => ({ value: { separator: (value as { sep: string }).sep } }),
    },
  };
  const CHAT = command.with(giving)({
    schema: params,
    items: trimming(false),
    async *handler({ separator }, { items, user }) {
      for await (const line of items) yield user + separator + line;
      return "bye";
    },
  });
  await using served = withMemory({ commands: { CHAT } });
  await served.peer.send(upload("CHAT", 1, { sep: ">" }), item(" hi "));
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: "Ada>hi", more: true }]);
  await served.peer.send(end());
  assertEquals(await served.peer.readReady(), [{ seq: 1, res: "bye" }]);
});

Deno.test("items - a middleware sees the stream, and what it takes the handler does not get", async () => {
  const first: Middleware<{ first: unknown }> = async ({ items }, next) => {
    const { value } = await items![Symbol.asyncIterator]().next();
    return await next({ first: value });
  };
  const REST = command.with(first)({
    items: unchecked<number>(),
    async handler(_: object, { items, first }) {
      let sum = 0;
      for await (const each of items) sum += each;
      return [first, sum];
    },
  });
  await using served = withMemory({ commands: { REST } });
  await served.peer.send(upload("REST"), item("token"));
  await readGrants(served.peer);
  await served.peer.send(item(2), item(3), end());
  assertEquals((await readGrants(served.peer)).others, [{ seq: 1, res: ["token", 5] }]);
});

// Wrong messages -----------------------------------------------------------------------------------------------------

Deno.test("items - an item beyond the credit fails the call, which is a strike, and the connection goes on", async () => {
  for (const [granted, isTaking] of [[1, false], [257, true]] as const) {
    await using served = new ServedCalls();
    const { peer, reading } = served;
    await peer.send(upload("READ"), item(0));
    if (isTaking) {
      await reading.take();
      assertEquals((await readGrants(peer)).credit, granted - 1);
    }
    await peer.send(...Array.from({ length: granted - 1 }, (_, index) => item(index)));
    assertEquals(await peer.readReady(), []);
    await peer.send(item("one too many"), item("ignored"), end());
    assertObjectMatch(await peer.readReply(), { seq: 1, err: "INVALID_MESSAGE" });
    assertEquals(await reading.failure(), "INVALID_MESSAGE");
    assertEquals(reading.signalCode, "INVALID_MESSAGE");
    const { res } = await peer.ask({ cmd: "STATS" }) as { res: { refused: Message } };
    assertEquals(res.refused.invalidMessage, 1);
    served.assertNothingHeld();
  }
});

Deno.test("items - an item after the end, a second end, and either for a call without a stream fail the call", async () => {
  for (
    const [request, ...after] of [
      [upload("READ"), end(), item(1)],
      [upload("READ"), item(0), end(), end()],
      [{ cmd: "READ", seq: 1 }, item(1)],
      [{ cmd: "READ", seq: 1 }, end()],
    ]
  ) {
    await using served = new ServedCalls();
    const { peer } = served;
    await peer.send(request, ...after);
    const { err, msg } = await peer.readReply();
    assertEquals([err, msg], ["INVALID_MESSAGE", "the call has no stream that such a message belongs to"]);
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    served.assertNothingHeld();
  }
});

Deno.test("items - a message that cannot be read may have been an item: it fails the streams that are not complete", async () => {
  const sizes: number[] = [];
  const COUNT = command({
    items: unchecked<string>(),
    async handler(_: object, { items }) {
      let size = 0;
      for await (const _item of items) size++;
      sizes.push(size);
      return size;
    },
  });
  const HANG = command((_: object, { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
  );
  const tooHeavy = message({ cmd: 0, seq: 3, item: "x".repeat(2_000) });
  const noText = frame(unhex("83 a3636d64 00 a3736571 03 a46974656d a1ff")); // {cmd: 0, seq: 3, item: a text that is not UTF-8}
  for (const bad of [tooHeavy, noText]) {
    await using served = withMemory({ commands: { COUNT, HANG }, maxMessageBytes: 1_500 });
    const { peer } = served;
    await peer.send({ cmd: "HANG", seq: 1 }, upload("COUNT", 2), end(2), upload("COUNT", 3));
    await readGrants(peer);
    await peer.sendBytes(bad);
    await peer.send(end(3), { cmd: "PING", seq: 4 });
    const { others } = await readGrants(peer);
    assertEquals(others.map(({ seq, err }) => [seq, err]), [
      [3, "INVALID_MESSAGE"],
      [undefined, "INVALID_MESSAGE"],
      [4, undefined],
    ]);
  }
  assertEquals(sizes, [0, 0], "the one that was complete alone");
});

Deno.test("items - too many wrong ones end the connection", async () => {
  await using served = new ServedCalls({ maxStrikes: 3 });
  const { peer } = served;
  for (let seq = 0; seq < 4; seq++) await peer.send(upload("READ", seq), item(1, seq), item(2, seq));
  const replies = await peer.readToEnd();
  assertEquals(replies.map(({ seq, err }) => [seq, err]), [0, 1, 2, 3].map((seq) => [seq, "INVALID_MESSAGE"]));
});

Deno.test("items - those for finished and unknown calls are ignored", async () => {
  await using served = new ServedCalls();
  const { peer } = served;
  await peer.send(item(1, 77), end(77), { cmd: 1, seq: 5, $items: true }, item(1, 5), item(2, 5), item(3, 5), end(5));
  assertEquals(await peer.readReady(), [{ seq: 5, res: "PONG" }]);
  const { res } = await peer.ask({ cmd: "STATS" }) as { res: { refused: Message } };
  assertEquals(res.refused.invalidMessage, 0);
  served.assertNothingHeld();
});

// Ends ---------------------------------------------------------------------------------------------------------------

/** How a stream ends before its end: the code for the caller, if it hears it, and for the handler. */
const ENDS: {
  name: string;
  end: (served: ServedCalls, clock: FakeClock) => unknown;
  told?: string;
  thrown: string;
  isOver?: true;
}[] = [
  {
    name: "cancel",
    end: ({ peer }) => peer.send({ cmd: 0, seq: 1, cancel: true }),
    told: "CANCELLED",
    thrown: "CANCELLED",
  },
  {
    name: "deadline",
    end: (_, clock) => clock.advance(5_010),
    told: "DEADLINE_EXCEEDED",
    thrown: "DEADLINE_EXCEEDED",
  },
  { name: "lost", end: ({ peer }) => peer.close(), thrown: "CONNECTION_LOST", isOver: true },
  {
    name: "FIN",
    end: ({ peer }) => peer.halfClose(),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
  {
    name: "broken frame",
    end: ({ peer }) => peer.sendBytes(unhex("20 21 90 0d")),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
  {
    name: "cut",
    end: ({ connection }) => connection.cut("the end"),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
];

Deno.test("items - every end before the stream's reaches a handler that waits or computes, at once, and leaves nothing", async () => {
  for (const { name, end, told, thrown, isOver } of ENDS) {
    for (const isWaiting of [true, false]) {
      const clock = new FakeClock();
      await using served = new ServedCalls({ clock });
      const { peer, reading } = served;
      await peer.send(upload("READ", 1, { ttl: 5_000 }), item(0));
      if (isWaiting) await reading.take();
      await readGrants(peer);
      const failure = isWaiting ? reading.failure() : undefined;
      await end(served, clock);
      const replies = told === undefined ? [] : await peer.readReady();
      assertEquals(replies.slice(0, 1).map(({ seq, err }) => [seq, err]), told === undefined ? [] : [[1, told]], name);
      await settle();
      assertEquals(await (failure ?? reading.failure()), thrown, `${name}, ${isWaiting}`);
      assertEquals(reading.signalCode, thrown);
      assertEquals(reading.ended, 1, "its finally has run");
      served.assertNothingHeld();
      if (!isOver) assertEquals(await peer.ask({ cmd: 1 }), PONG);
      peer.close();
      await served.served;
      served.state.close();
      await settle();
      assertEquals(clock.timers, 0, name);
    }
  }
});

Deno.test("items - the end of a client's half that has promised to stay ends its connection: CONNECTION_LOST", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send({ cmd: 0, alive: 2_000 }, upload("READ"), item(0));
  await reading.take();
  const failure = reading.failure();
  await peer.halfClose();
  assertEquals(await failure, "CONNECTION_LOST");
  await served.served;
  served.assertNothingHeld();
});

Deno.test("items - a stream that is complete is served behind the end of the client's half", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), item("abc"), end());
  await served.peer.halfClose();
  const replies = await served.peer.readToEnd();
  assertEquals(replies.filter(({ res }) => res), [{ seq: 1, res: { items: 1, bytes: 3 } }]);
});

Deno.test("items - the words for half a stream behind the end of the client's half", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), item("abc"));
  await served.peer.halfClose();
  const last = (await served.peer.readToEnd()).at(-1);
  assertEquals(last, { seq: 1, err: "CANCELLED", msg: "the caller's stream ended before its end" });
});

Deno.test("items - a drain lets a stream go on to its end on a connection that wants notices, and on any other", async () => {
  for (const settings of [[{ cmd: 0, notice: true }], []]) {
    await using served = new ServedCalls({ clock: new FakeClock() });
    const { peer, reading, connection } = served;
    await peer.send(...settings, upload("READ"), item(0));
    await reading.take();
    await readGrants(peer);
    connection.drain(10_000);
    await peer.send(item(1), end());
    assertEquals([(await reading.take()).value, (await reading.take()).done], [1, true]);
    assertEquals(reading.signalCode, undefined);
    reading.finish("whole");
    const { others } = await readGrants(peer);
    assertEquals(others.filter(({ going }) => going === undefined), [{ seq: 1, res: "whole" }]);
    connection.close();
  }
});

Deno.test("items - an early answer ends the stream: what comes later is ignored, and a reader that goes on is told", async () => {
  for (const outcome of ["a value", new RpcError("ENOUGH")]) {
    await using served = new ServedCalls();
    const { peer, reading } = served;
    await peer.send(upload("READ"), item(0));
    await reading.take();
    await readGrants(peer);
    await peer.send(item(1), item(2));
    const later = (async () => {
      await reading.take();
      await reading.take();
      return await reading.failure(); // as a task that the handler has left behind
    })();
    await settle();
    reading.finish(outcome);
    assertEquals(await peer.readReply(), {
      seq: 1,
      ...(outcome instanceof RpcError ? { err: "ENOUGH" } : { res: outcome }),
    });
    assertEquals(await later, outcome instanceof RpcError ? "ENOUGH" : "CANCELLED");
    await peer.send(item(3), item(4), end());
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    served.assertNothingHeld();
  }
});

Deno.test("items - a handler that leaves its loop and computes on: granted items are dropped, others fail the call", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(0));
  await reading.take();
  const { credit } = await readGrants(peer);
  const ofRequest = served.heldBytes;
  await peer.send(item(1), item(2));
  await settle();
  assert(served.heldBytes > ofRequest);
  await reading.leave();
  assertEquals(served.heldBytes, ofRequest);
  await peer.send(...Array.from({ length: credit - 2 }, () => item("x".repeat(100))));
  assertEquals(await peer.readReady(), [], "no more is granted, and nothing fails");
  assertEquals(served.heldBytes, ofRequest);
  assertEquals((await reading.take()).done, true);
  await peer.send(item("one too many"));
  assertObjectMatch(await peer.readReply(), { seq: 1, err: "INVALID_MESSAGE" });
});

Deno.test("items - a handler that takes nothing costs one item, whatever the caller's stream is", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(new Uint8Array(100_000)));
  assertEquals(await peer.readReady(), []);
  assert(served.state.load.bytes < 102_000, `${served.state.load.bytes}`);
  reading.finish(5);
  assertEquals(await peer.readReply(), { seq: 1, res: 5 });
  served.assertNothingHeld();
});

Deno.test("items - a middleware that answers early ends the stream of a handler that reads on", async () => {
  const thrown: unknown[] = [];
  const early: Middleware = async (_call, next) => {
    void next();
    await settle(2);
    return { res: "early" };
  };
  const READ_ALL = command.with(early)({
    items: unchecked<number>(),
    async handler(_: object, { items }) {
      try {
        for await (const each of items) thrown.push(each);
        thrown.push("the end");
      } catch (error) {
        thrown.push((error as RpcError).code);
        throw error;
      }
    },
  });
  await using served = new ServedCalls({ commands: { READ_ALL } });
  await served.peer.send(upload("READ_ALL"), item(1));
  const { others } = await readGrants(served.peer);
  assertEquals(others, [{ seq: 1, res: "early" }]);
  await served.peer.send(item(2), end());
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  assertEquals(thrown, [1, "CANCELLED"]);
  served.assertNothingHeld();
});

Deno.test("items - a stream whose call waits for a place keeps its first item, and ends with it", async () => {
  for (const ending of ["its turn", "cancel", "FIN", "an item too many", "no place in the server"]) {
    const limits = ending === "no place in the server" ? { maxInFlightTotal: 2 } : {};
    await using served = new ServedCalls({ maxInFlight: 1, ...limits });
    const { peer, reading } = served;
    await peer.send({ cmd: 0, alive: 60_000 }, { cmd: "READ", seq: 1 }, upload("TALLY", 2), item("abc", 2));
    assertEquals(await peer.readReady(), [], "it does not run, and nothing is granted");
    if (ending === "its turn") {
      await peer.send(end(2));
      reading.finish(0);
      assertEquals((await readGrants(peer)).others, [{ seq: 1, res: 0 }, { seq: 2, res: { items: 1, bytes: 3 } }]);
    } else if (ending === "cancel") {
      assertEquals(await peer.ask({ cmd: 0, seq: 2, cancel: true }), { seq: 2, err: "CANCELLED" });
      reading.finish(0);
    } else if (ending === "an item too many") {
      await peer.send(item("d", 2));
      assertObjectMatch(await peer.readReply(), { seq: 2, err: "INVALID_MESSAGE" });
      reading.finish(0);
    } else if (ending === "FIN") {
      await peer.halfClose();
      await served.served;
    } else {
      served.state.load.handlers += 2; // others have taken all places by its turn
      reading.finish(0);
      assertEquals(await peer.readReady(), [{ seq: 1, res: 0 }, { seq: 2, err: "OVERLOADED" }]);
      served.state.load.handlers -= 2;
    }
    await settle();
    served.assertNothingHeld();
  }
});

// Memory -------------------------------------------------------------------------------------------------------------

const MIB = 1024 * 1024;

Deno.test("items - for a handler that stops taking, what the caller may send stays within maxQueuedBytes", async () => {
  await using served = new ServedCalls({ maxPayloadBytes: 2 * MIB });
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(new Uint8Array(MIB)));
  await reading.take();
  let { credit } = await readGrants(peer);
  for (let sent = 0; sent < 20; sent++) {
    for (; credit > 0; credit--) await peer.send(item(new Uint8Array(MIB)));
    await reading.take();
    ({ credit } = await readGrants(peer));
  }
  for (; credit > 0; credit--) await peer.send(item(new Uint8Array(MIB)));
  assertEquals(await peer.readReady(), []);
  const { heldBytes } = served;
  assert(heldBytes >= MIB && heldBytes <= 4 * MIB, `${heldBytes} B are held`);
});

Deno.test("items - sizes that jump from 10 B to 1 MiB stop the intake for a second, and then their call", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock, maxPayloadBytes: 2 * MIB });
  const { peer, reading } = served;
  await peer.send(upload("READ"), item("x".repeat(10)));
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 256);
  const large = item(new Uint8Array(MIB));
  let peakBytes = 0;
  const sent = (async () => {
    for (let n = 0; n < 10; n++) await peer.send(large);
    await peer.send({ cmd: 1, seq: 9 });
  })();
  for (let turn = 0; turn < 50; turn++) {
    await settle(10);
    peakBytes = Math.max(peakBytes, served.heldBytes);
  }
  assertEquals(await peer.readReady(), [], "nothing is refused, and nothing behind it is read");
  assert(peakBytes > 2 * MIB && peakBytes <= 5.1 * MIB, `${peakBytes} B are held, and one item waits to be`);
  // A handler that takes one has another second.
  await clock.advance(900);
  await reading.take();
  await settle();
  await clock.advance(900);
  assertEquals(await peer.readReady(), []);
  await clock.advance(200);
  await sent;
  const [failed, pong] = await peer.readReplies(2);
  assertObjectMatch(failed, { seq: 1, err: "INVALID_MESSAGE" });
  assertMatch(failed.msg as string, /^the items that wait for their handlers take too much memory/);
  assertEquals(pong, { seq: 9, res: "PONG" });
  served.assertNothingHeld();
});

Deno.test("items - the first that waits of each call is taken, however full the memory is", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock, maxQueuedBytes: 10_000 });
  const { peer } = served;
  const upTo = 20;
  for (let seq = 1; seq <= upTo; seq++) await peer.send(upload("READ", seq), item("x".repeat(5_000), seq));
  assertEquals(await peer.readReady(), []);
  assert(served.heldBytes > upTo * 10_000);
  await peer.send(item("y", 1), { cmd: 1, seq: 99 }); // not granted: it waits as one that has no room, and fails then
  assertEquals(await peer.readReady(), []);
  await clock.advance(1_010);
  assertEquals((await peer.readReplies(2)).map(({ seq, err }) => [seq, err]), [[1, "INVALID_MESSAGE"], [
    99,
    undefined,
  ]]);
  for (let seq = 2; seq <= upTo; seq++) await peer.send({ cmd: 0, seq, cancel: true });
  await peer.readReplies(upTo - 1);
  served.assertNothingHeld();
});

Deno.test("items - at the server's limit each stream gets one item at a time", async () => {
  await using served = new ServedCalls({ maxTotalHeldBytes: 20_000 });
  const { peer, reading, state } = served;
  await peer.send(upload("READ"), item("a"));
  state.load.bytes += 20_000;
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 1);
  state.load.bytes -= 20_000;
  await peer.send(item("b"));
  await reading.take();
  assertEquals((await readGrants(peer)).credit, 256);
});

Deno.test("items - many streams of one connection share its memory", async () => {
  await using served = new ServedCalls({ maxPayloadBytes: MIB });
  const { peer, readings } = served;
  const chunk = new Uint8Array(64 * 1024);
  const credits = new Map<number, number>();
  const streams = 16;
  for (let seq = 0; seq < streams; seq++) await peer.send(upload("READ", seq), item(chunk, seq));
  await settle();
  for (const each of readings) await each.take();
  for (const { seq, credit } of await peer.readReady()) {
    credits.set(seq as number, (credits.get(seq as number) ?? 0) + (credit as number));
  }
  assertEquals(credits.size, streams);
  for (const [seq, credit] of credits) for (let n = 0; n < credit; n++) await peer.send(item(chunk, seq));
  await settle();
  assert(served.heldBytes <= 4.1 * MIB, `${served.heldBytes} B are held`);
  assertEquals(await peer.readReady(), []);
});
