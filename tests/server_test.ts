/**
 * The server on real sockets, spoken to in raw bytes: pipelining, half-closes, hostile clients, the limit of connections.
 */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { connect } from "../client.ts";
import { RpcError } from "../errors.ts";
import { command, type Middleware } from "../handlers/command.ts";
import type { ServerOptions } from "../handlers/server_state.ts";
import { createServer, serve } from "../server.ts";
import { connectInMemory } from "../testing.ts";
import { memoryPair } from "../transport/memory.ts";
import { serveOne } from "./support/serve_one.ts";
import { fromStreams } from "../transport/transport.ts";
import { newSeed, Random } from "./support/random.ts";
import { connectPeer, connectTcp, settle } from "./support/peers.ts";
import { Held, type TestServer, withMemory, withServer } from "./support/test_server.ts";
import { chunksOf, concat, frame, hex, type Message, messages, request, unhex } from "./support/wire.ts";
import { type Address, overEach } from "./support/transports.ts";

const SEED = newSeed();
const PONG = { res: "PONG" };

/** Turns the event loop until something holds: on a socket, everything takes its time. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 2_000) throw new Error(`it never came to hold that ${holds}`);
    await settle();
  }
}

// Listening ----------------------------------------------------------------------------------------------------------

Deno.test("serve() listens on a free port of the loopback, and says where", async () => {
  await using server = await serve({ port: 0 });
  assert(server.port > 0);
  assertEquals([server.hostname, server.address], ["127.0.0.1", `127.0.0.1:${server.port}`]);
  await using peer = await connectTcp(server.port);
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
});

Deno.test("serve() refuses a port that is in use, and a command it cannot have", async () => {
  await using server = await serve({ port: 0 });
  await assertRejects(() => serve({ port: server.port }), Deno.errors.AddrInUse);
  const PING = command({ handler: (_params: Message) => PONG, number: 16 });
  await assertRejects(() => serve({ port: 0, commands: { PING } }), RangeError, '"PING": its number is 1, not 16');
});

Deno.test("serve() can be called again for a port as soon as the last server has shut down", async () => {
  const first = await serve({ port: 0 });
  await first.shutdown();
  await using second = await serve({ port: first.port });
  assertEquals(second.port, first.port);
});

// Bytes in any pieces ------------------------------------------------------------------------------------------------

overEach("a server answers all of a burst that came in one write, in order", async (transport) => {
  await using server = await withServer({}, transport);
  const peer = await server.connect();
  await peer.send(
    ...Array.from({ length: 500 }, (_, index) => index % 2 === 0 ? { cmd: 1 } : { cmd: "NO", seq: index }),
  );
  const replies = await peer.readReplies(500);
  assertEquals(replies, replies.map((_, index) => index % 2 === 0 ? PONG : { seq: index, err: "CMD_NOT_FOUND" }));
});

overEach("a server answers frames that come byte by byte", async (transport) => {
  await using server = await withServer({}, transport);
  const peer = await server.connect();
  const bytes = concat(request({ cmd: 2, sleep: -1 }), request({ cmd: 1, text: "\n\n" }), request({ cmd: 10 }));
  for (const byte of chunksOf(bytes, 1)) {
    await peer.sendBytes(byte);
    await settle(1);
  }
  assertEquals(await peer.readReplies(3), [{ err: "INVALID_SLEEP" }, PONG, { err: "CMD_NOT_FOUND" }]);
});

overEach(`a server answers the same whatever the writes (seed ${SEED})`, async (transport) => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  const bytes = concat(
    ...Array.from(
      { length: 40 },
      (_, seq) => request({ cmd: random.pick(["PING", 1, "NO"]), seq, text: "x".repeat(seq * 50) }),
    ),
    frame(unhex("81 c1")),
  );
  await using server = await withServer({}, transport);
  const answers = async (pieces: Uint8Array[]) => {
    const peer = await server.connect();
    await peer.sendBytes(...pieces);
    await peer.halfClose();
    await peer.readToEnd();
    return hex(peer.received);
  };
  const whole = await answers([bytes]);
  for (let round = 0; round < 10; round++) {
    assertEquals(await answers(random.pieces(bytes, random.pick([50, 500, 5_000]))), whole, `round ${round}`);
  }
});

overEach("a server takes a request of a megabyte, and sends one back", async (transport) => {
  const ECHO = command({ handler: ({ text }: { text: string }) => text });
  await using server = await withServer({ commands: { ECHO } }, transport);
  const peer = await server.connect();
  const text = "\n".repeat(1024 * 1024 - 50);
  await peer.send({ cmd: 0, max: 1024 * 1024 });
  const sent = peer.send({ cmd: "ECHO", text });
  const { res } = await peer.readReply();
  await sent;
  assert(res === text);
});

// Half-closes --------------------------------------------------------------------------------------------------------

/** How many replies come back for a burst of slow requests behind which the client half-closes. */
async function repliesBehindHalfClose(address: Address, count: number): Promise<number> {
  await using peer = await connectPeer(address);
  await peer.send(
    ...Array.from({ length: count }, (_, index) => ({ cmd: "SLOW", ...(index % 2 ? { seq: index } : {}) })),
  );
  await peer.halfClose();
  try {
    return (await peer.readToEnd()).length;
  } catch {
    return -1;
  }
}

/** A command that answers some turns later: behind the half-close. */
const SLOW = command({
  handler: async (_params: Message) => {
    await settle(5);
    return "slow";
  },
});

for (const count of [1, 50, 1_000]) {
  overEach(`a server answers all of ${count} requests behind which the client half-closes`, async (transport) => {
    await using server = await withServer({ commands: { SLOW } }, transport);
    assertEquals(await repliesBehindHalfClose(server.address, count), count);
  });
}

Deno.test("the half-close test catches a server that uses the built-in streams", async () => {
  const errors: unknown[] = [];
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const count of [1, 50]) {
    const served = listener.accept().then((conn) => {
      const { readable, writable } = conn;
      return serveOne(fromStreams({ readable, writable }), {
        commands: { SLOW },
        onError: (error) => void errors.push(error),
      });
    });
    const replies = await repliesBehindHalfClose({ port: listener.addr.port }, count);
    assert(replies < count, `${replies} of ${count} replies`);
    await served;
  }
});

// Hostile clients ----------------------------------------------------------------------------------------------------

Deno.test("a server answers BAD_FRAME to what is no packline at all, then closes", async () => {
  await using server = await withServer({ frameTimeoutMs: 1_000_000 });
  const strangers: Record<string, Uint8Array> = {
    "a header beyond the lengths": unhex("1f 1e"),
    "a wrong end": unhex("20 21 90 0d"),
    "CR LF": unhex("20 21 90 0d 0a"),
    "a long frame over the limit": unhex("1f 1f ff ff ff ff"),
    "zeros": new Uint8Array(100_000),
    "a TLS hello": unhex("16 03 01 02 00 01 00 01 fc 03 03"),
    "random lengths": concat(unhex("ff ff"), new Random(SEED).bytes(1_000)),
  };
  for (const [name, bytes] of Object.entries(strangers)) {
    const peer = await server.connect();
    await peer.sendBytes(concat(request({ cmd: 1 }), bytes));
    const [first, last, ...rest] = await peer.readToEnd();
    assertEquals([first, last.err, rest], [PONG, "BAD_FRAME", []], name);
  }
});

Deno.test("a server tells who begins with HTTP at once, and closes", async () => {
  await using server = await withServer();
  const stranger = await server.connect();
  await stranger.sendBytes(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  assertEquals((await stranger.readToEnd()).map(({ err }) => err), ["BAD_FRAME"]);
});

Deno.test("a server outlives a thousand clients that connect and reset, and serves others meanwhile", async () => {
  await using server = await withServer();
  const hostile = async () => {
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 50 }, async (_, index) => {
        const peer = await server.connectResettable();
        if (index % 2) await peer.sendBytes(unhex("20 26 81")).catch(() => {});
        peer.reset();
      }));
    }
  };
  let done = false;
  const resets = hostile().then(() => done = true);
  let good = 0;
  while (!done) {
    await using peer = await connectTcp(server.port);
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    good++;
  }
  await resets;
  await using peer = await connectTcp(server.port);
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  assert(good > 0);
});

overEach("a server answers what came before a client cut its stream, at every byte of it", async (transport) => {
  await using server = await withServer({}, transport);
  const requests = [request({ cmd: 1 }), request({ cmd: 2, sleep: -1 }), request({ cmd: 1, seq: 3 })];
  const bytes = concat(...requests);
  const ends = requests.map((_, index) => concat(...requests.slice(0, index + 1)).length);
  for (let cut = 0; cut <= bytes.length; cut++) {
    await using peer = await connectPeer(server.address);
    await peer.sendBytes(bytes.slice(0, cut));
    await peer.halfClose();
    assertEquals((await peer.readToEnd()).length, ends.filter((end) => end <= cut).length, `cut at ${cut}`);
    const reset = await server.connectResettable();
    await reset.sendBytes(bytes.slice(0, cut));
    reset.reset();
  }
  await openConnections(server, 0);
});

/** Waits until the server has so many connections, beside the one that asks. */
async function openConnections(server: TestServer, count: number): Promise<Message> {
  await using watcher = await connectPeer(server.address);
  for (let tries = 0; tries < 1_000; tries++) {
    const { res } = await watcher.ask({ cmd: 4 }) as { res: { connections: { open: number } } };
    if (res.connections.open === count + 1) return res as Message;
    await settle();
  }
  throw new Error(`there are never ${count} connections`);
}

overEach("a server keeps good connections going beside a flood of bad ones", async (transport) => {
  await using server = await withServer({ maxStrikes: 10, commands: { SLOW } }, transport);
  const good = await Promise.all(Array.from({ length: 16 }, () => server.connect()));
  let done = false;
  const flood = (async () => {
    for (let round = 0; round < 30; round++) {
      const peer = await server.connect();
      await peer.sendBytes(...new Array(20).fill(frame(unhex("81 c1")))).catch(() => {});
      assertEquals((await peer.readToEnd()).length, 11);
      peer.close();
    }
    done = true;
  })();
  let calls = 0;
  while (!done) {
    await Promise.all(good.map(async (peer, index) => {
      assertEquals(await peer.ask({ cmd: "SLOW", seq: index }), { seq: index, res: "slow" });
      calls++;
    }));
  }
  await flood;
  assert(calls >= 16);
});

// The limit of connections -------------------------------------------------------------------------------------------

overEach(
  "a server answers OVERLOADED to one connection too many, closes it, and takes the next when there is room",
  async (transport) => {
    await using server = await withServer({ maxConnections: 2 }, transport);
    const [one, two] = [await server.connect(), await server.connect()];
    for (const peer of [one, two]) assertEquals(await peer.ask({ cmd: 1 }), PONG);
    for (let count = 0; count < 3; count++) {
      const over = await server.connect();
      const [reply, ...rest] = await over.readToEnd();
      assertEquals([reply.err, reply.seq, rest], ["OVERLOADED", undefined, []]);
    }
    one.close();
    const { res } = await two.ask({ cmd: 4 }) as { res: { connections: Message } };
    assertEquals([res.connections.accepted, res.connections.refused], [2, 3]);
    for (let tries = 0;; tries++) {
      const next = await server.connect();
      const answer = await next.ask({ cmd: 1 }).catch((error: Error) => ({ err: error.message }));
      if ("res" in answer) break;
      assert(tries < 100, `there is never room: ${answer.err}`);
    }
  },
);

Deno.test("a server outlives clients that reset while it refuses them", async () => {
  await using server = await withServer({ maxConnections: 1 });
  const only = await server.connect();
  await only.ask({ cmd: 1 });
  for (let round = 0; round < 10; round++) {
    await Promise.all(Array.from({ length: 20 }, async () => {
      const peer = await server.connectResettable();
      await peer.send({ cmd: 1 }).catch(() => {});
      peer.reset();
    }));
  }
  assertEquals(await only.ask({ cmd: 1 }), PONG);
});

// Without a socket ---------------------------------------------------------------------------------------------------

Deno.test("accept() serves a pair of streams, and resolves when both directions have ended", async () => {
  await using served = withMemory();
  let over = false;
  served.served.then(() => over = true);
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  await settle();
  assertEquals(over, false);
  await served.peer.halfClose();
  assertEquals(await served.peer.readToEnd(), []);
  await settle();
  assertEquals(over, true);
});

Deno.test("accept() resolves, whatever its streams do, and closes what they hold once at least", async () => {
  const wrong = new Error("the carrier is broken");
  const carriers: [ReadableStream<Uint8Array>, WritableStream<Uint8Array>][] = [
    [new ReadableStream({ pull: () => Promise.reject(wrong) }), new WritableStream()],
    [ReadableStream.from([request({ cmd: 1 })]), new WritableStream({ write: () => Promise.reject(wrong) })],
    [ReadableStream.from([request({ cmd: 1 })]), new WritableStream({ close: () => Promise.reject(wrong) })],
    [new ReadableStream({ start: (controller) => controller.close() }), new WritableStream()],
  ];
  for (const [readable, writable] of carriers) {
    let closed = 0;
    await serveOne(fromStreams({ readable, writable, close: () => void closed++ }));
    assert(closed >= 1);
  }
});

Deno.test("one process can serve any number of connections in memory, each by itself", async () => {
  const held = new Held();
  await using one = withMemory({ commands: { HOLD: held.command } });
  await using two = withMemory({ commands: { HOLD: held.command } });
  await one.peer.send({ cmd: "HOLD", seq: 1 });
  assertEquals(await two.peer.ask({ cmd: 1 }), PONG);
  held.finishAll();
  assertEquals(await one.peer.readReply(), { seq: 1, res: null });
  assertStrictEquals(held.peak, 1);
});

// One server, many places --------------------------------------------------------------------------------------------

Deno.test("a server shares its limits, counts and shutdown between all its listeners and transports", async () => {
  const held = new Held();
  const server = createServer({ maxConnections: 3, commands: { HOLD: held.command } });
  const ports = [(await server.listen({ port: 0 })).port, (await server.listen({ port: 0 })).port];
  const [here, there] = memoryPair();
  const served = server.accept(there);
  const clients = [
    await connect({ port: ports[0] }),
    await connect({ port: ports[1] }),
    await connect({ dial: () => Promise.resolve(here) }),
  ];
  const calls = clients.map((client) => client.reply("HOLD"));
  await until(() => held.calls.length === 3);
  assertEquals(server.statistics().connections, { open: 3, accepted: 3, refused: 0 });
  const { port } = await server.listen({ port: 0 });
  await using fourth = await connect({ port, retryBudget: { perCall: 0, perSecond: 0 } });
  const refused = await assertRejects(() => fourth.reply("PING"), RpcError);
  assertEquals(refused.code, "OVERLOADED");

  const report = server.shutdown();
  held.finishAll();
  await Promise.all(calls);
  for (const client of clients) await client.close();
  assertEquals(await report, { finished: 3, cut: 0 });
  await Promise.all([served, server.finished]);
});

Deno.test("a server that has been shut down listens no more, and refuses what it is given", async () => {
  const server = createServer();
  await server.shutdown();
  await assertRejects(() => server.listen({ port: 0 }), TypeError, "it has been shut down");
  const [here, there] = memoryPair();
  const refused = server.accept(there);
  const buffer = new Uint8Array(100);
  const size = await here.read(buffer) ?? 0;
  assertEquals(messages(buffer.subarray(0, size)), [{ err: "SHUTTING_DOWN" }]);
  assertEquals(await here.read(buffer), null);
  await refused;
});

Deno.test("a server that cannot listen in one place goes on in another", async () => {
  await using server = createServer();
  const { port } = await server.listen({ port: 0 });
  await assertRejects(() => server.listen({ port }), Deno.errors.AddrInUse);
  await using client = await connect({ port });
  assertEquals((await client.reply("PING")).res, "PONG");
});

Deno.test("a server takes its options as they are when it is made", async () => {
  const connected: string[] = [];
  const options: ServerOptions = { middleware: [], onConnect: () => void connected.push("first") };
  await using server = createServer(options);
  options.onConnect = () => void connected.push("later");
  (options.middleware as Middleware[]).push(() => {
    throw new RpcError("LATER");
  });
  await using client = await connectInMemory(server);
  assertEquals([await client.call.PING(), connected], ["PONG", ["first"]]);
});
