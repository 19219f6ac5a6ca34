/**
 * The accept loop against a scripted listener, for what no test can make a machine do, and on a real one against clients
 * that connect and reset.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { acceptAll, untilAllAccepted } from "../../transport/accept_loop.ts";
import { systemClock } from "../../transport/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { connectResettable, connectTcp, settle } from "../support/peers.ts";

const CONN = {} as Deno.Conn;
const OUT_OF_FILES = Object.assign(new Error("Too many open files (os error 24)"), { code: "EMFILE" });

/** A listener that does what a script says, and then waits; and what the loop has made of it. */
class Scripted {
  readonly clock = new FakeClock();
  /** When each connection came, and how often the listener was asked. */
  readonly acceptedMs: number[] = [];
  readonly askedMs: number[] = [];
  readonly errors: unknown[] = [];
  ended = false;
  readonly #startMs = this.clock.now();
  readonly #script: (Deno.Conn | Error)[];
  #close = (_error: Error) => {};

  constructor(...script: (Deno.Conn | Error)[]) {
    this.#script = script;
    const listener = { accept: () => this.#accept() } as Deno.Listener;
    acceptAll(listener, {
      onConnection: () => this.acceptedMs.push(this.#elapsedMs()),
      onError: (error) => this.errors.push(error),
      clock: this.clock,
    }).then(() => this.ended = true);
  }

  close(error: Error = new Deno.errors.BadResource("Listener has been closed")): Promise<void> {
    this.#script.push(error);
    this.#close(error);
    return settle();
  }

  #elapsedMs(): number {
    return this.clock.now() - this.#startMs;
  }

  #accept(): Promise<Deno.Conn> {
    this.askedMs.push(this.#elapsedMs());
    const next = this.#script.shift();
    if (next instanceof Error) return Promise.reject(next);
    if (next !== undefined) return Promise.resolve(next);
    return new Promise((_, reject) => this.#close = reject);
  }
}

Deno.test("acceptAll() takes what a client does to its own accept for nothing, and asks again at once", async () => {
  const { NotConnected, ConnectionReset, ConnectionAborted, BrokenPipe } = Deno.errors;
  const scripted = new Scripted(
    CONN,
    new NotConnected(),
    new ConnectionReset(),
    CONN,
    new ConnectionAborted(),
    new BrokenPipe(),
    CONN,
  );
  await settle();
  assertEquals(scripted.acceptedMs, [0, 0, 0]);
  assertEquals(scripted.errors, []);
  assertEquals(scripted.clock.timers, 0);
  await scripted.close();
  assertEquals(scripted.ended, true);
});

Deno.test("acceptAll() waits when the machine is out of something: 5 ms, then twice as long, up to 1 s", async () => {
  const scripted = new Scripted(CONN, ...new Array(12).fill(OUT_OF_FILES), CONN);
  await scripted.clock.advance(20_000);
  const waits = scripted.askedMs.slice(1).map((ms, index) => ms - scripted.askedMs[index]);
  assertEquals(waits, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000, 1_000, 0]);
  assertEquals(scripted.acceptedMs, [0, 5_275]);
  await scripted.close();
  assertEquals(scripted.ended, true);
});

Deno.test("acceptAll() tells of a run of such errors once, and begins anew after a connection", async () => {
  const scripted = new Scripted(OUT_OF_FILES, OUT_OF_FILES, OUT_OF_FILES, CONN, OUT_OF_FILES, CONN);
  await scripted.clock.advance(20_000);
  assertEquals(scripted.errors, [OUT_OF_FILES, OUT_OF_FILES]);
  assertEquals(scripted.acceptedMs, [35, 40]);
  await scripted.close();
});

Deno.test("acceptAll() ends when the listener is closed, also while it waits", async () => {
  for (const error of [new Deno.errors.BadResource(), new Deno.errors.Interrupted()]) {
    const scripted = new Scripted(CONN);
    await settle();
    assertEquals(scripted.ended, false);
    await scripted.close(error);
    assertEquals(scripted.ended, true);
  }
  const waiting = new Scripted(OUT_OF_FILES);
  await settle();
  await waiting.close();
  assertEquals(waiting.ended, false);
  await waiting.clock.advance(5);
  assertEquals([waiting.ended, waiting.clock.timers], [true, 0]);
});

Deno.test("acceptAll() asks before each connection whether others come first, and accepts none until they have", async () => {
  let asked = 0;
  let accepted = 0;
  let rested = Promise.withResolvers<void>();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const ended = acceptAll(listener, {
    onConnection(conn) {
      accepted++;
      conn.close();
    },
    onError() {},
    rest: () => ++asked % 2 === 0 ? rested.promise : undefined,
    clock: systemClock,
  });
  const peers = await Promise.all(Array.from({ length: 3 }, () => connectTcp(listener.addr.port)));
  await peers[0].readToEnd();
  await settle();
  assertEquals([asked, accepted], [2, 1]);
  rested.resolve();
  rested = Promise.withResolvers();
  for (const peer of peers.slice(1)) await peer.readToEnd();
  await settle();
  assertEquals([asked, accepted], [4, 3]);
  for (const peer of peers) peer.close();
  listener.close();
  rested.resolve();
  await ended;
});

/** A listener in whose queue stand clients that have reset already: what `accept()` makes of them is an error. */
async function listenerWithResets(count: number): Promise<Deno.TcpListener> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (let client = 0; client < count; client++) {
    const peer = await connectResettable({ port: listener.addr.port });
    peer.reset();
    await peer[Symbol.asyncDispose]();
  }
  return listener;
}

Deno.test("acceptAll() outlives clients that connect and reset", async () => {
  const listener = await listenerWithResets(100);
  const errors: unknown[] = [];
  const ended = acceptAll(listener, {
    onConnection: (conn) => conn.close(),
    onError: (error) => errors.push(error),
    clock: systemClock,
  });
  await using good = await connectTcp(listener.addr.port);
  assertEquals(await good.readToEnd(), []);
  assertEquals(errors, []);
  listener.close();
  await ended;
});

Deno.test("an accept loop without that care would not", async () => {
  using listener = await listenerWithResets(1);
  const dies = async () => {
    for await (const conn of listener) conn.close();
  };
  await assertRejects(dies, Deno.errors.NotConnected);
});

Deno.test("untilAllAccepted() waits while connections come or are in their handshake, for as long as it may", async () => {
  const clock = new FakeClock();
  let looks = 0;
  const counts = (accepted: number) => () => {
    looks++;
    clock.leap(1);
    return Math.min(looks, accepted);
  };
  const wait = async (accepted: number, limitMs: number, handshakes = 0, rests = 0) => {
    looks = 0;
    const isResting = () => looks <= rests;
    await untilAllAccepted([{ handshakes: 0 }, { handshakes }], counts(accepted), isResting, limitMs, clock);
    return looks;
  };
  assertEquals(await wait(0, 10_000), 65);
  assertEquals(await wait(20, 10_000), 84, "64 rounds after the last");
  assertEquals(await wait(Infinity, 10_000), 500, "half a second at most");
  assertEquals(await wait(Infinity, 50), 50);
  assertEquals(await wait(0, 10_000, 1), 500);
  assertEquals(await wait(0, 10_000, 0, 20), 84, "64 rounds after a rest of the loops");
  assertEquals(await wait(0, 10_000, 0, Infinity), 500, "a rest that does not end must not hold up a shutdown");
  assertEquals(await wait(0, 0), 1, "not at all");
  looks = 0;
  await untilAllAccepted([], counts(5), () => false, 10_000, clock);
  assertEquals(looks, 0);
});
