/**
 * A server whose peer goes away, in order (FIN) or not (RST), at each point at which it can: behind a FIN, what was
 * received is still answered; behind a RST, the handlers are told, and nothing is left. Each case is run many times over.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { Request } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { command, type Commands, type Context } from "../../handlers/command.ts";
import { DispatchStage } from "../../handlers/dispatch.ts";
import { type ServerOptions, ServerState } from "../../handlers/server_state.ts";
import { ReadPace } from "../../session/read_pace.ts";
import { serveOne } from "../support/serve_one.ts";
import { systemClock } from "../../transport/clock.ts";
import type { Transport } from "../../transport/transport.ts";
import { acceptAll } from "../../transport/accept_loop.ts";
import { socketTransport } from "../../transport/deno_network.ts";
import { closeQuietly } from "../../transport/transport.ts";
import { connectResettable, type Peer, startProxy } from "../support/peers.ts";
import { Held, withServer } from "../support/test_server.ts";
import { concat, type Message, request } from "../support/wire.ts";
import { BareConnection } from "../support/bare_connection.ts";
import { overEach } from "../support/transports.ts";
import { until, untilAtRest } from "./beside.ts";

/** How often each case is run. */
const RUNS = 20;

/** The commands of one run, and what their handlers have seen. */
class Handlers {
  readonly held = new Held();
  /** Streams that have begun, and those whose `finally` has run. */
  streamsBegun = 0;
  streamsEnded = 0;
  /** Why handlers were told to stop. */
  readonly reasons: RpcError[] = [];

  readonly commands: Commands = {
    WAIT: command({
      handler: (params: Message, context) => {
        this.#note(context);
        return this.held.command.handler(params as never, context);
      },
    }),
    BIG: command({ handler: ({ bytes }: { bytes: number }) => "x".repeat(bytes) }),
    COUNT: command({ handler: ({ to }: { to: number }, context) => this.#count(to, context) }),
  };

  async *#count(to: number, context: Context): AsyncGenerator<number, number, void> {
    this.#note(context);
    this.streamsBegun++;
    try {
      for (let n = 1; n <= to; n++) {
        yield n;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return to;
    } finally {
      this.streamsEnded++;
    }
  }

  #note({ signal }: Context): void {
    signal.addEventListener("abort", () => this.reasons.push(signal.reason));
  }
}

/** Where a connection is when its peer goes away. */
interface Point {
  name: string;
  /** Brings a connection there. */
  reach(peer: Peer, handlers: Handlers): Promise<void>;
  /** How many handlers must be told when it is reset there. */
  told: number;
  /** What must still come when it is ended there in order; handlers that wait are let go then. */
  replies: Message[];
  /** Whether it ends inside a frame. */
  truncated?: boolean;
  runs?: number;
}

const PING = request({ cmd: 1, seq: 1 });
const PONG = { seq: 1, res: "PONG" };

const many = <Item>(count: number, item: (index: number) => Item): Item[] =>
  Array.from({ length: count }, (_, i) => item(i));

const POINTS: Point[] = [
  {
    name: "idle",
    async reach(peer) {
      assertEquals(await peer.ask({ cmd: 1, seq: 2 }), { ...PONG, seq: 2 });
    },
    told: 0,
    replies: [],
  },
  {
    name: "in a header",
    reach: (peer) => peer.sendBytes(PING, PING.slice(0, 1)),
    told: 0,
    replies: [PONG],
    truncated: true,
  },
  {
    name: "in a payload",
    reach: (peer) => peer.sendBytes(PING, PING.slice(0, 5)),
    told: 0,
    replies: [PONG],
    truncated: true,
  },
  {
    name: "before the newline",
    reach: (peer) => peer.sendBytes(PING, PING.slice(0, -1)),
    told: 0,
    replies: [PONG],
    truncated: true,
  },
  {
    name: "with 10 MB of replies that it has not read",
    reach: (peer) => peer.sendBytes(concat(...many(200, () => request({ cmd: "BIG", bytes: 50_000 })))),
    told: 0,
    replies: many(200, () => ({ res: "x".repeat(50_000) })),
    runs: 5,
  },
  {
    name: "with two handlers running, and a request in line",
    async reach(peer, { held }) {
      await peer.send({ cmd: "WAIT", seq: 1 }, { cmd: "WAIT" }, { cmd: "WAIT" });
      await until("both run", () => held.running === 2);
    },
    told: 2,
    replies: [{ seq: 1, res: null }, { res: null }, { res: null }],
  },
  {
    name: "with so many handlers running that nothing is read",
    async reach(peer, { held }) {
      await peer.sendBytes(concat(...many(1_100, (seq) => request({ cmd: "WAIT", seq }))));
      await until("they run", () => held.running === 1_024);
    },
    told: 1_024,
    replies: many(1_100, (seq) => ({ seq, res: null })),
    runs: 3,
  },
  {
    name: "with a stream running",
    async reach(peer, handlers) {
      await peer.send({ cmd: "COUNT", seq: 1, to: 20 });
      await until("it has begun", () => handlers.streamsBegun > 0);
    },
    told: 1,
    replies: [...many(20, (index) => ({ seq: 1, res: index + 1, more: true })), { seq: 1, res: 20 }],
  },
];

/** Resets a connection at a point; its handlers must be told. */
async function resetAt({ reach, told }: Point, peer: Peer, handlers: Handlers, patienceMs?: number): Promise<void> {
  await reach(peer, handlers);
  peer.reset();
  await until("the handlers are told", () => handlers.reasons.length >= told, patienceMs);
  for (const reason of handlers.reasons) assertEquals(reason.code, "CONNECTION_LOST");
}

for (const point of POINTS) {
  const { name, reach, told, replies, truncated = false, runs = RUNS } = point;

  overEach(`peer faults - RST ${name}: handlers are told, nothing is left, ${runs} times`, async (transport) => {
    for (let run = 0; run < runs; run++) {
      const handlers = new Handlers();
      await using server = await withServer({ commands: handlers.commands }, transport);
      await resetAt(point, await server.connectResettable(), handlers);
      handlers.held.finishAll();
      await untilAtRest(server.address);
      assertEquals([handlers.reasons.length, handlers.streamsEnded], [told, handlers.streamsBegun]);
    }
  });

  overEach(`peer faults - FIN ${name}: what was received is answered, ${runs} times`, async (transport) => {
    for (let run = 0; run < runs; run++) {
      const handlers = new Handlers();
      await using server = await withServer({ commands: handlers.commands }, transport);
      const peer = await server.connect();
      await reach(peer, handlers);
      await peer.halfClose();
      assertEquals(await answersToEnd(peer, handlers), replies);
      assertEquals(handlers.reasons, []);
      const { refused } = await untilAtRest(server.address);
      assertEquals(refused.truncated, truncated ? 1 : 0);
    }
  });
}

/** Lets go what waits, until the connection has ended. */
async function answersToEnd(peer: Peer, { held }: Handlers): Promise<Message[]> {
  let ended = false;
  const answers = peer.readToEnd().finally(() => ended = true);
  await until("the server closes", () => {
    held.finishAll();
    return ended;
  });
  return await answers;
}

overEach("peer faults - a client that freezes for a while loses nothing", async (transport) => {
  await using server = await withServer({}, transport);
  await using proxy = await startProxy(server.address);
  await using client = await connect(proxy.through);
  for (let round = 0; round < 5; round++) {
    const calls = many(100, (index) => client.reply("DELAY", { sleep: index / 5_000 }));
    await new Promise((resolve) => setTimeout(resolve, 5 * round));
    proxy.freeze();
    await new Promise((resolve) => setTimeout(resolve, 50));
    proxy.resume();
    for (const { res } of await Promise.all(calls)) assertEquals(res, "DONE");
  }
  assertEquals([client.statistics().lateReplies, proxy.connections], [0, 1]);
});

/** Lets so many steps pass: what runs in one of them has made the others possible. */
async function steps(count: number): Promise<void> {
  for (let step = 0; step < count; step++) await Promise.resolve();
}

Deno.test("peer faults - whenever the end comes, between any two steps of an answer, nothing is left in flight", async () => {
  for (let count = 0; count < 20; count++) {
    const { held, commands } = new Handlers();
    const service = new ServerState({ commands });
    const stage = new DispatchStage(service, new BareConnection(1_000), new ReadPace(service));
    let replies = 0;
    stage.start({ enqueue: () => replies++, terminate() {} });
    const waiting = new Request();
    Object.assign(waiting, { cmd: "WAIT", seq: 1 });
    stage.transform([waiting]);
    await steps(5);
    held.finishAll();
    await steps(count);
    stage.cancel(new Error("the peer is gone"));
    await steps(50);
    assertEquals(
      [service.load.handlers, service.report.statistics().commands.WAIT.inFlight],
      [0, 0],
      `behind ${count} steps`,
    );
    assertEquals(service.report.statistics().commands.WAIT.calls, replies);
  }
});

/** A listener whose connections are served each for itself, by a server that is not quite as it should be. */
function listenWith(
  options: ServerOptions,
  change: (conn: Deno.TcpConn) => Transport,
): AsyncDisposable & { port: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const conns: Deno.Conn[] = [];
  const served: Promise<void>[] = [];
  const accepting = acceptAll(listener, {
    onConnection(conn) {
      conns.push(conn);
      served.push(serveOne(change(conn as Deno.TcpConn), options));
    },
    onError() {},
    clock: systemClock,
  });
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      conns.forEach(closeQuietly);
      await Promise.all(served);
    },
  };
}

Deno.test("peer faults - a socket may be handed over as it is: closing it twice does no harm", async () => {
  const { held, commands, reasons } = new Handlers();
  await using server = listenWith({ commands }, (conn) => conn);
  const client = await connect({
    dial: () => Deno.connect({ hostname: "127.0.0.1", port: server.port }),
    timeoutMs: Infinity,
  });
  const waiting = assertRejects(() => client.reply("WAIT"), RpcError, "CLOSED");
  await until("it runs", () => held.running === 1);
  await client.close();
  await waiting;
  await until("the handler is told", () => reasons.length === 1);
  held.finishAll();

  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using other = await connect({
    dial: () => Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }),
    timeoutMs: Infinity,
  });
  const lost = assertRejects(() => other.reply("PING"), RpcError, "CONNECTION_LOST");
  (await listener.accept()).close();
  await lost;
  await until("the client knows", () => other.state === "idle");
});

Deno.test("peer faults - canary: a server that is deaf to a reset is caught", async () => {
  const handlers = new Handlers();
  const deaf = (conn: Deno.TcpConn): Transport => {
    const socket = socketTransport(conn);
    return {
      read: (into) => socket.read(into).catch(() => new Promise<never>(() => {})),
      write: (bytes) => socket.write(bytes),
      closeWrite: () => socket.closeWrite(),
      close: () => socket.close(),
      broken: new Promise<void>(() => {}),
    };
  };
  await using listener = listenWith({ commands: handlers.commands }, deaf);
  await using peer = await connectResettable({ port: listener.port });
  const point = POINTS.find(({ name }) => name.startsWith("with two handlers")) as Point;
  await assertRejects(() => resetAt(point, peer, handlers, 200), Error, "not within 200 ms: the handlers are told");
  handlers.held.finishAll();
});
