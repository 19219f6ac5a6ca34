/** The Lua client, in nginx and LuaJIT, against a server that answers wrongly, late or not at all. */

import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../support/msgpack.ts";
import { concat, frame, type Message, takeFrames } from "../support/wire.ts";
import { type Outcome, testInBoth, TIMEOUT_MS } from "./lua_fronts.ts";

/** What a scripted server does on one connection, when the first request has come. */
interface Step {
  /** What it sends, if anything. */
  answer?: (seq: number) => Uint8Array;
  /** Whether it then ends the connection. */
  close?: boolean;
}

function replyFrame(fields: Message): Uint8Array {
  return frame(encode(fields));
}

const GOOD: Step = { answer: (seq) => replyFrame({ seq, res: "PONG" }) };

/** The first connection is the first step's, and so on; a second request on a connection is answered well. */
class ScriptedServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #serving: Promise<void>;
  /** Requests, by connection. */
  readonly requests: Message[][] = [];
  /** Control messages, of all connections. */
  readonly controls: Message[] = [];
  /** Connections that the client has ended, or that were ended here. */
  ended = 0;

  constructor(readonly steps: Step[]) {
    this.#serving = this.#serve();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  async #serve(): Promise<void> {
    const connections = [];
    for (const step of this.steps) {
      const conn = await this.#listener.accept().catch(() => undefined);
      if (conn === undefined) break;
      connections.push(this.#follow(conn, step));
    }
    await Promise.all(connections);
  }

  async #follow(conn: Deno.Conn, step: Step): Promise<void> {
    const requests: Message[] = [];
    this.requests.push(requests);
    const buffer = new Uint8Array(65_536);
    let held: Uint8Array = new Uint8Array(0);
    try {
      while (true) {
        const size = await conn.read(buffer);
        if (size === null) break;
        const { payloads, rest } = takeFrames(concat(held, buffer.subarray(0, size)));
        held = rest;
        for (const request of payloads.map((payload) => decode(payload) as Message)) {
          if (request.cmd === 0) {
            this.controls.push(request);
            continue;
          }
          const { answer, close } = requests.length === 0 ? step : GOOD;
          requests.push(request);
          if (answer) await conn.write(answer(request.seq as number));
          if (close) return;
        }
      }
    } catch {
      // Reset by the client: an end like any other.
    } finally {
      conn.close();
      this.ended++;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#serving;
  }
}

/** Answers after which a connection must not be used again, and what the caller gets. */
const ENDS: Record<string, { step: Step; outcome: Outcome }> = {
  "half a reply, then the end": {
    step: { answer: (seq) => replyFrame({ seq, res: "PONG" }).slice(0, 9), close: true },
    outcome: { err: "CONNECTION_LOST", msg: "cannot receive the reply: closed" },
  },
  "half a reply, then silence": {
    step: { answer: (seq) => replyFrame({ seq, res: "PONG" }).slice(0, 9) },
    outcome: { err: "TIMEOUT", msg: "cannot receive the reply: timeout" },
  },
  "half a header, then silence": {
    step: { answer: () => Uint8Array.of(0x20) },
    outcome: { err: "TIMEOUT", msg: "cannot receive the reply: timeout" },
  },
  "silence": {
    step: {},
    outcome: { err: "TIMEOUT", msg: "cannot receive the reply: timeout" },
  },
  "the end": {
    step: { close: true },
    outcome: { err: "CONNECTION_LOST", msg: "cannot receive the reply: closed" },
  },
  "another call's reply": {
    step: { answer: (seq) => replyFrame({ seq: seq + 1, res: "PONG" }) },
    outcome: { err: "BAD_REPLY", msg: "no call waits for this reply" },
  },
  "a reply without seq": {
    step: { answer: () => replyFrame({ res: "PONG" }) },
    outcome: { err: "BAD_REPLY", msg: "no call waits for this reply" },
  },
  "a reply that has no newline behind it": {
    step: { answer: (seq) => replyFrame({ seq, res: "PONG" }).with(-1, 0x0d) },
    outcome: { err: "BAD_REPLY", msg: "no newline after the payload" },
  },
  "text": {
    step: { answer: () => new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n") },
    outcome: { err: "TIMEOUT", msg: "cannot receive the reply: timeout" }, // a frame of 10,292 bytes, by its first two
  },
  "a header that no frame has": {
    step: { answer: () => Uint8Array.of(0x00, 0x00) },
    outcome: { err: "BAD_REPLY", msg: "a frame that declares 57568 bytes" },
  },
  "a long frame that is too long": {
    step: { answer: () => Uint8Array.of(0x1f, 0x1f, 0x7f, 0xff, 0xff, 0xff) },
    outcome: { err: "BAD_REPLY", msg: "a long frame of 2147483647 bytes" },
  },
  "a long frame that is too short": {
    step: { answer: () => Uint8Array.of(0x1f, 0x1f, 0, 0, 0, 1) },
    outcome: { err: "BAD_REPLY", msg: "a long frame of 1 bytes" },
  },
  "no MessagePack": {
    step: { answer: () => frame(Uint8Array.of(0x81, 0xc1)) },
    outcome: { err: "BAD_REPLY", msg: "the payload is not a map" },
  },
  "no map": {
    step: { answer: () => frame(encode("PONG")) },
    outcome: { err: "BAD_REPLY", msg: "the payload is not a map" },
  },
  "a reply and something else": {
    step: { answer: (seq) => concat(replyFrame({ seq, res: "PONG" }), replyFrame({ seq, res: "PONG" })) },
    outcome: { res: "PONG" },
  },
};

for (const [name, { step, outcome }] of Object.entries(ENDS)) {
  testInBoth(`${name} ends a connection, and the next call has another`, async (world) => {
    await using server = new ScriptedServer([step, GOOD]);
    // Only a call that is never answered may wait for its end: a busy machine takes long for an answer.
    const timeoutMs = "err" in outcome && outcome.err === "TIMEOUT" ? TIMEOUT_MS : undefined;
    await using front = await world.start(server.port, { timeoutMs });
    assertEquals(await front.call("PING"), outcome);
    assertEquals(await front.call("PING"), { res: "PONG" });
    assertEquals(server.requests.map((requests) => requests.length), [1, 1]);
    assertEquals(server.ended, 1);
  });
}

testInBoth("a connection is used again, after failures too, and asks for long frames once", async (world) => {
  const failing: Step = { answer: (seq) => replyFrame({ seq, err: "DEADLINE_EXCEEDED" }) };
  await using server = new ScriptedServer([failing]);
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING"), { err: "DEADLINE_EXCEEDED" });
  for (let count = 0; count < 5; count++) assertEquals(await front.call("PING"), { res: "PONG" });
  assertEquals(server.requests.map((requests) => requests.length), [6]);
  assertEquals(server.controls, [{ cmd: 0, max: 1_048_576 }]);
});

testInBoth("a connection that the server ended while it was idle is not used again", async (world) => {
  await using server = new ScriptedServer([{ ...GOOD, close: true }, GOOD]);
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING"), { res: "PONG" });
  assertEquals(await front.call("PING"), { res: "PONG" });
  assertEquals(server.requests.map((requests) => requests.length), [1, 1]);
});

testInBoth("a call that may be made twice is sent again when its connection ends, once", async (world) => {
  await using server = new ScriptedServer([{ close: true }, GOOD, { close: true }, { close: true }]);
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING", {}, { safe: true }), { res: "PONG" });
  assertEquals(server.requests.map((requests) => requests.length), [1, 1]);
});

testInBoth("a call that may be made twice is given up after two new connections", async (world) => {
  await using server = new ScriptedServer([{ close: true }, { close: true }]);
  await using front = await world.start(server.port);
  assertEquals((await front.call("PING", {}, { safe: true })).err, "CONNECTION_LOST");
  assertEquals(server.requests.map((requests) => requests.length), [1, 1]);
});

testInBoth("a call that a draining server has not started is sent again", async (world) => {
  const draining: Step = { answer: (seq) => replyFrame({ seq, err: "SHUTTING_DOWN" }) };
  await using server = new ScriptedServer([draining, GOOD]);
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING"), { res: "PONG" });
  assertEquals(server.requests.map((requests) => requests.length), [1, 1]);
});

testInBoth("a call that a server has no room for is sent again, after the time that it says", async (world) => {
  const full: Step = { answer: () => replyFrame({ err: "OVERLOADED", msg: "full" }), close: true };
  const busy: Step = { answer: (seq) => replyFrame({ seq, err: "OVERLOADED", msg: "busy", $after: 200 }) };
  await using server = new ScriptedServer([full, full, full, busy]);
  await using front = await world.start(server.port);
  const startMs = performance.now();
  assertEquals(await front.call("PING"), { res: "PONG" });
  assert(performance.now() - startMs >= 200);
  assertEquals(server.requests.map((requests) => requests.length), [1, 1, 1, 2]);
});

testInBoth("a call is not sent again if the server wants more time than it has", async (world) => {
  const busy: Step = { answer: (seq) => replyFrame({ seq, err: "OVERLOADED", msg: "busy", $after: 60_000 }) };
  await using server = new ScriptedServer([busy]);
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING"), { err: "OVERLOADED", msg: "busy" });
});
