/** `cli/session.ts` and `cli/conversation.ts`: calls one after the other, over connections that come and go. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type Outgoing, outgoing } from "../../cli/call.ts";
import { Session } from "../../cli/session.ts";
import { RpcError } from "../../errors.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { PING_SEQ } from "../../client/client_call.ts";
import { createServer } from "../../server.ts";
import type { Clock } from "../../transport/clock.ts";
import { memoryPair } from "../../transport/memory.ts";
import type { ByteStreams, Transport } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { frame } from "./scripts.ts";

const PING = outgoing({ name: "PING", params: {} });
const GREET = outgoing({ name: "GREET", params: {} });
const never = new AbortController().signal;

/** A session, and the other ends of its connections. */
function sessionWithPeers(clock?: Clock) {
  const peers: { streams: ByteStreams; writer: WritableStreamDefaultWriter<Uint8Array> }[] = [];
  const session = new Session(
    () => {
      const [here, there] = memoryPair();
      const streams = streamsOf(there);
      peers.push({ streams, writer: streams.writable.getWriter() });
      return Promise.resolve(here);
    },
    undefined,
    clock,
  );
  return { session, peers };
}

async function ask(session: Session, signal = never, call: Outgoing = PING): Promise<unknown[]> {
  const replies = [];
  for await (const { fields, more } of session.ask(call, signal)) replies.push(more ? { ...fields, more } : fields);
  return replies;
}

Deno.test("a session keeps its connection from call to call, and notices when it ends in between", async () => {
  const { session, peers } = sessionWithPeers();
  for (const round of [1, 2]) {
    const asked = ask(session);
    await turn();
    await peers[0].writer.write(frame({ res: round, more: true }));
    await peers[0].writer.write(frame({ res: round }));
    assertEquals(await asked, [{ res: round, more: true }, { res: round }]);
  }
  await peers[0].writer.close();
  await turn();
  const asked = ask(session);
  await turn();
  await peers[1].writer.write(frame({ res: 3 }));
  assertEquals([await asked, peers.length], [[{ res: 3 }], 2]);
  session.close();
});

Deno.test("a reply with the seq of another call is nobody's, with and without a seq of the call's own", async () => {
  for (const [call, own] of [[GREET, { seq: 1 }], [PING, {}]] as const) {
    const { session, peers } = sessionWithPeers();
    const asked = ask(session, never, call);
    await turn();
    await peers[0].writer.write(frame({ seq: 77, res: "late", more: true }));
    await peers[0].writer.write(frame({ seq: 77, err: "CANCELLED" }));
    await peers[0].writer.write(frame({ ...own, res: 1 }));
    assertEquals(await asked, [{ res: 1 }]);
    session.close();
  }
});

Deno.test("what stands behind the last reply is nobody's: the next call has a connection of its own", async () => {
  for (const late of [false, true]) {
    const { session, peers } = sessionWithPeers();
    const asked = ask(session);
    await turn();
    const [reply, stray] = [frame({ res: 1 }), frame({ res: "stray" })];
    await peers[0].writer.write(late ? reply : new Uint8Array([...reply, ...stray]));
    assertEquals(await asked, [{ res: 1 }]);
    if (late) await peers[0].writer.write(stray);
    await turn();
    const next = ask(session);
    await turn();
    await peers[1].writer.write(frame({ res: 2 }));
    assertEquals(await next, [{ res: 2 }]);
    session.close();
  }
});

Deno.test("a reply that comes before the request is the answer to it: a server without room says so at once", async () => {
  const { session, peers } = sessionWithPeers();
  await session.connect(never);
  await peers[0].writer.write(frame({ err: "OVERLOADED" }));
  await turn();
  assertEquals(await ask(session), [{ err: "OVERLOADED" }]);
  session.close();
});

Deno.test("a call that is left, or ended by its signal, takes its connection along", async () => {
  const { session, peers } = sessionWithPeers();
  const left = session.ask(PING, never);
  const first = left.next();
  await turn();
  await peers[0].writer.write(frame({ res: 1, more: true }));
  assertEquals((await first).value?.more, true);
  await left.return();
  const stop = new AbortController();
  const stopped = assertRejects(() => ask(session, stop.signal), RpcError, "CONNECTION_LOST");
  await turn();
  stop.abort();
  await stopped;
  const asked = ask(session);
  await turn();
  await peers[2].writer.write(frame({ res: 2 }));
  assertEquals(await asked, [{ res: 2 }]);
  session.close();
});

Deno.test("a dial that hangs is ended by the signal of the call", async () => {
  const session = new Session((signal) => {
    const { promise, reject } = Promise.withResolvers<Transport>();
    signal.addEventListener("abort", () => reject(signal.reason));
    return promise;
  });
  const stop = new AbortController();
  const stopped = assertRejects(() => ask(session, stop.signal), DOMException, "aborted");
  await turn();
  assertEquals(session.cancel(1), false);
  stop.abort();
  await stopped;
});

Deno.test("settings go once over each connection, with the first call that has some", async () => {
  const { session, peers } = sessionWithPeers();
  const received: string[] = [];
  for (const [call, round] of [[PING, 1], [GREET, 2], [GREET, 3]] as const) {
    const asked = ask(session, never, call);
    await turn();
    const reader = peers[0].streams.readable.getReader();
    received.push((await reader.read()).value?.toHex() ?? "");
    reader.releaseLock();
    await peers[0].writer.write(frame(call === PING ? { res: round } : { seq: 1, res: round }));
    assertEquals(await asked, [{ res: round }]);
  }
  const request = GREET.request.toHex();
  assertEquals(received, [PING.request.toHex(), `${GREET.settings?.toHex()}${request}`, request]);
  session.close();
});

Deno.test("a server that knows no settings refuses them, and its answer is the reply that comes next", async () => {
  const refusal = frame({ err: "CMD_NOT_FOUND" });
  const { session, peers } = sessionWithPeers();
  const first = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(new Uint8Array([...refusal, ...frame({ res: 1 })]));
  assertEquals(await first, [{ res: 1 }]);
  const second = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(refusal);
  assertEquals(await second, [{ err: "CMD_NOT_FOUND" }], "the settings went with the first call");
  session.close();
});

Deno.test("where a refusal of the settings is all that comes, it is the reply", async () => {
  for (const end of ["close", "abort"] as const) {
    const { session, peers } = sessionWithPeers();
    const asked = ask(session, never, GREET);
    await turn();
    await peers[0].writer.write(frame({ err: "CMD_NOT_FOUND" }));
    await turn();
    await peers[0].writer[end]();
    assertEquals(await asked, [{ err: "CMD_NOT_FOUND" }]);
    session.close();
  }
});

Deno.test("an error without seq that is no refusal of the settings is the reply", async () => {
  const { session, peers } = sessionWithPeers();
  const asked = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(frame({ err: "INVALID_MESSAGE" }));
  assertEquals(await asked, [{ err: "INVALID_MESSAGE" }]);
  session.close();
});

// ---- a server that is silent

const OWN_PING = { cmd: 1, seq: PING_SEQ };
const OWN_PONG = { seq: PING_SEQ, res: "PONG" };
const PROMISE = { cmd: 0, alive: 30_000 };
const SETTINGS = { cmd: 0, max: 1_048_576, alive: 30_000 };

/** A session, and a server that does what the test says. */
async function sessionWithServer() {
  const clock = new FakeClock();
  const network = memoryNetwork();
  const accepted = ScriptedServer.accept(network, { answersPings: false });
  const session = new Session(() => network.dial(), undefined, clock);
  await session.connect(never);
  return { session, clock, server: await accepted };
}

Deno.test("a stream from a server that is silent, and does not answer a PING, is lost", async () => {
  const { session, clock, server } = await sessionWithServer();
  const stream = session.ask(GREET, never);
  const first = stream.next();
  assertEquals(await server.message(), SETTINGS);
  await server.requests(1);
  await server.reply({ seq: 1, res: 0, more: true });
  await first;
  const startMs = clock.now();
  const lost = assertRejects(() => stream.next(), RpcError).then((error: RpcError) =>
    [error, clock.now() - startMs] as const
  );
  await clock.advance(25_000);
  assertEquals(await server.message(), OWN_PING);
  const [error, afterMs] = await lost;
  assertEquals([error.code, clock.timers], ["CONNECTION_LOST", 0]);
  assertMatch(error.message, /^CONNECTION_LOST: memory has been silent for \d+ ms, and has not answered a PING$/);
  assert(afterMs >= 22_500 && afterMs <= 24_000, `${afterMs} ms`);
});

Deno.test("a quiet stream of a server that lives goes on, and its PINGs are not shown", async () => {
  const clock = new FakeClock();
  // At its limit, it reads on only because the script has said `alive`.
  await using server = createServer({ commands: demoCommands, clock, maxInFlight: 1 });
  const [here, there] = memoryPair();
  void server.accept(there);
  const session = new Session(() => Promise.resolve(here), undefined, clock);
  const TICK = outgoing({ name: "TICK", params: { interval: 100, count: 3 } });
  const ticks = ask(session, never, TICK);
  for (let seconds = 0; seconds < 201; seconds++) await clock.advance(1_000);
  const expected = [1, 2, 3].map((res) => ({ res, more: true }));
  assertEquals(await ticks, [...expected, { res: 3 }]);
  // The connection has promised signs of life: a call without settings and `seq` keeps the promise too.
  const delay = ask(session, never, outgoing({ name: "DELAY", params: { sleep: 100 } }));
  for (let seconds = 0; seconds < 101; seconds++) await clock.advance(1_000);
  assertEquals((await delay as { res: string }[])[0].res, "DONE");
  assert(server.statistics().commands.PING.calls > 20);
  session.close();
});

Deno.test("nothing is said while nothing is asked, nor for a call that goes as in the article", async () => {
  const { session, clock, server } = await sessionWithServer();
  const first = ask(session);
  await server.requests(1);
  await clock.advance(600_000);
  assertEquals([server.waiting, clock.timers], [0, 0]);
  await server.reply({ res: "PONG" });
  assertEquals(await first, [{ res: "PONG" }]);
  const second = ask(session, never, GREET);
  assertEquals(await server.message(), SETTINGS);
  await server.requests(1);
  await clock.advance(8_000);
  assertEquals(await server.message(), OWN_PING);
  await server.reply({ seq: 1, res: 1 }, OWN_PONG);
  assertEquals(await second, [{ res: 1 }]);
  await clock.advance(600_000);
  assertEquals([server.waiting, clock.timers], [0, 0]);
  const third = ask(session, never, GREET);
  await server.requests(1);
  await server.reply({ seq: 1, res: 2 });
  assertEquals(await third, [{ res: 2 }], "the connection is the same");
  session.close();
});

Deno.test("while the reader of the output is slow, the promise is kept and the server is not blamed", async () => {
  const { session, clock, server } = await sessionWithServer();
  const stream = session.ask(GREET, never);
  const first = stream.next();
  assertEquals(await server.message(), SETTINGS);
  await server.requests(1);
  await server.reply({ seq: 1, res: 0, more: true });
  await first;
  await server.reply({ seq: 1, res: 1, more: true });
  await turn();
  await clock.advance(300_000);
  assertEquals(await server.message(), OWN_PING);
  assert(server.waiting >= 30, `${server.waiting} more in 300 s`);
  while (server.waiting > 0) assertEquals(await server.message(), PROMISE);
  assertEquals((await stream.next()).value?.fields.res, 1);
  await server.reply(OWN_PONG, { seq: 1, res: 2 });
  assertEquals((await stream.next()).value?.fields.res, 2);
  await stream.return();
  session.close();
});

Deno.test("a server that knows no settings is not asked", async () => {
  const { session, clock, server } = await sessionWithServer();
  const asked = ask(session, never, GREET);
  assertEquals(await server.message(), SETTINGS);
  await server.requests(1);
  await server.reply({ err: "CMD_NOT_FOUND" });
  await clock.advance(600_000);
  assertEquals([server.waiting, clock.timers], [0, 0]);
  await server.reply({ res: 1 });
  assertEquals(await asked, [{ res: 1 }]);
  session.close();
});
