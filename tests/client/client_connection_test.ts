/** How the client gets its connection, loses it and gets it again. Time stands still unless it is told to go on. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { memoryPair } from "../../transport/memory.ts";
import type { Transport } from "../../transport/transport.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

async function failure(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}

/** A client, the server's end of its first connection, and a switch for those after it. */
async function setUp(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const states: string[] = [];
  const dialedMs: number[] = [];
  const line = { down: false };
  const client: Client = await connect({
    clock,
    random: () => 1,
    onState: (state) => states.push(state),
    dial: () => {
      dialedMs.push(clock.now());
      return line.down ? Promise.reject(new Error("the line is down")) : network.dial();
    },
    ...options,
  });
  const server = await ScriptedServer.accept(network);
  return { client, server, network, clock, states, dialedMs, line };
}

Deno.test("connect() - a server that is not there is one clear error", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const error = await failure(connect({ port }));
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
  assertEquals(
    error.message,
    `CONNECTION_LOST: cannot reach 127.0.0.1:${port}: connection refused; is the server running?`,
  );
  assert(error.cause instanceof Deno.errors.ConnectionRefused);
});

Deno.test({
  name: "connect() - a missing permission passes through",
  permissions: { net: false },
  async fn() {
    await assertRejects(() => connect(), Deno.errors.NotCapable);
  },
});

Deno.test("connect() - options that are none are refused by name", async () => {
  await assertRejects(() => connect({ timeoutMs: -1 }), RangeError, "timeout");
  await assertRejects(() => connect({ timeoutMs: NaN }), RangeError, "timeout");
  // deno-lint-ignore no-explicit-any -- whoever has no types is met with a clear error too
  await assertRejects(() => connect({ timeoutMs: "5" as any }), RangeError, 'Cannot use "5" as timeout');
  await assertRejects(() => connect({ maxInFlight: 0 }), RangeError, "maxInFlight");
  await assertRejects(() => connect({ maxPayloadBytes: 2 ** 40 }), RangeError, "maxPayloadBytes");
});

Deno.test("connect() - a dial without end is given up, and told so", async () => {
  const clock = new FakeClock();
  let signal: AbortSignal | undefined;
  const late = Promise.withResolvers<Transport>();
  const connecting = failure(connect({
    clock,
    dial: (wanted) => {
      signal = wanted;
      return late.promise;
    },
  }));
  await clock.advance(10_000);
  assertEquals((await connecting).message, "CONNECTION_LOST: cannot reach the server: no answer within 10000 ms");
  assertEquals(signal?.aborted, true);
  let closed = false;
  late.resolve(
    {
      ...memoryPair()[0],
      read: () => new Promise(() => {}),
      write: () => new Promise(() => {}),
      close: () => closed = true,
    } as Transport,
  );
  await turn();
  assertEquals([closed, clock.timers], [true, 0]);
});

Deno.test("connect() - a dial that throws, and makes no promise, is one that failed", async () => {
  const error = await failure(connect({
    dial() {
      throw new Error("at once");
    },
  }));
  // What the close of such a client leaves behind without a catcher would end the process here.
  await turn();
  assertEquals([error.code, error.message], ["CONNECTION_LOST", "CONNECTION_LOST: cannot reach the server: at once"]);
});

Deno.test("client - the states of a life", async () => {
  const { client, server, network, clock, states, line } = await setUp();
  line.down = true;
  server.cut();
  await turn();
  const call = client.reply("A");
  await clock.advance(40);
  line.down = false;
  await clock.advance(60);
  await using second = await ScriptedServer.accept(network);
  await second.request();
  await second.reply({ seq: 0, res: 1 });
  await call;
  await client.close();
  await turn();
  // Nothing had been answered on the first connection, so the client waits before it dials again.
  assertEquals(states, ["connecting", "open", "idle", "waiting", "connecting", "open", "closed"]);
});

Deno.test("client - a lost connection is made again when a call needs it, not before", async () => {
  const { client, server, network, clock, dialedMs } = await setUp();
  const first = client.reply("A");
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  await first;
  server.cut();
  await clock.advance(60_000);
  assertEquals([dialedMs.length, client.state], [1, "idle"]);
  const call = client.reply("B");
  await using second = await ScriptedServer.accept(network);
  await second.request();
  await second.reply({ seq: 0, res: 2 });
  assertEquals((await call).res, 2);
  await client.close();
});

Deno.test("client - dials back off, up to 2 s, and start afresh after an answer", async () => {
  const { client, server, network, clock, dialedMs, line } = await setUp({ timeoutMs: Infinity });
  const first = client.reply("A");
  await server.request();
  await server.reply({ seq: 0, res: 1 });
  await first;
  line.down = true;
  server.cut();
  await turn();
  const startMs = clock.now();
  dialedMs.length = 0;
  const call = client.reply("B");
  await clock.advance(25_000);
  const waits = dialedMs.map((atMs, index) => atMs - (dialedMs[index - 1] ?? startMs));
  // The first wait is that after a loss.
  assertEquals(waits, [500, 50, 100, 200, 400, 800, 1600, ...Array(10).fill(2000)]);
  line.down = false;
  await clock.advance(5_000);
  await using second = await ScriptedServer.accept(network);
  await second.request();
  await second.reply({ seq: 0, res: 2 });
  await call;
  dialedMs.length = 0;
  second.cut();
  await turn();
  const next = client.reply("C");
  await clock.advance(500);
  await using third = await ScriptedServer.accept(network);
  await third.request();
  assertEquals(dialedMs, [clock.now()]);
  await third.reply({ seq: 0, res: 3 });
  await next;
  await client.close();
});

Deno.test("client - the jitter is full", async () => {
  const { client, server, clock, dialedMs, line } = await setUp({ timeoutMs: Infinity, random: () => 0.5 });
  line.down = true;
  server.cut();
  await turn();
  const call = failure(client.reply("A"));
  await clock.advance(800);
  assertEquals(dialedMs.slice(1).map((atMs) => atMs - dialedMs[1]), [0, 50, 150, 350, 750]);
  await client.close();
  assertEquals((await call).code, "CLOSED");
});

Deno.test("client - a call waits for a connection within its time, and is told why in vain", async () => {
  const { client, server, clock, line } = await setUp();
  line.down = true;
  server.cut();
  await turn();
  const call = failure(client.reply("A", {}, { timeoutMs: 300 }));
  await clock.advance(400);
  const error = await call;
  assertEquals([error.code, error.retryable], ["TIMEOUT", true]);
  assertEquals(
    error.message,
    "TIMEOUT: no reply within 300 ms, and the call was not sent: CONNECTION_LOST: cannot reach the server: the line is down",
  );
  await clock.advance(60_000);
  assertEquals([client.state, clock.timers], ["idle", 0]);
  await client.close();
});

Deno.test("client - an outage leaves nothing behind", async () => {
  const { client, server, clock, line, dialedMs } = await setUp();
  line.down = true;
  server.cut();
  await turn();
  let rejected = 0;
  for (let round = 0; round < 100; round++) {
    for (let index = 0; index < 1_000; index++) client.reply("A", {}, { timeoutMs: 50 }).catch(() => rejected++);
    await clock.advance(50);
  }
  await clock.advance(20_000);
  assertEquals(rejected, 100_000);
  assertEquals([client.state, clock.timers], ["idle", 0]);
  assert(dialedMs.length < 20, `${dialedMs.length} dials`);
  await client.close();
});

Deno.test("client - what was sent is sent again only if it is idempotent", async () => {
  const { client, server, network, clock } = await setUp();
  const careful = failure(client.reply("A", { value: 1 }));
  const idempotent = client.reply("B", { value: 2 }, { idempotent: true, timeoutMs: 1_000 });
  await server.requests(2);
  server.cut();
  assertEquals((await careful).code, "CONNECTION_LOST");
  const accepted = ScriptedServer.accept(network);
  await clock.advance(100);
  await using second = await accepted;
  assertEquals(await second.request(), { value: 2, cmd: "B", seq: 0, ttl: 950 });
  second.cut();
  await clock.advance(100);
  await using third = await ScriptedServer.accept(network);
  assertEquals((await third.request()).cmd, "B");
  await third.reply({ seq: 0, res: "B" });
  assertEquals((await idempotent).res, "B");
  await client.close();
});

Deno.test("client - a call that was lost may have been started, whatever the next server says of it", async () => {
  const { client, server, network, clock, line } = await setUp();
  const overloaded = failure(client.reply("A", {}, { idempotent: true }));
  const refused = failure(client.reply("B", {}, { idempotent: true, timeoutMs: 1_000 }));
  await server.requests(2);
  server.cut();
  await clock.advance(100);
  await using second = await ScriptedServer.accept(network);
  const [{ seq: first }, { seq: next }] = await second.requests(2);
  line.down = true;
  // It may come back after the call's time only, so the caller gets the error at once.
  await second.reply({ seq: first, err: "OVERLOADED", $after: 60_000 }, { seq: next, err: "SHUTTING_DOWN" });
  const { code, retryable } = await overloaded;
  assertEquals([code, retryable], ["OVERLOADED", false]);
  await clock.advance(1_000);
  const timedOut = await refused;
  assertEquals([timedOut.code, timedOut.retryable], ["TIMEOUT", false]);
  await client.close();
});

Deno.test("client - an idempotent call that never gets through ends with its time", async () => {
  const { client, server, clock, line } = await setUp();
  const call = failure(client.reply("A", {}, { idempotent: true, timeoutMs: 1_000 }));
  await server.request();
  line.down = true;
  server.cut();
  await clock.advance(1_010);
  const error = await call;
  assertEquals([error.code, error.retryable], ["TIMEOUT", false]);
  assertEquals(
    error.message,
    "TIMEOUT: no reply within 1000 ms: lost with its connection, and not sent again: CONNECTION_LOST: cannot reach the server: the line is down",
  );
  await client.close();
});

Deno.test("client - a server that shuts down: the refused call moves on, the others are answered", async () => {
  const { client, server, network, clock } = await setUp();
  const quick = client.reply("QUICK");
  const slow = client.reply("SLOW");
  await server.requests(2);
  await server.reply({ seq: 0, res: "quick" });
  await quick;
  const refused = client.reply("NEXT");
  await server.request();
  await server.reply({ seq: 2, err: "SHUTTING_DOWN" });
  await clock.advance(500);
  await using second = await ScriptedServer.accept(network);
  assertEquals((await second.request()).cmd, "NEXT");
  await second.reply({ seq: 0, res: "moved" });
  assertEquals((await refused).res, "moved");
  const more = client.reply("MORE");
  assertEquals((await second.request()).cmd, "MORE");
  await second.reply({ seq: 1, res: "more" });
  await more;
  await server.reply({ seq: 1, res: "slow" });
  assertEquals((await slow).res, "slow");
  assertEquals(await server.rest(), [], "the old connection is half-closed, with nothing more on it");
  assertEquals(client.state, "open");
  await client.close();
});

Deno.test("client - a server that only shuts down is asked again after a wait", async () => {
  const { client, server, network, clock, dialedMs } = await setUp({ timeoutMs: Infinity });
  const call = client.reply("A");
  let current = server;
  for (let round = 0; round < 4; round++) {
    await current.request();
    await current.reply({ seq: 0, err: "SHUTTING_DOWN" });
    await current.rest();
    const accepted = ScriptedServer.accept(network);
    await clock.advance(500);
    current = await accepted;
  }
  // Refused at 0, 500, 1000 and 1500; the wait doubles each time.
  assertEquals(dialedMs.map((atMs) => atMs - dialedMs[0]), [0, 50, 600, 1200, 1900]);
  await current.request();
  await current.reply({ seq: 0, res: "at last" });
  assertEquals((await call).res, "at last");
  await client.close();
});

Deno.test("client - a refused call that runs out of time says so", async () => {
  const { client, server, clock, line } = await setUp();
  const call = failure(client.reply("A", {}, { timeoutMs: 300 }));
  await server.request();
  line.down = true;
  await server.reply({ seq: 0, err: "SHUTTING_DOWN" });
  await clock.advance(400);
  const error = await call;
  assertEquals([error.code, error.retryable], ["TIMEOUT", true]);
  await client.close();
});

Deno.test("client - OVERLOADED is the caller's to decide on if nothing may be sent again", async () => {
  const { client, server } = await setUp({ retryBudget: { perCall: 0, perSecond: 0 } });
  const call = failure(client.reply("A"));
  await server.request();
  await server.reply({ seq: 0, err: "OVERLOADED" });
  const error = await call;
  assertEquals([error.code, error.retryable, client.state], ["OVERLOADED", true, "open"]);
  await client.close();
});

Deno.test("client - close while it dials or waits ends both", async () => {
  for (const hang of [true, false]) {
    const clock = new FakeClock();
    const network = memoryNetwork();
    let dials = 0;
    const client: Client = await connect({
      clock,
      random: () => 1,
      dial: () => {
        if (dials++ === 0) return network.dial();
        return hang ? new Promise(() => {}) : Promise.reject(new Error("down"));
      },
    });
    await using server = await ScriptedServer.accept(network);
    server.cut();
    await turn();
    const call = failure(client.reply("A"));
    await clock.advance(hang ? 60 : 51);
    assertEquals(client.state, hang ? "connecting" : "waiting");
    await client.close();
    assertEquals((await call).code, "CLOSED");
    assertEquals(clock.timers, 0);
  }
});

Deno.test("client - close at the very moment of a dial's success leaves no connection", async () => {
  for (let hops = 0; hops < 8; hops++) {
    const network = memoryNetwork();
    const dialed = Promise.withResolvers<void>();
    let dials = 0;
    const client: Client = await connect({
      random: () => 0,
      dial: async () => {
        if (dials++ > 0) await dialed.promise;
        return await network.dial();
      },
    });
    await using first = await ScriptedServer.accept(network);
    first.cut();
    await turn();
    const call = failure(client.reply("A"));
    await turn();
    dialed.resolve();
    for (let hop = 0; hop < hops; hop++) await undefined;
    await client.close();
    assertEquals((await call).code, "CLOSED");
    await using second = await ScriptedServer.accept(network);
    await second.rest();
  }
});

// What serves once ----------------------------------------------------------------------------------------------------

/** A server of the article's kind: one request, one reply, the end. */
async function serveOnce(network: ReturnType<typeof memoryNetwork>, served: unknown[]): Promise<void> {
  while (true) {
    const server = await ScriptedServer.accept(network);
    const request = await server.message();
    if (request === undefined) continue;
    served.push(request.cmd);
    await server.reply({ res: request.cmd });
    await server.halfClose();
    await server.rest();
    server.cut();
  }
}

Deno.test("client without seq - a server that closes after each reply serves one call after another", async () => {
  const network = memoryNetwork();
  const served: unknown[] = [];
  void serveOnce(network, served);
  const client: Client = await connect({ sequenced: false, timeoutMs: Infinity, dial: network.dial });
  const names = Array.from({ length: 20 }, (_, index) => `C${index}`);
  assertEquals((await Promise.all(names.map((name) => client.reply(name)))).map(({ res }) => res), names);
  for (const name of names) assertEquals((await client.reply(name)).res, name);
  assertEquals(served, [...names, ...names]);
  await client.close();
});

Deno.test("client without seq - a call out of time keeps its place", async () => {
  const { client, server, clock } = await setUp({ sequenced: false, timeoutMs: Infinity });
  const first = client.reply("A");
  await server.request();
  await server.reply({ res: "A" });
  await first;
  await clock.advance(20);
  const late = failure(client.reply("B", {}, { timeoutMs: 100 }));
  const next = client.reply("C");
  assertEquals(await server.requests(2), [{ cmd: "B", ttl: 100 }, { cmd: "C" }]);
  await clock.advance(110);
  assertEquals((await late).code, "TIMEOUT");
  await server.reply({ res: "B" }, { res: "C" });
  assertEquals((await next).res, "C");
  assertEquals(client.statistics().lateReplies, 1);
  await client.close();
  assertEquals(await server.rest(), [], "no cancel: it would be answered");
});

Deno.test("client without seq - a reply too many ends the connection", async () => {
  const { client, server } = await setUp({ sequenced: false, timeoutMs: Infinity });
  const call = client.reply("A");
  await server.request();
  await server.reply({ res: "A" }, { res: "again" });
  assertEquals((await call).res, "A");
  await server.rest();
  await turn();
  assertEquals(client.state, "idle");
  await client.close();
});
