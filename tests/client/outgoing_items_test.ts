/** The caller's streams, against a server that does what it is told: what is sent, when the source is asked and ended. */

import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { markReceived, RpcError } from "../../errors.ts";
import { type FakeClock, turn } from "../support/fake_clock.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { CANCEL, END, failure, item, NEVER, scene, Source, until } from "../support/outgoing_items.ts";

Deno.test("items - one goes before any grant, the rest as they are granted, then the end", async () => {
  const { client, server } = await scene();
  const call = client.call("UP", { name: "a" }, { items: [1, "two", null] });
  assertEquals(await server.requests(2), [{ name: "a", cmd: "UP", $items: true, seq: 0 }, item(1)]);
  await turn();
  assertEquals(server.waiting, 0);
  await server.reply({ seq: 0, credit: 1 });
  assertEquals(await server.request(), item("two"));
  await server.reply({ seq: 0, credit: 2 });
  assertEquals(await server.requests(2), [item(null), END]);
  await server.reply({ seq: 0, res: 3 });
  assertEquals(await call, 3);
  await client.close();
  assertEquals(await server.rest(), []);
});

Deno.test("items - a stream both ways", async () => {
  const { client, server } = await scene();
  const stream = client.stream("CHAT", {}, { items: ["a", "b"], credit: 1 });
  const first = stream.next();
  assertEquals(await server.requests(2), [{ cmd: "CHAT", credit: 1, $items: true, seq: 0 }, item("a")]);
  await server.reply({ seq: 0, res: "> a", more: true }, { seq: 0, credit: 5 });
  assertEquals(await first, { done: false, value: "> a" });
  assertEquals(await server.requests(3), [{ cmd: 0, seq: 0, credit: 1 }, item("b"), END]);
  await server.reply({ seq: 0, res: "> b", more: true }, { seq: 0, res: null });
  assertEquals(await stream.next(), { done: false, value: "> b" });
  assertEquals(await stream.next(), { done: true, value: null });
  await client.close();
});

Deno.test("items - a call that the server cuts has another code than one that its caller has ended", async () => {
  const { client, server } = await scene();
  const upload = client.call("UP", {}, { items: [1, 2] });
  await server.requests(2);
  const conversation = client.stream("CHAT", {}, { items: [1, 2] });
  const answer = conversation.next();
  await server.requests(2);
  const cut = { err: "CANCELLED", msg: "the server has shut down" };
  await server.reply({ seq: 0, ...cut }, { seq: 1, ...cut });
  for (const ended of [upload, answer]) {
    const error = await assertRejects(() => ended, RpcError, "go on elsewhere: CANCELLED: the server has shut down");
    assertEquals([error.code, (error.cause as RpcError).code, error.retryable], ["GOING_AWAY", "CANCELLED", false]);
  }
  const patience = new AbortController();
  const ended = client.call("UP", {}, { items: [1, 2], signal: patience.signal });
  await server.requests(2);
  patience.abort();
  assertEquals(await failure(ended), "CANCELLED");
  await client.close();
});

Deno.test("items - an error of another call in the source says nothing about this call, which may have begun", async () => {
  const { client, server } = await scene();
  for (const [code, retryable] of [["OVERLOADED", true], ["CANCELLED", false]] as const) {
    const other = markReceived(new RpcError(code, "of another server", { retryable }));
    const items = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(other) }) };
    const upload = client.call("UP", {}, { items });
    const error = await assertRejects(() => upload, RpcError);
    assertEquals([error.message, error.retryable], [`${code}: of another server`, false]);
    await server.requests(2);
  }
  await client.close();
});

Deno.test("items - all ways to call have them, and every source is one", async () => {
  const sources: (() => Iterable<unknown> | AsyncIterable<unknown>)[] = [
    () => [1, 2],
    () => new Set([1, 2]),
    () =>
      (function* () {
        yield* [1, 2];
      })(),
    () =>
      (async function* () {
        yield* [1, 2];
      })(),
    () => ReadableStream.from([1, 2]),
  ];
  for (const source of sources) {
    const { client, server } = await scene();
    const calls = [
      client.call("A", {}, { items: source() }),
      client.reply("A", {}, { items: source() }).then(({ res }) => res),
      client.outcome("A", {}, { items: source() }).then((outcome) => outcome.ok && outcome.value),
      client.stream("A", {}, { items: source() }).next().then(({ value }) => value),
    ];
    const all = Promise.all(calls);
    const messages = await server.requests(2 * 4);
    for (let seq = 0; seq < calls.length; seq++) await server.reply({ seq, credit: 9 });
    messages.push(...await server.requests(2 * 4));
    for (let seq = 0; seq < calls.length; seq++) {
      const own = messages.filter((message) => message.seq === seq).slice(1);
      assertEquals(own, [item(1, seq), item(2, seq), { ...END, seq }]);
      await server.reply({ seq, res: seq, $items: 0 });
    }
    assertEquals(await all, [0, 1, 2, 3]);
    await client.close();
  }
});

Deno.test("items - an empty source is a stream that ends at once", async () => {
  const { client, server } = await scene();
  const call = client.call("UP", {}, { items: [] });
  assertEquals((await server.requests(2))[1], END);
  await server.reply({ seq: 0, res: 0 });
  assertEquals(await call, 0);
  await client.close();
});

Deno.test("items - without credit the source is not asked for more", async () => {
  const { client, server } = await scene();
  const source = new Source();
  const call = client.call("UP", {}, { items: source });
  await server.requests(2);
  await turn();
  assertEquals(source.asked, 1);
  await server.reply({ seq: 0, credit: 3 });
  await server.requests(3);
  await turn();
  assertEquals([source.asked, server.waiting], [4, 0]);
  await server.reply({ seq: 0, res: "enough" });
  assertEquals(await call, "enough");
  await turn();
  assertEquals([source.asked, source.ended], [4, 1]);
  await client.close();
  assertEquals(await server.rest(), [], "no cancel, and no more items");
});

Deno.test("items - bytes of a ReadableStream go in pieces of 64 KiB at most; those of other sources as they are", async () => {
  const { client, server } = await scene();
  const chunks = [new Uint8Array(3), new Uint8Array(150_000).fill(7), new Uint8Array(0), new Uint8Array(65_536)];
  const lengths = async (seq: number, items: Iterable<Uint8Array> | ReadableStream<Uint8Array>) => {
    const call = client.call("UP", {}, { items });
    await server.request();
    await server.reply({ seq, credit: 100 });
    const found: number[] = [];
    for (let message = await server.request(); !message.end; message = await server.request()) {
      found.push((message.item as Uint8Array).length);
    }
    await server.reply({ seq, res: 1 });
    await call;
    return found;
  };
  assertEquals(await lengths(0, ReadableStream.from(chunks)), [3, 65_536, 65_536, 18_928, 0, 65_536]);
  assertEquals(await lengths(1, chunks), [3, 150_000, 0, 65_536]);
  await client.close();
});

Deno.test("items - what is no source is a mistake of the program", async () => {
  const { client, server } = await scene();
  const locked = ReadableStream.from([1]);
  locked.getReader();
  const mistakes: [items: unknown, text: string][] = [
    ["text", "items is text: give [text]"],
    [new Uint8Array(3), "items is bytes: give [bytes]"],
    [locked, "items is a locked ReadableStream"],
    [5, "items must be an iterable or a ReadableStream, and is a number"],
    [null, "items must be an iterable or a ReadableStream, and is null"],
    [{}, "items must be an iterable or a ReadableStream, and is an Object"],
  ];
  for (const [items, text] of mistakes) {
    const options = { items: items as [] };
    await assertRejects(() => client.call("UP", {}, options), TypeError, `Cannot call UP: ${text}`);
    assertThrows(() => client.stream("UP", {}, options), TypeError, `Cannot call UP: ${text}`);
  }
  for (const twice of [{ idempotent: true }, { hedgeAfterMs: 5, idempotent: true }]) {
    const source = new Source();
    await assertRejects(() => client.call("UP", {}, { ...twice, items: source }), TypeError, "are not sent twice");
    await until(() => source.ended === 1);
  }
  await client.close();
  assertEquals((await server.rest()).filter((message) => !("notice" in message)), []);
  const plain = await scene({ sequenced: false });
  await assertRejects(() => plain.client.call("UP", {}, { items: [] }), TypeError, "sequenced: false");
  await plain.client.close();
});

Deno.test("items - an item that cannot be sent ends the call by an error that names it, and the source", async () => {
  const cases: [unknown, typeof TypeError | typeof RangeError, string][] = [
    [{ at: new Date() }, TypeError, "Cannot call UP: items[3].at: a Date cannot be sent"],
    [new Map(), TypeError, "Cannot call UP: items[3]: a Map cannot be sent"],
    [new Uint8Array(2_000), RangeError, "Cannot call UP: items[3]: the payload is 2"],
    [
      {
        get x(): never {
          throw new Error("mine");
        },
      },
      TypeError,
      "Cannot call UP: items[3]: mine",
    ], // deno-fmt-ignore
  ];
  for (const [bad, Class, text] of cases) {
    const { client, server } = await scene({ maxPayloadBytes: 1_000 });
    const source = new Source((index) => index < 3 ? index : bad);
    const call = assertRejects(() => client.call("UP", {}, { items: source }), Class, text);
    await server.requests(2);
    await server.reply({ seq: 0, credit: 100 });
    assertEquals(await server.requests(3), [item(1), item(2), CANCEL]);
    await call;
    await until(() => source.ended === 1);
    await server.reply({ seq: 0, err: "CANCELLED" });
    await until(() => client.statistics().lateReplies === 1);
    assertEquals((await client.statistics()).failed, { OTHER: 1 });
    await client.close();
  }
});

Deno.test("items - also if it is the first one", async () => {
  const { client, server } = await scene();
  const call = assertRejects(() => client.call("UP", {}, { items: [new Date()] }), TypeError, "items[0]: a Date");
  assertEquals((await server.requests(2))[1], CANCEL);
  await call;
  await client.close();
});

Deno.test("items - an item that aborts its call, and then cannot be sent, ends that call once and no other", async () => {
  for (const first of [[], [0]]) {
    const { client, clock, server } = await scene();
    const stop = new AbortController();
    const bad = {
      get value(): never {
        stop.abort();
        clock.compute(20); // an item may be large
        throw new Error("mine");
      },
    };
    const call = failure(client.call("UP", {}, { items: [...first, bad], signal: stop.signal }));
    const other = client.call("A");
    await server.requests(2 + first.length);
    if (first.length > 0) await server.reply({ seq: 0, credit: 5 });
    assertEquals(await server.request(), CANCEL);
    assertEquals(await call, "CANCELLED");
    await server.reply({ seq: 0, err: "CANCELLED" }, { seq: 1, res: 1 });
    assertEquals(await other, 1);
    assertEquals([client.statistics().failed, client.statistics().lateReplies], [{ CANCELLED: 1 }, 1]);
    await client.close();
    assertEquals(await server.rest(), [], "one cancel is enough");
  }
});

Deno.test("items - an error of the source is the call's, and the server is told", async () => {
  const { client, server } = await scene();
  const mine = new Error("the disk is broken");
  const source = new Source((index) => index < 2 ? index : Promise.reject(mine));
  const call = client.call("UP", {}, { items: source });
  const caught = call.catch((error) => error);
  await server.requests(2);
  await server.reply({ seq: 0, credit: 100 });
  assertEquals(await server.requests(2), [item(1), CANCEL]);
  assertStrictEquals(await caught, mine);
  assertEquals(source.ended, 0, "it has ended itself");
  const thrown = client.call("UP", {}, { items: new Source(() => Promise.reject("text")) });
  const error = await assertRejects(() => thrown, Error, "the items threw no Error");
  assertEquals(error.cause, "text");
  await client.close();
});

Deno.test("items - whatever ends the call ends the source at once, also while it is asked", async () => {
  const ends: Record<string, (server: ScriptedServer, client: Client, stop: () => void, clock: FakeClock) => unknown> =
    {
      "a result": (server) => server.reply({ seq: 0, res: 1 }),
      NO_SUCH_PLACE: (server) => server.reply({ seq: 0, err: "NO_SUCH_PLACE" }),
      OVERLOADED: (server) => server.reply({ seq: 0, err: "OVERLOADED" }),
      CANCELLED: (_server, _client, stop) => stop(),
      TIMEOUT: (_server, _client, _stop, clock) => clock.advance(5_010),
      CONNECTION_LOST: (server) => server.cut(),
      CLOSED: (_server, client) => client.close(),
      BAD_REPLY: (server) => server.send(new Uint8Array([0xff, 0xff])),
    };
  for (const [code, end] of Object.entries(ends)) {
    for (const kind of ["call", "stream"] as const) {
      const { client, clock, server } = await scene();
      const patience = new AbortController();
      const source = new Source((index) => index < 2 ? index : NEVER);
      source.return = () => {
        source.ended++;
        throw new Error("a return that throws"); // nobody hears of it
      };
      const options = { items: source, signal: patience.signal, timeoutMs: 5_000 };
      const call = kind === "call" ? client.call("UP", {}, options) : client.stream("UP", {}, options).next();
      const outcome = call.then(() => "a result", (error) => error.code);
      await server.requests(2);
      await server.reply({ seq: 0, credit: 100 });
      await server.request();
      await turn();
      assertEquals([source.asked, source.ended], [3, 0]);
      await end(server, client, () => patience.abort(), clock);
      assertEquals(await outcome, code === "a result" && kind === "stream" ? "BAD_REPLY" : code, `${kind}, ${code}`);
      await turn();
      assertEquals(source.ended, 1, `${kind}, ${code}`);
      await client.close();
      const rest = await server.rest();
      const isTold = ["CANCELLED", "TIMEOUT", "CLOSED"].includes(code);
      assertEquals(rest, isTold ? [CANCEL] : [], `${kind}, ${code}`);
    }
  }
});

Deno.test("items - a source that rejects after the end is not heard", async () => {
  const { client, server } = await scene();
  const late = Promise.withResolvers<never>();
  const call = client.call("UP", {}, { items: new Source(() => late.promise) });
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  await call;
  late.reject(new Error("late"));
  await turn();
  await client.close();
});

Deno.test("items - an item that comes after the end is not sent, nor the end", async () => {
  for (const hasMore of [true, false]) {
    const { client, server } = await scene();
    const late = Promise.withResolvers<IteratorResult<unknown>>();
    const source = new Source();
    source.next = () => late.promise;
    const call = client.call("UP", {}, { items: source });
    await server.request();
    await server.reply({ seq: 0, res: 1 });
    await call;
    late.resolve({ done: !hasMore, value: 1 });
    await turn();
    await client.close();
    assertEquals(await server.rest(), []);
  }
});

Deno.test("items - leaving the reply stream ends the source; also before the first item is asked for", async () => {
  const { client, server } = await scene();
  const source = new Source();
  const stream = client.stream("CHAT", {}, { items: source });
  const first = stream.next();
  await server.requests(2);
  await server.reply({ seq: 0, res: 1, more: true });
  await first;
  await stream.return(undefined);
  await turn();
  assertEquals([source.asked, source.ended], [1, 1]);
  const unread = new Source();
  const other = client.stream("CHAT", {}, { items: unread });
  await other.return(undefined);
  await other.return(undefined);
  await turn();
  assertEquals([unread.asked, unread.ended], [0, 1]);
  await client.close();
});

Deno.test("items - a ReadableStream is cancelled, a generator's finally runs", async () => {
  const { client, server } = await scene();
  const told: string[] = [];
  const readable = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(9)),
    cancel: () => void told.push("cancelled"),
  });
  const generator = (function* () {
    try {
      for (let n = 0;; n++) yield n;
    } finally {
      told.push("finally");
    }
  })();
  const calls = [client.call("UP", {}, { items: readable }), client.call("UP", {}, { items: generator })];
  await server.requests(4);
  await server.reply({ seq: 0, res: 1 }, { seq: 1, res: 1 });
  await Promise.all(calls);
  await turn();
  assertEquals(told, ["cancelled", "finally"]);
  await client.close();
});

Deno.test("items - a call that is never sent ends its source too", async () => {
  const { client } = await scene();
  const source = new Source();
  assertEquals(await failure(client.call("UP", {}, { items: source, timeoutMs: 0 })), "TIMEOUT");
  assertEquals(await failure(client.call("UP", {}, { items: source, signal: AbortSignal.abort() })), "CANCELLED");
  await assertRejects(() => client.call("UP", { at: new Date() }, { items: source }), TypeError, "Date");
  await client.close();
  assertEquals(await failure(client.call("UP", {}, { items: source })), "CLOSED");
  assertEquals(await failure(client.stream("UP", {}, { items: source }).next()), "CLOSED");
  await turn();
  assertEquals([source.asked, source.ended], [0, 5]);
});

Deno.test("items - a call that is refused before any grant is sent again, its first item with it", async () => {
  const { client, clock, server, network } = await scene();
  const source = new Source((index) => ({ index }), 2);
  const call = client.call("UP", {}, { items: source });
  await server.requests(2);
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 10 });
  await clock.advance(20);
  const request = { cmd: "UP", $items: true, seq: 1 };
  assertEquals(await server.requests(2), [request, item({ index: 0 }, 1)]);
  await server.reply({ seq: 1, err: "SHUTTING_DOWN" });
  await clock.advance(1_000);
  const second = await ScriptedServer.accept(network);
  assertEquals(await second.requests(2), [{ ...request, seq: 0 }, item({ index: 0 })]);
  assertEquals(source.asked, 1, "the source was asked once");
  await second.reply({ seq: 0, credit: 2 });
  assertEquals(await second.requests(2), [item({ index: 1 }), END]);
  await second.reply({ seq: 0, res: 2 });
  assertEquals(await call, 2);
  assertEquals(client.statistics().retried, 2);
  await client.close();
});

Deno.test("items - a first item that would not fit with the longer seq of a second attempt is refused at once", async () => {
  const { client, clock, server } = await scene({ maxPayloadBytes: 1_000 });
  const whole = "x".repeat(981); // with a seq of one byte, a payload of 1,000 bytes
  const call = assertRejects(() => client.call("UP", {}, { items: [whole] }), RangeError, "Cannot call UP: items[0]: ");
  assertEquals((await server.requests(2))[1], CANCEL);
  await call;
  const fitting = client.call("UP", {}, { items: ["x".repeat(973)] });
  await server.requests(2);
  await server.reply({ seq: 0, err: "CANCELLED" }, { seq: 1, err: "OVERLOADED", $after: 10 });
  const others = Array.from({ length: 300 }, () => client.call("OTHER"));
  await server.requests(300);
  await clock.advance(20);
  assertEquals((await server.requests(2))[1], item("x".repeat(973), 302));
  await server.reply({ seq: 302, res: 1 }, ...others.map((_, index) => ({ seq: 2 + index, res: index })));
  assertEquals([await fitting, (await Promise.all(others)).length], [1, 300]);
  await client.close();
});

Deno.test("items - the same while its first item, or nothing at all, is there", async () => {
  const { client, clock, server } = await scene();
  const first = Promise.withResolvers<number>();
  const slow = client.call("UP", {}, { items: new Source(() => first.promise, 1) });
  const empty = client.call("UP", {}, { items: [] });
  assertEquals((await server.requests(3))[2], { ...END, seq: 1 });
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 10 }, { seq: 1, err: "OVERLOADED", $after: 20 });
  await turn();
  first.resolve(7); // while it waits to be sent again
  await clock.advance(15);
  assertEquals((await server.requests(2))[1], item(7, 2));
  await clock.advance(15);
  assertEquals((await server.requests(2))[1], { ...END, seq: 3 });
  await server.reply({ seq: 2, credit: 1 });
  assertEquals(await server.request(), { ...END, seq: 2 });
  await server.reply({ seq: 2, res: 1 }, { seq: 3, res: 0 });
  assertEquals([await slow, await empty], [1, 0]);
  await client.close();
});

Deno.test("items - after a grant it is not sent again, and does not say that it may be", async () => {
  const { client, server } = await scene();
  const call = client.call("UP", {}, { items: new Source() });
  await server.requests(2);
  await server.reply({ seq: 0, credit: 1 }, { seq: 0, err: "OVERLOADED" });
  const error = await assertRejects(() => call, RpcError);
  assertEquals([error.code, error.retryable], ["OVERLOADED", false]);
  await client.close();
});

Deno.test("items - a lost connection is not made good", async () => {
  const { client, server } = await scene();
  const call = client.call("UP", {}, { items: [1] });
  await server.requests(2);
  server.cut();
  assertEquals(await failure(call), "CONNECTION_LOST");
  await client.close();
});

Deno.test("items - no timeout unless it is given, but the call is sent within the client's", async () => {
  const { client, clock, server } = await scene({ timeoutMs: 100 });
  const call = client.call("UP", {}, { items: new Source() });
  assertEquals((await server.requests(2))[0], { cmd: "UP", $items: true, seq: 0 });
  await clock.advance(60_000);
  await server.reply({ seq: 0, res: 1 });
  assertEquals(await call, 1);
  const short = client.call("UP", {}, { items: new Source(), timeoutMs: 50 });
  const failed = failure(short);
  assertEquals((await server.requests(2))[0], { cmd: "UP", $items: true, seq: 1, ttl: 50 });
  await clock.advance(60);
  assertEquals(await failed, "TIMEOUT");
  await client.close();
  const down = await connect({ dial: () => NEVER, clock, lazy: true, timeoutMs: 100 });
  const unsent = failure(down.call("UP", {}, { items: new Source() }));
  await clock.advance(110);
  assertEquals(await unsent, "TIMEOUT");
  await down.close();
});

Deno.test("items - grants for what has no items, or has ended, are ignored", async () => {
  const { client, server } = await scene();
  const call = client.call("A");
  await server.request();
  await server.reply({ seq: 0, credit: 5 }, { seq: 7, credit: 5 }, { seq: 0, res: 1 }, { seq: 0, credit: 5 });
  assertEquals(await call, 1);
  assertEquals(await client.call("UP", {}, { items: [], timeoutMs: 0 }).catch(({ code }) => code), "TIMEOUT");
  await client.close();
});

// Behind a middleware -----------------------------------------------------------------------------------------------

Deno.test("items - a middleware passes them on as they are", async () => {
  const { client, server } = await scene({ middleware: [(_call, next) => next({ meta: { token: "t" } })] });
  const source = new Source((index) => index, 1);
  const call = client.call("UP", {}, { items: source });
  const request = { cmd: "UP", $items: true, meta: { token: "t" } };
  assertEquals(await server.requests(2), [{ ...request, seq: 0 }, item(0)]);
  await server.reply({ seq: 0, credit: 1 });
  assertEquals(await server.request(), END);
  await server.reply({ seq: 0, res: 1 });
  assertEquals(await call, 1);
  const stream = client.stream("UP", {}, { items: source, credit: 1 });
  const first = stream.next();
  assertEquals((await server.requests(2))[0], { ...request, credit: 1, seq: 1 });
  await server.reply({ seq: 1, res: 1, more: true });
  await first;
  await stream.return(undefined);
  await client.close();
});

Deno.test("items - a middleware that answers itself, throws or takes too long ends the source", async () => {
  const passed = Promise.withResolvers<() => Promise<unknown>>();
  const kept = (next: () => Promise<unknown>) => {
    passed.resolve(next);
    return NEVER;
  };
  const own: Record<string, NonNullable<ConnectOptions["middleware"]>[number]> = {
    answers: () => ({ res: "mine" }),
    throws: () => Promise.reject(new RpcError("NO_SUCH_PLACE")),
    waits: (_call, next) => kept(next),
  };
  for (const [how, middleware] of Object.entries(own)) {
    const { client, clock } = await scene({ middleware: [middleware] });
    const source = new Source();
    const call = client.call("UP", {}, { items: source, timeoutMs: 100 }).catch(({ code }) => code);
    await clock.advance(110);
    assertEquals(await call, { answers: "mine", throws: "NO_SUCH_PLACE", waits: "TIMEOUT" }[how]);
    await turn();
    assertEquals([source.asked, source.ended], [0, 1], how);
    if (how === "waits") {
      assertEquals(await failure((await passed.promise)()), "CANCELLED");
      await turn();
      assertEquals(source.ended, 1, "once, though it passes the call on later");
    } else {
      const read = new Source();
      await client.stream("UP", {}, { items: read }).next().catch(() => {});
      await turn();
      assertEquals([read.asked, read.ended], [0, 1], how);
    }
    const unread = new Source();
    await client.stream("UP", {}, { items: unread }).return(undefined);
    const unsendable = new Source();
    await assertRejects(() => client.call("UP", { at: new Date() }, { items: unsendable }), TypeError);
    assertThrows(() => client.stream("UP", { at: new Date() }, { items: unsendable }), TypeError);
    await turn();
    assertEquals([unread.ended, unsendable.ended], [1, 2], how);
    await client.close();
  }
});
