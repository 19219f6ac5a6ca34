/** Every way to shut a server down, on real sockets. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { RpcError } from "../errors.ts";
import { command } from "../handlers/command.ts";
import { serve, type ShutdownReport } from "../server.ts";
import { FakeClock } from "./support/fake_clock.ts";
import { connectTcp, type Peer, settle, settleShutdown } from "./support/peers.ts";
import { Held, type TestServer, withServer } from "./support/test_server.ts";
import { concat, type Message, request } from "./support/wire.ts";
import { overEach } from "./support/transports.ts";

const SHUTTING_DOWN = { err: "SHUTTING_DOWN" };

/** Turns the event loop until something holds: on a socket, everything takes its time. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 2_000) throw new Error(`it never came to hold that ${holds}`);
    await settle();
  }
}

overEach(
  "shutdown() answers what is in flight, beside the lane, in it and waiting for it, then closes",
  async (transport) => {
    const clock = new FakeClock();
    const held = new Held();
    await using server = await withServer({ clock, commands: { HOLD: held.command } }, transport);
    const [peer, idle] = [await server.connect(), await server.connect()];
    await idle.ask({ cmd: 1 });
    await peer.send({ cmd: "HOLD", seq: 1, id: 1 }, { cmd: "HOLD", id: 2 }, { cmd: "HOLD", id: 3 }, {
      cmd: "HOLD",
      seq: 4,
      id: 4,
    });
    await until(() => held.calls.length === 3);
    const { report } = await beginShutdown(server, 60_000);
    await clock.advance(999);
    assertEquals(await idle.hasEnded(), false, "it may be about to call");
    await clock.advance(1);
    assertEquals(await idle.readToEnd(), [], "a connection with nothing in flight is closed");
    await assertRejects(() => connectTcp(server.port), Deno.errors.ConnectionRefused);
    assertEquals(await peer.readReady(), []);
    held.finishAll();
    await until(() => held.calls.length === 4);
    held.finishAll();
    const replies = await peer.readReplies(4);
    assertEquals(replies.filter(({ seq }) => seq === undefined), [{ res: 2 }, { res: 3 }]);
    assertEquals(replies.filter(({ seq }) => seq !== undefined), [{ seq: 1, res: 1 }, { seq: 4, res: 4 }]);
    await clock.advance(1_000);
    assertEquals(await peer.readToEnd(), []);
    await closeAll(peer, idle);
    assertEquals(await report, { finished: 4, cut: 0 });
    await server.server.finished;
  },
);

/** Lets a shutdown begin. */
async function beginShutdown({ server }: TestServer, graceMs: number): Promise<{ report: Promise<ShutdownReport> }> {
  const report = server.shutdown({ graceMs });
  await settleShutdown();
  return { report };
}

async function closeAll(...peers: Peer[]): Promise<void> {
  for (const peer of peers) await peer[Symbol.asyncDispose]();
}

overEach("shutdown() refuses what comes meanwhile, in its order, and begins none of it", async (transport) => {
  const clock = new FakeClock();
  const held = new Held();
  await using server = await withServer({ clock, commands: { HOLD: held.command } }, transport);
  const peer = await server.connect();
  await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD", id: "lane" });
  await until(() => held.calls.length === 2);
  const { report } = await beginShutdown(server, 60_000);
  await peer.send({ cmd: 1, seq: 2 }, { cmd: 1 }, { cmd: "HOLD", seq: 3 }, { cmd: "NO", seq: 4 }, {
    cmd: 0,
    seq: 9,
    cancel: true,
  });
  assertEquals(await peer.readReplies(3), [2, 3, 4].map((seq) => ({ seq, ...SHUTTING_DOWN })));
  assertEquals(await peer.ask({ cmd: 0, seq: 1, cancel: true }), { seq: 1, err: "CANCELLED" }, "a cancel still counts");
  held.finishAll();
  assertEquals(await peer.readReplies(2), [{ res: "lane" }, SHUTTING_DOWN]);
  assertEquals(held.calls.length, 2);
  await clock.advance(900);
  assertEquals(await peer.ask({ cmd: 1 }), SHUTTING_DOWN, "what comes while it is about to close is refused too");
  await clock.advance(1_000);
  assertEquals(await peer.readToEnd(), []);
  await closeAll(peer);
  assertEquals(await report, { finished: 2, cut: 0 });
});

overEach(
  "shutdown() cuts at the end of the grace: the callers are told, the handlers too, and it does not wait for them",
  async (transport) => {
    const clock = new FakeClock();
    const held = new Held();
    await using server = await withServer({ clock, commands: { HOLD: held.command } }, transport);
    const peer = await server.connect();
    await peer.send({ cmd: "HOLD", seq: 1 }, { cmd: "HOLD" }, { cmd: "HOLD", id: "waits" }, {
      cmd: 2,
      sleep: 60,
      seq: 2,
    });
    await peer.send({ cmd: "HOLD", seq: 3 });
    await until(() => held.calls.length === 3);
    const { report } = await beginShutdown(server, 5_000);
    held.calls.find(({ context }) => context.params.id === undefined)!.finish();
    const [finished] = await peer.readReplies(1);
    assertEquals(finished.res, null);
    await clock.advance(4_999);
    assertEquals(await peer.readReady(), []);
    await clock.advance(1);
    const replies = await peer.readToEnd();
    assertEquals(replies.map(({ err }) => err), new Array(4).fill("CANCELLED"));
    assertEquals(replies.map(({ msg }) => msg), new Array(4).fill("the server has shut down"));
    await closeAll(peer);
    assertEquals(await report, { finished: 1, cut: 4 });
    const aborted = held.calls.filter(({ context }) => context.signal.aborted);
    assertEquals(aborted.length, held.calls.length - 1);
    assertEquals((aborted[0].context.signal.reason as RpcError).code, "CANCELLED");
    held.finishAll();
  },
);

overEach("shutdown() ends streams as calls: at the end of the grace", async (transport) => {
  const clock = new FakeClock();
  let ended = 0;
  const COUNT = command({
    async *handler(_params: Message): AsyncGenerator<number, void, void> {
      try {
        for (let count = 1;; count++) yield count;
      } finally {
        ended++;
      }
    },
  });
  await using server = await withServer({ clock, commands: { COUNT } }, transport);
  const peer = await server.connect();
  await peer.send({ cmd: "COUNT", seq: 1, credit: 2 });
  await peer.readReplies(2);
  const { report } = await beginShutdown(server, 5_000);
  await peer.send({ cmd: 0, seq: 1, credit: 1 });
  assertEquals((await peer.readReply()).res, 3, "it goes on meanwhile");
  await clock.advance(5_000);
  assertEquals((await peer.readToEnd()).map(({ err }) => err), ["CANCELLED"]);
  await closeAll(peer);
  assertEquals(await report, { finished: 0, cut: 1 });
  assertEquals(ended, 1);
});

Deno.test(
  "shutdown() closes by force a connection whose peer takes nothing, half a second behind the grace",
  async () => {
    const clock = new FakeClock();
    const BULK = command({ handler: (_params: Message) => "x".repeat(50_000) });
    await using server = await withServer({ clock, commands: { BULK }, writeTimeoutMs: 1_000_000 });
    const peer = await server.connect();
    const flood = peer.sendBytes(concat(...new Array(1_000).fill(request({ cmd: "BULK" })))).catch(() => {});
    await settle(200);
    const { report } = await beginShutdown(server, 5_000);
    let over = false;
    report.then(() => over = true);
    await clock.advance(5_400);
    assertEquals(over, false);
    await clock.advance(100);
    await settle();
    assertEquals(over, true);
    assertEquals(await report, { finished: 0, cut: 0 });
    peer.close();
    await flood;
  },
);

Deno.test("shutdown() twice is one shutdown; a shorter grace shortens it, a longer one does not lengthen it", async () => {
  const clock = new FakeClock();
  const held = new Held();
  await using server = await withServer({ clock, commands: { HOLD: held.command } });
  const peer = await server.connect();
  await peer.send({ cmd: "HOLD", seq: 1 });
  await until(() => held.calls.length === 1);
  const reports: ShutdownReport[] = [];
  for (const graceMs of [60_000, 5_000, 600_000]) {
    server.server.shutdown({ graceMs }).then((report) => reports.push(report));
  }
  await settle();
  await clock.advance(4_999);
  assertEquals(await peer.hasEnded(), false);
  await clock.advance(1);
  assertEquals((await peer.readToEnd())[0].err, "CANCELLED");
  await closeAll(peer);
  await until(() => reports.length === 3);
  assertEquals(reports, new Array(3).fill({ finished: 0, cut: 1 }));
  assertEquals(await server.server.shutdown(), { finished: 0, cut: 1 }, "and behind it, too");
  assertEquals(clock.timers, 0);
  held.finishAll();
});

Deno.test("shutdown() refuses a grace that is no number of milliseconds", async () => {
  await using server = await withServer();
  for (const graceMs of [-1, NaN, Infinity, 2 ** 31]) {
    assertThrows(() => void server.server.shutdown({ graceMs }), RangeError, "graceMs");
  }
  const misspelt = { grace: 1 } as { graceMs?: number };
  assertThrows(() => void server.server.shutdown(misspelt), TypeError, 'Cannot use "grace": unknown option');
});

Deno.test("shutdown() of a server that nobody uses takes no time", async () => {
  const clock = new FakeClock();
  const server = await serve({ port: 0, clock });
  assertEquals(await server.shutdown(), { finished: 0, cut: 0 });
  assertEquals(clock.timers, 0);
});

Deno.test("shutdown() closes a connection that is accepted while it begins", async () => {
  const [peer, conn] = await socketPair();
  // A listener whose accept() ends as the server shuts down.
  const { promise: accepted, resolve: accept } = Promise.withResolvers<Deno.Conn>();
  const script = [accepted, Promise.reject(new Deno.errors.BadResource())];
  script[1].catch(() => {});
  const listener = { addr: conn.localAddr, accept: () => script.shift()!, close() {} };
  const { listen } = Deno;
  Deno.listen = (() => listener) as unknown as typeof Deno.listen;
  const server = await serve({ port: 0 }).finally(() => Deno.listen = listen);
  accept(conn);
  const shutdown = server.shutdown();
  assertEquals(await peer.read(new Uint8Array(1)), null);
  peer.close();
  assertEquals(await shutdown, { finished: 0, cut: 0 });
  assertThrows(() => conn.close(), Deno.errors.BadResource);
});

/** Two ends of a real connection. */
async function socketPair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [here, there] = await Promise.all([Deno.connect({ port: listener.addr.port }), listener.accept()]);
  return [here, there];
}

Deno.test("await using shuts a server down, and waits for what is in flight", async () => {
  const held = new Held();
  let peer: Peer;
  {
    await using server = await serve({ port: 0, commands: { HOLD: held.command } });
    peer = await connectTcp(server.port);
    await peer.send({ cmd: "HOLD", seq: 1 });
    await until(() => held.calls.length === 1);
    settle().then(() => held.finishAll());
    // The peer has to close as well, or the server would linger for it.
    peer.readToEnd().then((replies) => {
      assertEquals(replies, [{ seq: 1, res: null }]);
      peer.close();
    });
  }
  await peer[Symbol.asyncDispose]();
});
