/**
 * Places among the calls in flight, and the memory that requests hold: when they are taken, and when they are free
 * again. What waits does not make a server look dead.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, type Context } from "../../handlers/command.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { type Message, request } from "../support/wire.ts";

const PONG = { res: "PONG" };

async function inFlight(peer: { ask(fields: Message): Promise<Message> }): Promise<number> {
  return ((await peer.ask({ cmd: 4 })).res as ServerStatistics).inFlight;
}

// What waits ---------------------------------------------------------------------------------------------------------

Deno.test("thousands of quiet streams keep nobody from PING, INFO, STATS and other calls", async () => {
  const QUIET = command({
    async *handler(_params: Message, { signal }): AsyncGenerator<number, void, void> {
      yield 0;
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  await using server = await withServer({ commands: { QUIET } });
  const count = 1_000;
  for (let round = 0; round < 3; round++) {
    const peer = await server.connect();
    await peer.send(...Array.from({ length: count }, (_, seq) => ({ cmd: "QUIET", seq, credit: 8 })));
    await peer.readReplies(count);
  }
  const newcomer = await server.connect();
  assertEquals(await inFlight(newcomer), 3 * count);
  assertEquals(await newcomer.ask({ cmd: 1 }), PONG);
  assertEquals((await newcomer.ask({ cmd: 3, seq: 1 })).seq, 1);
  assertEquals((await newcomer.ask({ cmd: 2, sleep: 0 })).res, "DONE");
});

Deno.test("PING, INFO and STATS are answered at the limit of the whole server, in order and beside", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlightTotal: 1 });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 1 });
  for (const seq of [{}, { seq: 2 }]) {
    assertEquals(await peer.ask({ cmd: 1, ...seq }), { ...seq, ...PONG });
    for (const cmd of [3, 4, "INFO", "STATS"]) assertEquals((await peer.ask({ cmd, ...seq })).err, undefined);
    assertEquals((await peer.ask({ cmd: "STATS", all: true, ...seq })).err, undefined);
    assertEquals((await peer.ask({ cmd: "TICK", count: 0, ...seq })).err, "OVERLOADED");
  }
  assertEquals((await peer.ask({ cmd: "NONE" })).err, "CMD_NOT_FOUND");
  held.finishAll();
  await peer.readReply();
});

Deno.test("the default limits let as many calls wait as the server has memory for", () => {
  const WAITING_CALL_BYTES = 4 * 1024; // a stream that has sent an item and waits by its signal
  assert(DEFAULT_LIMITS.maxInFlightTotal * WAITING_CALL_BYTES <= 256 * 1024 * 1024);
  assert(DEFAULT_LIMITS.maxInFlight < DEFAULT_LIMITS.maxInFlightTotal);
});

Deno.test("a call that ends while it waits for a place gives its memory back, though no handler ends", async () => {
  const held = new Held();
  const clock = new FakeClock();
  const limits = { maxInFlight: 1, maxHeldBytes: 20_000 };
  await using served = withMemory({ commands: { HOLD: held.command }, clock, ...limits });
  const { peer } = served;
  await peer.send({ cmd: "HOLD", seq: 0 });
  const text = "x".repeat(1_000);
  for (let seq = 1; seq <= 100; seq += 2) {
    await peer.send({ cmd: "HOLD", seq, text }, { cmd: 0, seq, cancel: true });
    assertEquals(await peer.readReply(), { seq, err: "CANCELLED" });
    await peer.send({ cmd: "HOLD", seq: seq + 1, text, ttl: 5 });
    await settle();
    await clock.advance(10);
    assertEquals(await peer.readReply(), { seq: seq + 1, err: "DEADLINE_EXCEEDED" });
  }
  held.finishAll();
  assertEquals(await peer.readReply(), { seq: 0, res: null });
});

Deno.test("calls that wait begin in their order, whichever of them are cancelled", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command }, maxInFlight: 1 });
  const { peer } = served;
  await peer.send(...Array.from({ length: 9 }, (_, seq) => ({ cmd: "HOLD", seq, id: seq })));
  for (const seq of [2, 3, 8, 5, 4]) {
    assertEquals(await peer.ask({ cmd: 0, seq, cancel: true }), { seq, err: "CANCELLED" });
  }
  for (const seq of [0, 1, 6, 7]) {
    held.finishAll();
    assertEquals(await peer.readReply(), { seq, res: seq });
  }
  assertEquals(held.calls.map(({ params }) => params.id), [0, 1, 6, 7]);
  assertEquals(await inFlight(peer), 0);
});

// The end of a handler -----------------------------------------------------------------------------------------------

Deno.test("a stream whose reader leaves between two items is ended at once, whatever its kind", async () => {
  const ended: string[] = [];
  const byHand = (last: () => Promise<void>) => {
    const iterator = {
      count: 0,
      next() {
        return this.count++ === 0
          ? Promise.resolve({ done: false as const, value: 1 })
          : new Promise<IteratorResult<number, void>>(() => {});
      },
      async return() {
        await last();
        ended.push("BY_HAND");
        return { done: true as const, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
    return iterator as unknown as AsyncGenerator<number, void, void>;
  };
  const commands = {
    GENERATOR: command({
      async *handler(_params: Message, { signal }): AsyncGenerator<number, void, void> {
        try {
          yield 1;
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        } finally {
          ended.push("GENERATOR");
        }
      },
    }),
    BY_HAND: command({ handler: (_params: Message) => byHand(() => Promise.resolve()) }),
    READABLE: command({
      handler: (_params: Message) =>
        new ReadableStream({
          start: (controller) => controller.enqueue(1),
          cancel: () => void ended.push("READABLE"),
        }) as unknown as AsyncGenerator<number, void, void>,
    }),
  };
  await using served = withMemory({ commands });
  const { peer } = served;
  for (const cmd of Object.keys(commands)) {
    for (const seq of [1, 2]) {
      await peer.send({ cmd, seq });
      assertEquals(await peer.readReply(), { seq, res: 1, more: true });
      assertEquals(ended, []);
      assertEquals(await peer.ask({ cmd: 0, seq, cancel: true }), { seq, err: "CANCELLED" });
      await settle();
      assertEquals(ended.splice(0), [cmd]);
      assertEquals(await inFlight(peer), 0, cmd);
    }
  }
  // With a last word that fails: the hook is told.
  const wrong = new Error("in return()");
  await using failing = withMemory({
    commands: { FAILS: command({ handler: () => byHand(() => Promise.reject(wrong)) }) },
  });
  await failing.peer.send({ cmd: "FAILS", seq: 1 });
  await failing.peer.readReply();
  await failing.peer.ask({ cmd: 0, seq: 1, cancel: true });
  await settle();
  assertEquals(failing.errors.take(), [wrong]);
  assertEquals(await inFlight(failing.peer), 0);
});

Deno.test("a call keeps its place until its handler has ended, though a middleware has answered before", async () => {
  const held = new Held();
  await using served = withMemory({
    commands: { HOLD: held.command },
    maxInFlightTotal: 2,
    middleware: [
      (_call, next) => next(),
      ({ command }, next) => command === "HOLD" ? (void next(), { res: "early" }) : next(),
    ],
  });
  const { peer } = served;
  assertEquals(await peer.ask({ cmd: "HOLD", seq: 1 }), { seq: 1, res: "early" });
  assertEquals(await peer.ask({ cmd: "HOLD", seq: 2 }), { seq: 2, res: "early" });
  assertEquals(held.running, 2);
  assertEquals((await peer.ask({ cmd: "HOLD", seq: 3 })).err, "OVERLOADED");
  assertEquals((await peer.ask({ cmd: "TICK", count: 0 })).err, "OVERLOADED");
  held.finishAll();
  await settle();
  assertEquals((await peer.ask({ cmd: "TICK", count: 0 })).res, 0);
});

// Memory -------------------------------------------------------------------------------------------------------------

/** Takes 200 kB in memory: two bytes a character. */
const LARGE = "x".repeat(100_000);

Deno.test("a connection that holds too many bytes of requests is not read, in the queue and in handlers, and goes on", async () => {
  for (const seqs of [true, false]) {
    const held = new Held();
    await using served = withMemory({
      clock: new FakeClock(),
      commands: { HOLD: held.command },
      maxHeldBytes: 500_000,
    });
    const { peer } = served;
    const sent = peer.sendBytes(...large(20, seqs));
    sent.catch(() => {}); // where an assertion fails before
    await settle();
    const before = held.running;
    assert(before === (seqs ? 3 : 1), `${before} run`);
    const replies: Message[] = [];
    while (replies.length < 20) {
      held.finishAll();
      replies.push(...await peer.readReady());
      assert(held.peak <= 3, `${held.peak} ran`);
    }
    await sent;
    assertEquals(replies.filter(({ err }) => err !== undefined), []);
    assertEquals(await inFlight(peer), 0);
  }
});

Deno.test("a connection that holds too many bytes for a second is read again, and what comes is OVERLOADED", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using served = withMemory({ clock, commands: { HOLD: held.command }, maxHeldBytes: 500_000 });
  const { peer } = served;
  const sent = peer.sendBytes(...large(10, true));
  sent.catch(() => {}); // where an assertion fails before
  assertEquals(await peer.readReady(), []);
  await clock.advance(1_000);
  const refused = await peer.readReady();
  assertEquals(new Set(refused.map(({ err }) => err)), new Set(["OVERLOADED"]));
  assertEquals(refused.length, 10 - held.running);
  await sent;
  // So that a cancel, which would not be read else, comes through, and PING is answered.
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  assertEquals(await peer.ask({ cmd: 0, seq: 0, cancel: true }), { seq: 0, err: "CANCELLED" });
  held.finishAll();
  await settle();
  assertEquals((await peer.readReady()).length, held.calls.length - 1);
  await peer.send({ cmd: "HOLD", seq: 50 });
  await settle();
  held.finishAll();
  assertEquals(await peer.readReply(), { seq: 50, res: null });
});

Deno.test("one request is served at a time, however little may be held", async () => {
  await using served = withMemory({ maxHeldBytes: 1, maxTotalHeldBytes: 1 });
  for (const seq of [1, 2]) assertEquals((await served.peer.ask({ cmd: 2, sleep: 0, seq })).res, "DONE");
  assert(DEFAULT_LIMITS.maxHeldBytes >= 2 * DEFAULT_LIMITS.maxMessageBytes, "two of the heaviest messages");
  assert(DEFAULT_LIMITS.maxInFlight * 64 >= DEFAULT_LIMITS.maxInFlightTotal, "64 connections fill the server");
});

Deno.test("what all connections hold together is limited: more is OVERLOADED, unstarted; PING is answered", async () => {
  const held = new Held();
  await using server = await withServer({ commands: { HOLD: held.command }, maxTotalHeldBytes: 500_000 });
  const peers = await Promise.all(Array.from({ length: 10 }, () => server.connect()));
  for (const peer of peers) {
    await peer.send({ cmd: "HOLD", seq: 1, text: LARGE });
    await peer.send({ cmd: 1 });
    const pong = (await peer.readReplies(1))[0];
    if (pong.err === undefined) assertEquals(pong, PONG);
    else assertEquals([pong, await peer.readReply()], [{ seq: 1, err: "OVERLOADED" }, PONG]);
  }
  assertEquals(held.calls.length, 3);
  held.finishAll();
  await settle();
  await peers[9].send({ cmd: "HOLD", seq: 2, text: LARGE });
  while (held.running === 0) await settle();
  held.finishAll();
  assertEquals((await peers[9].readReply()).seq, 2);
});

function large(count: number, seqs: boolean): Uint8Array[] {
  return Array.from({ length: count }, (_, seq) => request({ cmd: "HOLD", text: LARGE, ...(seqs ? { seq } : {}) }));
}

// What a middleware and a handler see --------------------------------------------------------------------------------

Deno.test("a middleware sees the end of a stream: its final reply, or its error, when it is over", async () => {
  const seen: unknown[] = [];
  const held = new Held();
  const commands = {
    GOOD: command({
      async *handler(_params: Message, context): AsyncGenerator<number, string, void> {
        yield 1;
        await held.command.handler({} as never, context);
        yield 2;
        return "all";
      },
    }),
    BAD: command({
      async *handler(_params: Message): AsyncGenerator<number, void, void> {
        yield 1;
        throw new RpcError("DRY");
      },
    }),
    UNSENDABLE: command({
      async *handler(_params: Message): AsyncGenerator<unknown, void, void> {
        yield () => {};
      },
    }),
    ENDLESS: command({
      async *handler(_params: Message): AsyncGenerator<number, void, void> {
        for (let n = 0;; n++) yield n;
      },
    }),
  };
  await using served = withMemory({
    commands,
    middleware: [async ({ command }, next) => {
      try {
        const reply = await next();
        seen.push([command, reply]);
        return { ...reply, seen: true };
      } catch (error) {
        seen.push([command, (error as RpcError).code]);
        throw error;
      }
    }],
  });
  const { peer } = served;
  await peer.send({ cmd: "GOOD", seq: 1 });
  assertEquals(await peer.readReply(), { seq: 1, res: 1, more: true });
  await settle();
  assertEquals(seen, []);
  held.finishAll();
  assertEquals(await peer.readReplies(2), [{ seq: 1, res: 2, more: true }, { seq: 1, res: "all", seen: true }]);
  await peer.send({ cmd: "BAD", seq: 2 });
  assertEquals(await peer.readReplies(2), [{ seq: 2, res: 1, more: true }, { seq: 2, err: "DRY" }]);
  await peer.send({ cmd: "UNSENDABLE", seq: 3 });
  assertEquals((await peer.readReply()).err, "REPLY_NOT_ENCODABLE");
  await peer.send({ cmd: "ENDLESS", seq: 4, credit: 2 });
  await peer.readReplies(2);
  assertEquals(await peer.ask({ cmd: 0, seq: 4, cancel: true }), { seq: 4, err: "CANCELLED" });
  await settle();
  assertEquals(seen, [
    ["GOOD", { res: "all" }],
    ["BAD", "DRY"],
    ["UNSENDABLE", "REPLY_NOT_ENCODABLE"],
    ["ENDLESS", "CANCELLED"],
  ]);
  assertEquals(served.errors.take().length, 1);
});

Deno.test("a context holds what is documented, and writing to it changes nothing", async () => {
  const contexts: Context[] = [];
  const NAMES = [
    ...[
      "certificate",
      "clock",
      "command",
      "connection",
      "draining",
      "items",
      "meta",
      "params",
      "peer",
      "remaining",
      "server",
      "signal",
    ],
  ];
  const meddle = (context: Context) => {
    contexts.push(context);
    for (const name of ["settled", "credit", "wake", "request", "code", "owner"]) Object.assign(context, { [name]: 1 });
    for (const name of NAMES) assertThrows(() => Object.assign(context, { [name]: undefined }), TypeError);
  };
  const COUNT = command({
    async *handler(_params: Message, context): AsyncGenerator<number, void, void> {
      meddle(context);
      for (let n = 0; n < 3; n++) yield n;
    },
  });
  await using served = withMemory({
    commands: { COUNT },
    middleware: [(context, next) => {
      meddle(context);
      return next();
    }],
  });
  await served.peer.send({ cmd: "COUNT", seq: 1, credit: 9 });
  assertEquals((await served.peer.readReplies(4)).map(({ res }) => res), [0, 1, 2, null]);
  assertEquals(contexts[0], contexts[1]);
  const documented = Object.getOwnPropertyNames(Object.getPrototypeOf(contexts[0])).filter((name) =>
    name !== "constructor"
  );
  assertEquals(documented.sort(), NAMES);
});

Deno.test("what the caller would have been told is no error of the server", async () => {
  await using served = withMemory({});
  await served.peer.send({ cmd: 2, seq: 1 }, { cmd: 0, seq: 1, cancel: true });
  const replies = await served.peer.readReady();
  assertEquals(replies.length, 1);
  assertEquals(served.errors.take(), []);
});

Deno.test("a client's quiet streams leave room for its other calls", async () => {
  const QUIET = command({
    async *handler(_params: Message, { signal }): AsyncGenerator<number, void, void> {
      yield 0;
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
  });
  await using server = await withServer({ commands: { QUIET } });
  await using client = await connect({ port: server.port, commands: { QUIET } });
  const streams = Array.from({ length: 300 }, () => client.stream("QUIET", {}));
  assertEquals((await Promise.all(streams.map((stream) => stream.next()))).length, 300);
  assertEquals(await client.reply("PING"), PONG);
  await Promise.all(streams.map((stream) => stream.return(null)));
});
