/** The ends of streams from the caller: each reaches both sides at once, with its code, and nothing is left. */

import { assert, assertEquals, assertObjectMatch } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { Call } from "../../handlers/call.ts";
import { command, type Middleware, unchecked } from "../../handlers/command.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { replaced } from "../support/replaced.ts";
import { withMemory } from "../support/test_server.ts";
import { frame, unhex } from "../support/wire.ts";
import { end, item, readGrants, ServedCalls, upload } from "../support/items.ts";

const PONG = { res: "PONG" };

/** How a stream ends before its end: the code for the caller, if it hears it, and for the handler. */
const ENDS: {
  name: string;
  end: (served: ServedCalls, clock: FakeClock) => unknown;
  told?: string;
  thrown: string;
  isOver?: true;
}[] = [
  {
    name: "cancel",
    end: ({ peer }) => peer.send({ cmd: 0, seq: 1, cancel: true }),
    told: "CANCELLED",
    thrown: "CANCELLED",
  },
  {
    name: "deadline",
    end: (_, clock) => clock.advance(5_010),
    told: "DEADLINE_EXCEEDED",
    thrown: "DEADLINE_EXCEEDED",
  },
  { name: "lost", end: ({ peer }) => peer.close(), thrown: "CONNECTION_LOST", isOver: true },
  {
    name: "FIN",
    end: ({ peer }) => peer.halfClose(),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
  {
    name: "broken frame",
    end: ({ peer }) => peer.sendBytes(unhex("20 21 90 0d")),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
  {
    name: "cut",
    end: ({ connection }) => connection.cut("the end"),
    told: "CANCELLED",
    thrown: "CANCELLED",
    isOver: true,
  },
];

Deno.test("items - every end before the stream's reaches a handler that waits or computes, at once, and leaves nothing", async () => {
  for (const { name, end, told, thrown, isOver } of ENDS) {
    for (const isWaiting of [true, false]) {
      const clock = new FakeClock();
      await using served = new ServedCalls({ clock });
      const { peer, reading } = served;
      await peer.send(upload("READ", 1, { ttl: 5_000 }), item(0));
      if (isWaiting) await reading.take();
      await readGrants(peer);
      const failure = isWaiting ? reading.failure() : undefined;
      await end(served, clock);
      const replies = told === undefined ? [] : await peer.readReady();
      assertEquals(replies.slice(0, 1).map(({ seq, err }) => [seq, err]), told === undefined ? [] : [[1, told]], name);
      await settle();
      assertEquals(await (failure ?? reading.failure()), thrown, `${name}, ${isWaiting}`);
      assertEquals(reading.signalCode, thrown);
      assertEquals(reading.ended, 1, "its finally has run");
      served.assertNothingHeld();
      if (!isOver) assertEquals(await peer.ask({ cmd: 1 }), PONG);
      peer.close();
      await served.served;
      served.state.close();
      await settle();
      assertEquals(clock.timers, 0, name);
    }
  }
});

Deno.test("items - the end of a client's half that has promised to stay ends its connection: CONNECTION_LOST", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send({ cmd: 0, alive: 2_000 }, upload("READ"), item(0));
  await reading.take();
  const failure = reading.failure();
  await peer.halfClose();
  assertEquals(await failure, "CONNECTION_LOST");
  await served.served;
  served.assertNothingHeld();
});

Deno.test("items - a stream that is complete is served behind the end of the client's half", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), item("abc"), end());
  await served.peer.halfClose();
  const replies = await served.peer.readToEnd();
  assertEquals(replies.filter(({ res }) => res), [{ seq: 1, res: { items: 1, bytes: 3 } }]);
});

Deno.test("items - the words for half a stream behind the end of the client's half", async () => {
  await using served = withMemory();
  await served.peer.send(upload("TALLY"), item("abc"));
  await served.peer.halfClose();
  const last = (await served.peer.readToEnd()).at(-1);
  assertEquals(last, { seq: 1, err: "CANCELLED", msg: "the caller's stream ended before its end" });
});

Deno.test("items - an item of more than maxPayloadBytes: the caller's stream and all calls beside it are told why they end", async () => {
  const clock = new FakeClock();
  await using served = new ServedCalls({ clock });
  const why = "the connection has sent a broken frame: the header declares 2000000 bytes, the limit is 1048576";
  await served.peer.send({ cmd: "DELAY", seq: 2, sleep: 60 }, upload("READ"), item(0));
  await served.peer.sendBytes(unhex("1f 1f 00 1e 84 80"));
  const { others } = await readGrants(served.peer);
  assertEquals(others, [{ seq: 1, err: "CANCELLED", msg: why }]);
  await settle();
  await clock.advance(10_000);
  const rest = await served.peer.readToEnd();
  assertEquals(rest.map(({ seq, err, msg }) => [seq, err, msg]), [
    [2, "CANCELLED", why],
    [undefined, "BAD_FRAME", why.slice(why.indexOf("the header"))],
  ]);
});

Deno.test("items - a drain lets a stream go on to its end on a connection that wants notices, and on any other", async () => {
  for (const settings of [[{ cmd: 0, notice: true }], []]) {
    await using served = new ServedCalls({ clock: new FakeClock() });
    const { peer, reading, connection } = served;
    await peer.send(...settings, upload("READ"), item(0));
    await reading.take();
    await readGrants(peer);
    connection.drain(10_000);
    await peer.send(item(1), end());
    assertEquals([(await reading.take()).value, (await reading.take()).done], [1, true]);
    assertEquals(reading.signalCode, undefined);
    reading.finish("whole");
    const { others } = await readGrants(peer);
    assertEquals(others.filter(({ going }) => going === undefined), [{ seq: 1, res: "whole" }]);
    connection.close();
  }
});

Deno.test("items - an early answer ends the stream: what comes later is ignored, and a reader that goes on is told", async () => {
  for (const outcome of ["a value", new RpcError("ENOUGH")]) {
    await using served = new ServedCalls();
    const { peer, reading } = served;
    await peer.send(upload("READ"), item(0));
    await reading.take();
    await readGrants(peer);
    await peer.send(item(1), item(2));
    const later = (async () => {
      await reading.take();
      await reading.take();
      return await reading.failure(); // as a task that the handler has left behind
    })();
    await settle();
    reading.finish(outcome);
    assertEquals(await peer.readReply(), {
      seq: 1,
      ...(outcome instanceof RpcError ? { err: "ENOUGH" } : { res: outcome }),
    });
    assertEquals(await later, outcome instanceof RpcError ? "ENOUGH" : "CANCELLED");
    await peer.send(item(3), item(4), end());
    assertEquals(await peer.ask({ cmd: 1 }), PONG);
    served.assertNothingHeld();
  }
});

Deno.test("items - a handler that leaves its loop and computes on: granted items are dropped, others fail the call", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(0));
  await reading.take();
  const { credit } = await readGrants(peer);
  const ofRequest = served.heldBytes;
  await peer.send(item(1), item(2));
  await settle();
  assert(served.heldBytes > ofRequest);
  await reading.leave();
  assertEquals(served.heldBytes, ofRequest);
  await peer.send(...Array.from({ length: credit - 2 }, () => item("x".repeat(100))));
  assertEquals(await peer.readReady(), [], "no more is granted, and nothing fails");
  assertEquals(served.heldBytes, ofRequest);
  assertEquals((await reading.take()).done, true);
  await peer.send(item("one too many"));
  assertObjectMatch(await peer.readReply(), { seq: 1, err: "INVALID_MESSAGE" });
});

Deno.test("items - a handler that takes nothing costs one item, whatever the caller's stream is", async () => {
  await using served = new ServedCalls();
  const { peer, reading } = served;
  await peer.send(upload("READ"), item(new Uint8Array(100_000)));
  assertEquals(await peer.readReady(), []);
  assert(served.state.load.bytes < 102_000, `${served.state.load.bytes}`);
  reading.finish(5);
  assertEquals(await peer.readReply(), { seq: 1, res: 5 });
  served.assertNothingHeld();
});

Deno.test("items - a middleware that answers early ends the stream of a handler that reads on", async () => {
  const thrown: unknown[] = [];
  const early: Middleware = async (_call, next) => {
    void next();
    await settle(2);
    return { res: "early" };
  };
  const READ_ALL = command.with(early)({
    items: unchecked<number>(),
    async handler(_: object, { items }) {
      try {
        for await (const each of items) thrown.push(each);
        thrown.push("the end");
      } catch (error) {
        thrown.push((error as RpcError).code);
        throw error;
      }
    },
  });
  await using served = new ServedCalls({ commands: { READ_ALL } });
  await served.peer.send(upload("READ_ALL"), item(1));
  const { others } = await readGrants(served.peer);
  assertEquals(others, [{ seq: 1, res: "early" }]);
  await served.peer.send(item(2), end());
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  assertEquals(thrown, [1, "CANCELLED"]);
  served.assertNothingHeld();
});

Deno.test("items - a stream whose call waits for a place keeps its first item, and ends with it", async () => {
  for (const ending of ["its turn", "cancel", "FIN", "an item too many", "no place in the server"]) {
    const limits = ending === "no place in the server" ? { maxInFlightTotal: 2 } : {};
    await using served = new ServedCalls({ maxInFlight: 1, ...limits });
    const { peer, reading } = served;
    await peer.send({ cmd: 0, alive: 60_000 }, { cmd: "READ", seq: 1 }, upload("TALLY", 2), item("abc", 2));
    assertEquals(await peer.readReady(), [], "it does not run, and nothing is granted");
    if (ending === "its turn") {
      await peer.send(end(2));
      reading.finish(0);
      assertEquals((await readGrants(peer)).others, [{ seq: 1, res: 0 }, { seq: 2, res: { items: 1, bytes: 3 } }]);
    } else if (ending === "cancel") {
      assertEquals(await peer.ask({ cmd: 0, seq: 2, cancel: true }), { seq: 2, err: "CANCELLED" });
      reading.finish(0);
    } else if (ending === "an item too many") {
      await peer.send(item("d", 2));
      assertObjectMatch(await peer.readReply(), { seq: 2, err: "INVALID_MESSAGE" });
      reading.finish(0);
    } else if (ending === "FIN") {
      await peer.halfClose();
      await served.served;
    } else {
      served.state.load.handlers += 2; // others have taken all places by its turn
      reading.finish(0);
      assertEquals(await peer.readReady(), [{ seq: 1, res: 0 }, { seq: 2, err: "OVERLOADED" }]);
      served.state.load.handlers -= 2;
    }
    await settle();
    served.assertNothingHeld();
  }
});

Deno.test("items - an unreadable message costs no look at the calls without a stream, of which there may be very many", async () => {
  await using served = new ServedCalls();
  const { peer } = served;
  for (let seq = 10; seq < 60; seq++) await peer.send({ cmd: 2, sleep: 3600, seq });
  await peer.send(upload("READ"));
  let looks = 0;
  using _ = replaced(Call.prototype, "failIncomplete", (fail) =>
    function (this: Call, reason) {
      looks++;
      return fail.call(this, reason);
    });
  await peer.sendBytes(frame(unhex("91 01")));
  assertEquals((await peer.readReplies(2)).map(({ seq, err }) => [seq, err]), [[1, "INVALID_MESSAGE"], [
    undefined,
    "INVALID_MESSAGE",
  ]]);
  assertEquals(looks, 1);
  peer.close();
  await served.served;
});
