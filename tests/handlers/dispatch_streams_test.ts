/** Streams (PROTOCOL.md, "Streams and credit"): items in order and one end, credit to the item, and a `finally` that always runs. */

import { assert, assertEquals, assertObjectMatch } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { command, type Context, type Middleware, reply } from "../../handlers/command.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { Held, withMemory, withServer } from "../support/test_server.ts";
import { concat, type Message, request, unhex } from "../support/wire.ts";
import { overEach } from "../support/transports.ts";

const PONG = { res: "PONG" };

/** A stream that counts up to `to`, and what has become of its handler. */
class Counting {
  /** Items that the handler was asked for. */
  asked = 0;
  /** How often its `finally` ran. */
  ended = 0;
  context: Context | undefined;

  readonly command = command({ handler: (params: { to?: number }, context) => this.#count(params, context) });

  async *#count({ to = Infinity }: { to?: number }, context: Context): AsyncGenerator<number, string, void> {
    this.context = context;
    try {
      for (let count = 1; count <= to; count++) {
        this.asked++;
        yield count;
      }
      return "done";
    } finally {
      this.ended++;
    }
  }
}

function items(seq: number | undefined, from: number, to: number): Message[] {
  return Array.from({ length: to - from + 1 }, (_, index) => ({
    ...(seq === undefined ? {} : { seq }),
    res: from + index,
    more: true,
  }));
}

Deno.test("dispatch answers with the items of a stream, then with its return value", async () => {
  const counting = new Counting();
  await using served = withMemory({ clock: new FakeClock(), commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", seq: 0, to: 3 });
  assertEquals(await served.peer.readReady(), [...items(0, 1, 3), { seq: 0, res: "done" }]);
  assertEquals(counting.ended, 1);
  await served.peer.send({ cmd: "COUNT", seq: 1, to: 0 });
  assertEquals(await served.peer.readReady(), [{ seq: 1, res: "done" }]);
});

Deno.test("dispatch answers nil for an item, or a return value, that is undefined", async () => {
  const EMPTY = command({
    async *handler(_params: Message): AsyncGenerator<unknown, void, void> {
      yield undefined;
      yield null;
    },
  });
  await using served = withMemory({ commands: { EMPTY } });
  await served.peer.send({ cmd: "EMPTY", seq: 1 });
  const nothing = { seq: 1, res: null };
  assertEquals(await served.peer.readReady(), [{ ...nothing, more: true }, { ...nothing, more: true }, nothing]);
});

Deno.test("dispatch answers with the fields beside a stream's return value, also where it has no items", async () => {
  const COUNT = command(async function* ({ to }: { to: number }) {
    for (let n = 1; n <= to; n++) yield n;
    return reply("done", { counted: to });
  });
  const through: Middleware = (_call, next) => next();
  for (const middleware of [[], [through]]) {
    await using served = withMemory({ commands: { COUNT }, middleware });
    const { peer } = served;
    await peer.send({ cmd: "COUNT", seq: 1, to: 2 });
    assertEquals(await peer.readReplies(3), [...items(1, 1, 2), { seq: 1, res: "done", counted: 2 }]);
    assertEquals(await peer.ask({ cmd: "COUNT", seq: 1, to: 0 }), { seq: 1, res: "done", counted: 0 });
    const marked = { seq: 1, res: "done", counted: 0, $items: 0 };
    assertEquals(await peer.ask({ cmd: "COUNT", seq: 1, to: 0, credit: 1 }), marked);
  }
});

Deno.test("dispatch refuses a reply() as an item of a stream: only a result has fields beside it", async () => {
  const COUNT = command(async function* () {
    yield reply(1, { slept: 2 });
  });
  await using served = withMemory({ commands: { COUNT } });
  const refused = { seq: 1, err: "REPLY_NOT_ENCODABLE", msg: "res: a Reply cannot be sent" };
  assertEquals(await served.peer.ask({ cmd: "COUNT", seq: 1 }), refused);
  assertEquals((served.errors.take()[0] as Error).name, "EncodeError");
});

Deno.test("dispatch holds a stream at its credit, to the item, and goes on by what is granted", async () => {
  const counting = new Counting();
  await using served = withMemory({ clock: new FakeClock(), commands: { COUNT: counting.command } });
  const { peer } = served;
  await peer.send({ cmd: "COUNT", seq: 1, credit: 3, to: 10 });
  assertEquals(await peer.readReady(), items(1, 1, 3));
  assertEquals(counting.asked, 3, "the handler is not asked for more");
  await peer.send({ cmd: 0, seq: 1, credit: 1 });
  assertEquals(await peer.readReady(), items(1, 4, 4));
  assertEquals(counting.asked, 4);
  await peer.send({ cmd: 0, seq: 1, credit: 2 }, { cmd: 0, seq: 1, credit: 2 });
  assertEquals(await peer.readReady(), items(1, 5, 8));
  await peer.send({ cmd: 0, seq: 1, credit: 2 });
  assertEquals(await peer.readReady(), items(1, 9, 10));
  assertEquals(counting.ended, 0, "that it has ended is found out when it is asked once more");
  await peer.send({ cmd: 0, seq: 1, credit: 1 });
  assertEquals(await peer.readReady(), [{ seq: 1, res: "done" }]);
});

Deno.test("dispatch goes on with everything else while a stream waits for credit", async () => {
  const counting = new Counting();
  await using served = withMemory({ commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", seq: 1, credit: 1 });
  assertEquals(await served.peer.readReady(), items(1, 1, 1));
  for (let seq = 2; seq < 50; seq++) assertEquals(await served.peer.ask({ cmd: 1, seq }), { seq, ...PONG });
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("dispatch ends a stream that is cancelled, waiting or running: its finally runs, and its signal says why", async () => {
  for (const credit of [1, undefined]) {
    const counting = new Counting();
    const held = new Held();
    const WAIT = command({
      async *handler(_params: Message, context: Context): AsyncGenerator<number, void, void> {
        counting.context = context;
        try {
          yield 1;
          await held.command.handler({} as never, context);
          yield 2;
        } finally {
          counting.ended++;
        }
      },
    });
    await using served = withMemory({ commands: { WAIT } });
    const { peer } = served;
    await peer.send({ cmd: "WAIT", seq: 1, ...(credit === undefined ? {} : { credit }) });
    assertEquals(await peer.readReady(), items(1, 1, 1));
    const { signal } = counting.context!;
    assertEquals(await peer.ask({ cmd: 0, seq: 1, cancel: true }), { seq: 1, err: "CANCELLED" });
    assert(signal.aborted && (signal.reason as RpcError).code === "CANCELLED");
    assertEquals(counting.ended, credit === undefined ? 0 : 1);
    held.finishAll();
    assertEquals(await peer.readReady(), [], "nothing behind the last reply");
    assertEquals(counting.ended, 1);
    await peer.send({ cmd: 0, seq: 1, credit: 5 });
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
  }
});

Deno.test("dispatch ends a stream whose time is up", async () => {
  const clock = new FakeClock();
  const counting = new Counting();
  await using served = withMemory({ clock, commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", seq: 1, credit: 2, ttl: 1_000 });
  assertEquals(await served.peer.readReady(), items(1, 1, 2));
  await clock.advance(1_010);
  assertEquals(await served.peer.readReady(), [{ seq: 1, err: "DEADLINE_EXCEEDED" }]);
  assertEquals([counting.asked, counting.ended], [2, 1]);
});

Deno.test("dispatch ends the streams of a connection that breaks", async () => {
  const [waiting, running] = [new Counting(), new Counting()];
  await using served = withMemory({
    commands: { WAITING: waiting.command, RUNNING: running.command },
    maxQueuedBytes: 10_000,
  });
  await served.peer.send({ cmd: "WAITING", seq: 1, credit: 2 }, { cmd: "RUNNING", seq: 2 });
  await settle();
  assertEquals([waiting.ended, running.ended], [0, 0]);
  served.peer.close();
  await served.served;
  await settle();
  assertEquals([waiting.ended, running.ended], [1, 1]);
  for (const { context } of [waiting, running]) {
    assertEquals((context!.signal.reason as RpcError).code, "CONNECTION_LOST");
  }
});

overEach("dispatch ends the stream of a client that resets while it reads", async (transport) => {
  const counting = new Counting();
  await using server = await withServer({ commands: { COUNT: counting.command } }, transport);
  const peer = await server.connectResettable();
  await peer.send({ cmd: "COUNT", seq: 1 });
  await peer.readReplies(1_000);
  peer.reset();
  for (let tries = 0; counting.ended === 0 && tries < 1_000; tries++) await settle();
  assertEquals(counting.ended, 1);
});

Deno.test("dispatch ends a stream without credit behind a half-close: none can come any more", async () => {
  for (const ending of ["half-close", "broken frame"]) {
    const counting = new Counting();
    await using served = withMemory({ commands: { COUNT: counting.command } });
    const { peer } = served;
    await peer.send({ cmd: "COUNT", seq: 1, credit: 2 }, { cmd: "COUNT", seq: 2, credit: 2 });
    assertEquals((await peer.readReady()).length, 4);
    if (ending === "half-close") await peer.halfClose();
    else await peer.sendBytes(unhex("20 21 90 0d"));
    const [first, second, ...rest] = await peer.readToEnd();
    assertEquals([first.seq, first.err, second.seq, second.err], [1, "CANCELLED", 2, "CANCELLED"]);
    assertEquals(rest.map(({ err }) => err), ending === "half-close" ? [] : ["BAD_FRAME"]);
    assertEquals(counting.ended, 2);
  }
});

Deno.test("dispatch gives all of a stream that has credit enough behind a half-close", async () => {
  const counting = new Counting();
  await using served = withMemory({ commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", seq: 1, to: 5, credit: 6 }, { cmd: "COUNT", seq: 2, to: 5, credit: 5 });
  await served.peer.halfClose();
  const replies = await served.peer.readToEnd();
  assertEquals(replies.filter(({ seq }) => seq === 1), [...items(1, 1, 5), { seq: 1, res: "done" }]);
  assertEquals(replies.filter(({ seq }) => seq === 2).slice(0, 5), items(2, 1, 5));
});

Deno.test("dispatch tells of an error in the middle of a stream in its last reply", async () => {
  const wrong = new Error("a secret");
  for (
    const [thrown, told] of [[new RpcError("DRY", "no more"), { err: "DRY", msg: "no more" }], [wrong, {
      err: "INTERNAL",
    }]]
  ) {
    const FAIL = command({
      async *handler(_params: Message): AsyncGenerator<number, void, void> {
        yield 1;
        yield 2;
        throw thrown;
      },
    });
    await using served = withMemory({ commands: { FAIL } });
    await served.peer.send({ cmd: "FAIL", seq: 1 });
    assertEquals(await served.peer.readReady(), [...items(1, 1, 2), { seq: 1, ...told }]);
    assertEquals(served.errors.take(), thrown === wrong ? [wrong] : []);
    assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  }
});

Deno.test("dispatch ends a stream at an item that cannot be sent: one error, its finally runs, and the lane goes on", async () => {
  for (const seq of [7, undefined]) {
    let ended = 0;
    const MIXED = command({
      async *handler(_params: Message): AsyncGenerator<unknown, number, void> {
        try {
          yield 1;
          yield { bad: () => {} };
          yield 3;
          return 4;
        } finally {
          ended++;
        }
      },
    });
    await using served = withMemory({ commands: { MIXED } });
    const { peer } = served;
    const withSeq = seq === undefined ? {} : { seq };
    await peer.send({ cmd: "MIXED", ...withSeq }, { cmd: 1 });
    const replies = await peer.readReady();
    const ofStream = replies.filter(({ res }) => res !== "PONG");
    assertEquals(ofStream.map(({ res, err, more }) => [res ?? err, more]), [[1, true], [
      "REPLY_NOT_ENCODABLE",
      undefined,
    ]]);
    assertEquals(replies.length, 3, "the request behind it is answered");
    assertEquals(ended, 1);
    assertEquals(served.errors.take().length, 1);
    const { res } = await peer.ask({ cmd: "STATS" }) as {
      res: { inFlight: number; commands: Record<string, unknown> };
    };
    assertObjectMatch(res.commands.MIXED as Message, { calls: 1, errors: { REPLY_NOT_ENCODABLE: 1 }, inFlight: 0 });
    assertEquals(res.inFlight, 0);
    await peer.halfClose();
    assertEquals(await peer.readToEnd(), []);
  }
});

Deno.test("dispatch ends a stream at an item that is too large", async () => {
  const LARGE = command({
    async *handler(_params: Message): AsyncGenerator<string, void, void> {
      yield "small";
      yield "x".repeat(60_000);
      yield "small";
    },
  });
  await using served = withMemory({ commands: { LARGE } });
  await served.peer.send({ cmd: "LARGE", seq: 1 });
  const [first, last, ...rest] = await served.peer.readReady();
  assertEquals([first.res, last.err, last.more, rest], ["small", "REPLY_TOO_LARGE", undefined, []]);
  assertEquals(served.errors.take(), [], "what its caller takes is the caller's own limit");
});

Deno.test("dispatch ends a stream whose return value cannot be sent", async () => {
  const BAD_END = command({
    async *handler(_params: Message): AsyncGenerator<number, unknown, void> {
      yield 1;
      return () => {};
    },
  });
  await using served = withMemory({ commands: { BAD_END } });
  await served.peer.send({ cmd: "BAD_END", seq: 1 });
  const [item, last, ...rest] = await served.peer.readReady();
  assertEquals([item.res, last.err, rest], [1, "REPLY_NOT_ENCODABLE", []]);
  assertEquals(served.errors.take().length, 1);
});

Deno.test("dispatch streams to a request without seq, and the lane waits behind it", async () => {
  const counting = new Counting();
  await using served = withMemory({ commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", to: 3 }, { cmd: 1 });
  assertEquals(await served.peer.readReady(), [...items(undefined, 1, 3), { res: "done" }, PONG]);
});

Deno.test("dispatch streams what an async handler, or a middleware, hands on", async () => {
  const counting = new Counting();
  const LATER = command({
    handler: async (params: { to: number }, context) => {
      await settle(1);
      return counting.command.handler(params as never, context) as AsyncGenerator<number, string, void>;
    },
  });
  await using served = withMemory({
    commands: { COUNT: counting.command, LATER },
    middleware: [(_request, next) => next()],
  });
  for (const cmd of ["COUNT", "LATER"]) {
    await served.peer.send({ cmd, seq: 1, to: 2, credit: 2 });
    assertEquals(await served.peer.readReady(), items(1, 1, 2));
    await served.peer.send({ cmd: 0, seq: 1, credit: 9 });
    assertEquals(await served.peer.readReady(), [{ seq: 1, res: "done" }]);
  }
});

Deno.test("dispatch ignores credit for a call that is not a stream", async () => {
  const held = new Held();
  await using served = withMemory({ commands: { HOLD: held.command } });
  await served.peer.send({ cmd: "HOLD", seq: 1, credit: 1 }, { cmd: 0, seq: 1, credit: 5 }, { cmd: "HOLD", seq: 2 });
  await served.peer.send({ cmd: 0, seq: 2, credit: 5 });
  await settle();
  held.finishAll();
  assertEquals(await served.peer.readReplies(2), [{ seq: 1, res: null }, { seq: 2, res: null }]);
});

Deno.test("dispatch holds a stream without credit at the output limit, and goes on as the client reads", async () => {
  const counting = new Counting();
  await using served = withMemory({
    clock: new FakeClock(),
    commands: { COUNT: counting.command },
    maxQueuedBytes: 50_000,
  });
  const { peer } = served;
  await peer.send({ cmd: "COUNT", seq: 1 });
  await settle();
  const held = counting.asked;
  // An item takes about 20 bytes; what is over the limit is what was under way.
  assert(held > 1_000 && held < 10_000, `${held} items`);
  await settle();
  assertEquals(counting.asked, held, "it stands still");
  await peer.readReplies(3 * held);
  assert(counting.asked > 2 * held);
});

Deno.test("dispatch lets others have their turn while a stream makes items without a pause", async () => {
  const counting = new Counting();
  await using served = withMemory({ commands: { COUNT: counting.command } });
  await served.peer.send({ cmd: "COUNT", seq: 1 });
  await settle(1);
  // 64 KiB of items at a time, though four megabytes may wait.
  assert(counting.asked > 0 && counting.asked < 6_000, `${counting.asked} items in one turn`);
  await served.peer.send({ cmd: 1, seq: 2 });
  await served.peer.readReplies(20_000);
});

Deno.test("dispatch reports a finally that throws, and has told the caller nothing of it", async () => {
  const wrong = new Error("while tidying up");
  const UNTIDY = command({
    async *handler(_params: Message): AsyncGenerator<number, void, void> {
      try {
        yield 1;
        yield 2;
      } finally {
        // deno-lint-ignore no-unsafe-finally -- what a handler may do all the same
        throw wrong;
      }
    },
  });
  await using served = withMemory({ commands: { UNTIDY } });
  await served.peer.send({ cmd: "UNTIDY", seq: 1, credit: 1 });
  await settle();
  await served.peer.send({ cmd: 0, seq: 1, cancel: true });
  assertEquals(await served.peer.readReady(), [...items(1, 1, 1), { seq: 1, err: "CANCELLED" }]);
  assertEquals(served.errors.take(), [wrong]);
});

Deno.test("dispatch runs many streams and calls on one connection, each with its own credit", async () => {
  const countings = Array.from({ length: 20 }, () => new Counting());
  const commands = Object.fromEntries(countings.map((counting, index) => [`COUNT_${index}`, counting.command]));
  await using served = withMemory({ commands });
  const { peer } = served;
  await peer.sendBytes(
    concat(...countings.map((_, index) => request({ cmd: `COUNT_${index}`, seq: index, credit: index + 1 }))),
  );
  await settle();
  assertEquals(countings.map(({ asked }) => asked), countings.map((_, index) => index + 1));
  await peer.readReplies(20 * 21 / 2);
  for (let seq = 0; seq < 20; seq++) await peer.send({ cmd: 0, seq, cancel: true });
  assertEquals(
    (await peer.readReplies(20)).map(({ seq, err }) => [seq, err]),
    countings.map((_, seq) => [seq, "CANCELLED"]),
  );
  assertEquals(countings.map(({ ended }) => ended), new Array(20).fill(1));
});

Deno.test("dispatch cuts large chunks of a handler's ReadableStream of bytes into pieces", async () => {
  const FILE = command(() => ReadableStream.from([new Uint8Array(150_000), new Uint8Array(3), "text"]));
  await using served = withMemory({ commands: { FILE } });
  const { peer } = served;
  await peer.send({ cmd: 0, max: 1_048_576 }, { cmd: "FILE", seq: 1 });
  const replies = await peer.readReady();
  const sizes = replies.map(({ res }) => res instanceof Uint8Array ? res.length : res);
  assertEquals(sizes, [65_536, 65_536, 18_928, 3, "text", null]);
});
