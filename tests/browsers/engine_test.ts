/** The engine of the client for browsers, in memory, against a server that follows a script, with a clock that stands still. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, RpcError, type WebConnectOptions } from "../../client/web.ts";
import type { Fields } from "../../codec/message.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

/** A PING of the client's own: each has a `seq` of its own, above those of calls. */
function assertPing({ cmd, seq }: { cmd?: unknown; seq?: unknown }, last = Number.MAX_SAFE_INTEGER): number {
  assertEquals(cmd, 1);
  assert((seq as number) < last && (seq as number) > 2 ** 52, `${seq}`);
  return seq as number;
}

async function scene(options: Partial<WebConnectOptions> = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const states: string[] = [];
  let dials = 0;
  const down = { dials: 0 };
  const dial = () => (dials++, down.dials-- > 0 ? Promise.reject(new Error("down")) : network.dial());
  const onState = (state: string) => void states.push(state);
  const client: Client = await connect({ url: "ws://a", dial, clock, random: () => 1, onState, ...options });
  const server = await ScriptedServer.accept(network, { answersPings: false });
  /** The next connection, after the longest wait. */
  const next = async (waitMs = 500) => {
    const accepted = ScriptedServer.accept(network, { answersPings: false });
    await clock.advance(waitMs);
    return await accepted;
  };
  return { client, clock, server, next, down, states, dials: () => dials };
}

async function failure(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}

Deno.test("browser engine - says its settings first, then calls with the time that is left", async () => {
  const { client, clock, server } = await scene({ commands: { NUMBERED: { number: 20 } } as never });
  const call = client.call("NUMBERED", { a: 1 }, { timeoutMs: 100.5, meta: { token: "t" } });
  assertEquals(await server.message(), { cmd: 0, max: 1_048_576, alive: 30_000, notice: true });
  assertEquals(await server.request(), { a: 1, cmd: 20, meta: { token: "t" }, seq: 0, ttl: 101 });
  await server.reply({ seq: 0, res: [1n, "x"] });
  assertEquals(await call, [1, "x"]);
  const late = failure(client.call("A", {}, { timeoutMs: 50 }));
  await server.request();
  await clock.advance(50);
  assertEquals((await late).code, "TIMEOUT");
  assertEquals(await server.request(), { cmd: 0, seq: 1, cancel: true });
  await server.reply({ seq: 1, res: "late" });
  await turn();
  assertEquals(client.statistics().lateReplies, 1);
  await client.close();
  assertEquals(await server.rest(), []);
});

Deno.test("browser engine - what a page computes behind a call, in the same turn, is no time of the call", async () => {
  const { client, clock, server } = await scene();
  const call = client.call("A", {}, { timeoutMs: 100 });
  clock.leap(1_000);
  await server.message(); // the settings
  assertEquals((await server.request()).ttl, 100);
  await server.reply({ seq: 0, res: 1 });
  assertEquals(await call, 1);
  await client.close();
  await server.rest();
});

Deno.test("browser engine - a call whose signal is none is refused, and is not counted", async () => {
  const { client } = await scene();
  const signal = new AbortController() as unknown as AbortSignal; // the controller in place of its signal
  await assertRejects(() => client.call("A", {}, { signal }), TypeError, "addEventListener");
  await assertRejects(async () => await client.stream("A", {}, { signal }).next(), TypeError, "addEventListener");
  const { begun, inFlight } = client.statistics();
  assertEquals([begun, inFlight], [0, 0]);
  await client.close();
});

Deno.test("browser engine - a lost call rejects; one that is idempotent is sent again, on a new connection", async () => {
  const { client, server, next, states } = await scene();
  const lost = failure(client.call("A"));
  const kept = client.call("B", {}, { idempotent: true });
  await server.requests(2);
  server.cut();
  assertEquals([(await lost).code, (await lost).retryable], ["CONNECTION_LOST", false]);
  const second = await next();
  assertEquals((await second.request()).cmd, "B");
  await second.reply({ seq: 0, res: 1 });
  assertEquals(await kept, 1);
  assertEquals(states, ["connecting", "open", "idle", "waiting", "connecting", "open"]);
  await client.close();
  await second.rest();
});

Deno.test("browser engine - a call that was lost once is not retryable any more, whoever refuses it then", async () => {
  for (const isAsked of [true, false]) {
    const { client, server, next } = await scene({ retryBudget: { perCall: 0, perSecond: 0.1 } }); // one retry
    const call = failure(client.call("A", {}, { idempotent: true }));
    await server.request();
    server.cut();
    const second = await next();
    const { seq } = await second.request();
    await second.reply({ ...(isAsked ? { seq } : {}), err: "OVERLOADED", msg: "no room" });
    assertEquals([(await call).code, (await call).retryable], ["OVERLOADED", false]);
    await client.close();
    await second.rest();
  }
});

Deno.test("browser engine - a call that waits after a loss is not retryable when its client ends", async () => {
  const { client, server } = await scene();
  const stream = client.stream("A", {}, { idempotent: true });
  const calls = [failure(client.call("A", {}, { idempotent: true })), failure(stream.next())];
  await server.requests(2);
  server.cut();
  await turn();
  const fresh = failure(client.call("A"));
  await client.close();
  const ends = (await Promise.all([...calls, fresh])).map(({ code, retryable }) => [code, retryable]);
  assertEquals(ends, [["CLOSED", false], ["CLOSED", false], ["CLOSED", true]]);
});

Deno.test("browser engine - a request that gets too large when it is sent fails alone, and its connection goes on", async () => {
  const { client, server, next } = await scene({ maxPayloadBytes: 1_000 });
  const tooLarge = (call: () => Promise<unknown>) => assertRejects(call, RangeError, "the limit is 1000");
  const other = client.call("OTHER", {}, { idempotent: true });
  const items = new Set([1]).values();
  const calls = [
    tooLarge(() => client.call("A", { text: "x".repeat(975) })), // 990 bytes, without `seq` and `ttl`
    tooLarge(() => client.call("A", { text: "x".repeat(975) }, { items })), // 998 bytes, without `seq`
  ];
  const stream = client.stream("NEWS", { text: "x".repeat(800) });
  const first = stream.next();
  assertEquals((await server.requests(2)).map(({ cmd }) => cmd), ["OTHER", "NEWS"]);
  await Promise.all(calls);
  const { inFlight, failed } = client.statistics();
  assertEquals([inFlight, failed], [2, { OTHER: 2 }]);
  await server.reply({ seq: 3, res: 1, more: true, $id: "y".repeat(200) });
  assertEquals((await first).value, 1);
  const rest = tooLarge(() => stream.next());
  server.cut();
  const second = await next();
  assertEquals((await second.request()).cmd, "OTHER");
  await rest;
  await second.reply({ seq: 0, res: 2 });
  assertEquals(await other, 2);
  await client.close();
  await second.rest();
});

Deno.test("browser engine - a ReadableStream is a source also where it is not iterable: in Safari, and Chrome before 124", async () => {
  const { client, server } = await scene();
  const { prototype } = ReadableStream;
  const iterator = Object.getOwnPropertyDescriptor(prototype, Symbol.asyncIterator)!;
  Reflect.deleteProperty(prototype, Symbol.asyncIterator);
  try {
    const call = client.call("UP", {}, { items: new Blob(["ab"]).stream() });
    const request = { cmd: "UP", $items: true, seq: 0 };
    assertEquals(await server.requests(2), [request, { cmd: 0, seq: 0, item: new Uint8Array([97, 98]) }]);
    await server.reply({ seq: 0, credit: 1 });
    assertEquals(await server.request(), { cmd: 0, seq: 0, end: true });
    await server.reply({ seq: 0, res: 2 });
    assertEquals(await call, 2);
  } finally {
    Object.defineProperty(prototype, Symbol.asyncIterator, iterator);
  }
  await client.close();
  await server.rest();
});

Deno.test("browser engine - a tracked stream goes on behind its last item after a loss", async () => {
  const { client, server, next } = await scene();
  const stream = client.stream("NEWS", { topic: "a" });
  const first = stream.next();
  assertEquals((await server.request()).credit, 4);
  await server.reply({ seq: 0, res: "one", more: true, $id: 7 });
  assertEquals((await first).value, "one");
  server.cut();
  const waiting = stream.next();
  const second = await next();
  const { topic, after, cmd } = await second.request();
  assertEquals([topic, after, cmd], ["a", 7, "NEWS"]);
  await second.reply({ seq: 0, res: "two", more: true, $id: 8 }, { seq: 0, res: null });
  assertEquals([(await waiting).value, (await stream.next()).done], ["two", true]);
  await client.close();
  await second.rest();
});

Deno.test("browser engine - refused unstarted, it tries again when the server says; SHUTTING_DOWN elsewhere", async () => {
  const { client, clock, server, next } = await scene();
  const call = client.call("A");
  await server.request();
  await server.reply({ seq: 0, err: "OVERLOADED", $after: 200 });
  await turn();
  assertEquals(server.waiting, 0);
  await clock.advance(300);
  assertEquals((await server.request()).seq, 1);
  await server.reply({ seq: 1, err: "SHUTTING_DOWN" });
  const second = await next();
  assertEquals((await second.request()).cmd, "A");
  await second.reply({ seq: 0, res: 1 });
  assertEquals(await call, 1);
  assertEquals(client.servers[0].refused, 2);
  await client.close();
});

Deno.test("browser engine - a stream and an upload that are refused again and again end within the client's timeout", async () => {
  const { client, clock, server } = await scene({ timeoutMs: 1_000, random: () => 0 });
  const calls = [failure(client.stream("A").next()), failure(client.call("UP", {}, { items: [] }))];
  for (let refusals = 0; refusals < 3; refusals++) {
    const [stream, upload] = await server.requests(3); // the end of the upload is the third
    assertEquals([stream.cmd, upload.cmd, client.statistics().inFlight], ["A", "UP", 2]);
    await clock.advance(100); // also the server's time counts
    await server.reply(...[stream, upload].map(({ seq }) => ({ seq, err: "OVERLOADED", $after: 300 })));
    await clock.advance(300);
  }
  assertEquals(client.statistics().failed, { OVERLOADED: 2 }, "100 ms were left, and the server wanted 300");
  for (const { retryable } of await Promise.all(calls)) assertEquals(retryable, true);
  await client.close();
});

Deno.test("browser engine - a stream has no limit once it is sent, nor takes the server's limit for its own", async () => {
  const { client, clock, server } = await scene({ timeoutMs: 1_000, aliveMs: 0 });
  const item = client.stream("A").next();
  await server.request();
  await clock.advance(10_000);
  await server.reply({ seq: 0, err: "DEADLINE_EXCEEDED" });
  assertEquals((await failure(item)).code, "DEADLINE_EXCEEDED");
  await client.close();
});

Deno.test("browser engine - an array whose last index is far is refused as too large, as a parameter and as an item", async () => {
  const { client, server } = await scene({ maxPayloadBytes: 1_000 });
  const far: unknown[] = [];
  far[2 ** 31] = 1;
  const text = "the payload is far above the limit, which is";
  await assertRejects(() => client.call("A", { far }), RangeError, `Cannot call A: ${text} 1000`);
  const call = client.call("A", {}, { items: [far] });
  const ended = assertRejects(() => call, RangeError, `${text} 976`); // less the other fields
  await server.reply({ seq: (await server.request()).seq, credit: 1 });
  await ended;
  await client.close();
});

Deno.test("browser engine - an item that aborts its call, and then cannot be sent, ends that call once and no other", async () => {
  const { client, clock, server } = await scene();
  const stop = new AbortController();
  const bad = {
    get value(): never {
      stop.abort();
      clock.compute(20); // an item may be large
      throw new Error("mine");
    },
  };
  const call = failure(client.call("UP", {}, { items: [bad], signal: stop.signal }));
  const other = client.call("A");
  await server.requests(2);
  assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
  assertEquals((await call).code, "CANCELLED");
  await server.reply({ seq: 0, err: "CANCELLED" }, { seq: 1, res: 1 });
  assertEquals(await other, 1);
  await client.close();
  assertEquals(await server.rest(), [], "one cancel is enough");
});

Deno.test("browser engine - the items of a call whose signal is none are told to end", async () => {
  const { client } = await scene();
  let returns = 0;
  const items = {
    [Symbol.asyncIterator]: () => items,
    next: () => Promise.resolve({ done: false, value: 1 }),
    return: () => Promise.resolve({ done: true, value: returns++ }),
  };
  const signal = new AbortController() as unknown as AbortSignal; // the controller in place of its signal
  await assertRejects(() => client.call("UP", {}, { items, signal }), TypeError, "addEventListener");
  await turn();
  assertEquals(returns, 1);
  await client.close();
});

Deno.test("browser engine - a server that is going answers what it has; new calls go to the next connection", async () => {
  const { client, server, next } = await scene();
  const old = client.call("OLD");
  await server.request();
  await server.reply({ going: 10_000 });
  await turn();
  const fresh = client.call("NEW");
  const second = await next(1_000);
  assertEquals((await second.request()).cmd, "NEW");
  await second.reply({ seq: 0, res: "new" });
  await server.reply({ seq: 0, res: "old" });
  assertEquals([await old, await fresh], ["old", "new"]);
  assertEquals(await server.rest(), [], "the old connection ends when its calls are answered");
  await client.close();
});

Deno.test("browser engine - a connection that is going ends when its last call is given up, though no answer comes", async () => {
  const { client, clock, server } = await scene({ aliveMs: 0 });
  const slow = failure(client.call("SLOW", {}, { timeoutMs: 5_000 }));
  await server.request();
  await server.reply({ going: 60_000 });
  await clock.advance(5_000);
  assertEquals((await slow).code, "TIMEOUT");
  assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
  await server.reply({ seq: 99, res: "a sign of life, and the last one" });
  await clock.advance(10_000);
  assertEquals(await Promise.race([server.rest(), turn().then(() => "open")]), []);
  await client.close();
});

Deno.test("browser engine - after each restart the waits between dials begin anew, however many have failed before", async () => {
  const scened = await scene();
  const { client, down, next } = scened;
  let { server } = scened;
  for (let restarts = 0; restarts < 3; restarts++) {
    const answered = client.call("A");
    await server.reply({ seq: (await server.request()).seq, res: 1 });
    await answered;
    await server.reply({ going: 10_000 });
    await turn();
    down.dials = 3;
    const call = client.call("B");
    server = await next(1_000 + 50 + 100 + 200);
    assertEquals((await server.request()).cmd, "B");
    await server.reply({ seq: 0, res: 2 });
    assertEquals(await call, 2);
  }
  await client.close();
});

Deno.test("browser engine - while a call is open it says PING; a server that says nothing is lost, an idle one is left alone", async () => {
  const { client, clock, server } = await scene({ aliveMs: 4_000 });
  await clock.advance(60_000);
  assertEquals(await server.message(), { cmd: 0, max: 1_048_576, alive: 4_000, notice: true });
  assertEquals(server.waiting, 0);
  const call = failure(client.call("A", {}, { timeoutMs: Infinity }));
  await server.request();
  for (let beat = 0, seq: number | undefined; beat < 5; beat++) {
    await clock.advance(1_000);
    seq = assertPing(await server.request(), seq);
    await server.reply({ seq, res: "PONG" });
    await turn();
  }
  await clock.advance(3_000);
  assertEquals((await call).message, "CONNECTION_LOST: the connection to ws://a is lost: it does not answer");
  await client.close();
});

Deno.test("browser engine - no timer is set by a chain of others, which a hidden page runs once a minute", async () => {
  const clock = new FakeClock();
  const setTimer = clock.setTimer.bind(clock);
  /** How many timers in a row have set the next one. */
  let depth = 0;
  let deepest = 0;
  clock.setTimer = (callback, delayMs, keepAlive) => {
    const own = depth + 1;
    deepest = Math.max(deepest, own);
    return setTimer(
      () => {
        depth = own;
        callback();
        depth = 0;
      },
      delayMs,
      keepAlive,
    );
  };
  const { client, server } = await scene({ aliveMs: 4_000, clock });
  const call = client.call("A", {}, { timeoutMs: Infinity });
  await server.request();
  for (let beat = 0; beat < 10; beat++) {
    await clock.advance(1_000);
    await server.reply({ seq: assertPing(await server.request()), res: "PONG" });
    await turn();
  }
  await server.reply({ seq: 0, res: 1 });
  assertEquals([await call, deepest], [1, 2]); // a check, and the next one in case that no answer comes
  await client.close();
});

Deno.test("browser engine - only a number of items is a grant", async () => {
  const { client, server } = await scene();
  for (const odd of ["5", true, null, [1], {}, 0, -3, 0.5, Infinity, NaN, 2 ** 60]) {
    let made = 0;
    const items = function* () {
      while (true) yield made++;
    };
    const call = client.call("TAKE", {}, { items: items() });
    const { seq } = await server.request();
    assertEquals((await server.request()).item, 0);
    await server.reply({ seq, credit: odd }, { seq, credit: 1 });
    assertEquals((await server.request()).item, 1);
    await turn();
    assertEquals([server.waiting, made], [0, 2]);
    await server.reply({ seq, res: null });
    await call;
  }
  await client.close();
});

Deno.test("browser engine - what breaks the protocol ends the connection", async () => {
  const frame = (payload: number[]) => new Uint8Array([32, 32 + payload.length, ...payload, 0x0a]);
  for (
    const bytes of [
      new Uint8Array([0xff, 0xff]),
      frame([0xc1]),
      frame([0x91, 1]),
      frame([0x80]),
      frame([0x81, 0xa3, 0x72, 0x65, 0x73, 1]),
    ]
  ) {
    const { client, server } = await scene();
    const call = failure(client.call("A"));
    await server.request();
    await server.send(bytes);
    assertEquals((await call).code, "BAD_REPLY", bytes.toHex());
    await client.close();
  }
});

Deno.test("browser engine - going with a seq is a notice of a later version, as for the other client", async () => {
  const { client, server, states } = await scene();
  const calls = [client.call("A"), client.call("B")];
  await server.request();
  await server.request();
  await server.reply({ seq: 0, going: 5_000 }, { seq: 0, res: 1 }, { seq: 1, res: 2 });
  assertEquals(await Promise.all(calls), [1, 2]);
  await turn();
  assertEquals([client.state, states], ["open", ["connecting", "open"]]);
  const next = client.call("C");
  assertEquals((await server.request()).cmd, "C"); // on the same connection
  await server.reply({ seq: 2, res: 3 });
  assertEquals(await next, 3);
  await client.close();
});

Deno.test("browser engine - an error with more, and an item without res, end their stream", async () => {
  const { client, server } = await scene();
  await server.message();
  const streams = ["A", "B"].map((name) => client.stream(name, {}, { credit: 4 }));
  const first = streams.map((stream) => stream.next());
  await server.request();
  await server.request();
  for (const seq of [0, 1]) await server.reply({ seq, res: null, more: true });
  assertEquals(await Promise.all(first), [{ done: false, value: null }, { done: false, value: null }]);
  await server.reply({ seq: 0, err: "NO", more: true }, { seq: 1, more: true });
  assertEquals((await failure(streams[0].next())).message, "NO");
  assertEquals((await failure(streams[1].next())).message, "BAD_REPLY: a reply without res");
  await client.close();
  assertEquals(await server.rest(), [{ cmd: 0, seq: 1, cancel: true }]); // the other one is over
});

Deno.test("browser engine - close ends what is open and what waits, and tells the server", async () => {
  const { client, server, states } = await scene({ maxInFlight: 1 });
  const [open, waits] = [failure(client.call("A")), failure(client.call("B"))];
  await server.request();
  await client.close();
  assertEquals([(await open).code, (await waits).code, (await waits).retryable], ["CLOSED", "CLOSED", true]);
  assertEquals(await server.rest(), [{ cmd: 0, seq: 0, cancel: true }]);
  assertEquals((await failure(client.call("C"))).code, "CLOSED");
  assertEquals(states.at(-1), "closed");
});

Deno.test("browser engine - when the network is back it dials at once, and an open connection must answer soon", async () => {
  const { client, clock, server, next, dials } = await scene();
  server.cut();
  await turn();
  const first = client.call("A");
  await turn();
  assertEquals([client.state, dials()], ["waiting", 1]);
  const accepted = next(0);
  dispatchEvent(new Event("online"));
  const second = await accepted;
  assertEquals([(await second.request()).cmd, dials()], ["A", 2]);
  await second.reply({ seq: 0, res: 1 });
  assertEquals(await first, 1);

  const call = failure(client.call("B"));
  await second.request();
  dispatchEvent(new Event("online"));
  assertPing(await second.request());
  await clock.advance(3_000);
  assertEquals((await call).code, "CONNECTION_LOST");
  await client.close();
});

Deno.test("browser engine - 10 s after a cancel, bytes of a message that never ends are silence, a large part of one is not", async () => {
  for (const [partBytes, aliveMs] of [[1, 4_000], [1, 0], [1_024, 4_000]]) {
    const { client, clock, server } = await scene({ aliveMs });
    const open = failure(client.call("A", {}, { timeoutMs: Infinity }));
    const late = failure(client.call("B", {}, { timeoutMs: 1_000 }));
    await server.send(Uint8Array.of(0x1f, 0x1f, 0, 0x10, 0, 0)); // the head of a frame of 1 MiB
    for (let drops = 0; drops < 22; drops++) {
      await server.send(new Uint8Array(partBytes));
      await clock.advance(500);
    }
    assertEquals((await late).code, "TIMEOUT");
    if (partBytes === 1) {
      assertEquals((await open).message, "CONNECTION_LOST: the connection to ws://a is lost: it does not answer");
    } else {
      assertEquals(client.state, "open");
      server.cut();
      assertEquals((await open).code, "CONNECTION_LOST");
    }
    await client.close();
  }
});

Deno.test("browser engine - the signal of a dial ends with the dial", async () => {
  const network = memoryNetwork();
  const signals: AbortSignal[] = [];
  const dial = (signal: AbortSignal) => (signals.push(signal), network.dial());
  const clock = new FakeClock();
  const client: Client = await connect({ url: "ws://a", dial, clock, maxInFlight: 1 });
  const server = await ScriptedServer.accept(network, { answersPings: false });
  const calls = [client.call("A"), client.call("B")];
  assertEquals((await server.request()).cmd, "A");
  dispatchEvent(new Event("online")); // while a call waits
  await server.reply({ seq: 0, res: 1 });
  assertPing(await server.request());
  assertEquals((await server.request()).cmd, "B");
  await server.reply({ seq: 2, res: 2 });
  assertEquals(await Promise.all(calls), [1, 2]);
  await client.close();
  assertEquals(signals.map(({ aborted }) => aborted), [false]);
});

Deno.test("browser engine - waitForReady: false rejects while no server can be reached", async () => {
  const fields: Fields = { url: "ws://a", lazy: true, dial: () => Promise.reject(new Error("no network")) };
  const clock = new FakeClock();
  await using client: Client = await connect({ ...fields, clock, random: () => 1 } as unknown as WebConnectOptions);
  const { code, message, retryable } = await failure(client.call("A", {}, { waitForReady: false }));
  assertEquals([code, retryable], ["CONNECTION_LOST", true]);
  assertEquals(message.includes("cannot reach ws://a: no network"), true, message);
});

Deno.test("browser engine - an address that is no WebSocket's is refused", async () => {
  await assertRejects(() => connect({ url: "https://app.example/rpc" }), TypeError, "it must begin with wss://");
});

/** A transport of a page's own that connects to nobody. */
const OWN = {
  read: () => new Promise<never>(() => {}),
  write: (bytes: Uint8Array) => Promise.resolve(bytes.length),
  closeWrite: () => Promise.resolve(),
  close() {},
};

for (const wrong of [0, undefined, NaN, -1]) {
  for (const method of ["read", "write"]) {
    Deno.test(`browser engine - a ${method}() of a page's own that gives ${wrong} ends its connection`, async () => {
      let count = 0;
      // For ever would stop the test.
      const gives = () => count++ < 100 ? Promise.resolve(wrong) : new Promise(() => {});
      const dial = () => Promise.resolve({ ...OWN, [method]: gives });
      const options = { clock: new FakeClock(), random: () => 1, waitForReady: false, lazy: true };
      const client: Client = await connect({ url: "ws://a", dial, ...options });
      const error = await failure(client.call("A"));
      assertEquals([error.code, count], ["CONNECTION_LOST", 1], error.message);
      await client.close();
    });
  }
}

Deno.test("browser engine - a close() of a page's own that throws or rejects matters to nobody", async () => {
  for (const close of [() => Promise.reject(new Error("mine")), () => assert(false)]) {
    const client: Client = await connect({ url: "ws://a", dial: () => Promise.resolve({ ...OWN, close }) });
    const call = failure(client.call("A"));
    await client.close();
    assertEquals((await call).code, "CLOSED");
    await turn();
  }
});
