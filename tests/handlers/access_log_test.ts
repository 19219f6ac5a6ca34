/** The access log: each line says what the caller was told, and no log can harm a call. */

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { accessLog } from "../../handlers/access_log.ts";
import { command } from "../../handlers/command.ts";
import { createServer, type Server } from "../../server.ts";
import { connectInMemory } from "../../testing.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { settle } from "../support/peers.ts";
import { ErrorLog } from "../support/test_server.ts";

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

/** The lines without their time, their peer and the time that the call took. */
function shortened(lines: string[]): string[] {
  return lines.map((line) => line.replace(/^\S+Z .*?([A-Z]+ \S+) \d+\.\d ms$/, "$1"));
}

Deno.test("accessLog() writes one line for each call, with its end", async () => {
  const lines: string[] = [];
  const commands = {
    FAIL: command(() => {
      throw new RpcError("TWO\nLINES");
    }),
    BREAK: command(() => {
      throw new Error("not for the caller");
    }),
    COUNT: command(async function* ({ to }: { to: number }) {
      for (let n = 1; n <= to; n++) yield n;
    }),
  };
  const log = accessLog((line) => lines.push(line));
  await using server = createServer({ commands, middleware: [log], onError: () => {} });
  await using client = await connectInMemory<typeof commands>(server);
  await client.call.PING();
  await codeOf(client.call.FAIL());
  await codeOf(client.call.BREAK());
  for await (const n of client.stream.COUNT({ to: 9 }, { credit: 1 })) {
    if (n < 8) assertEquals(lines.length, 3, `the stream goes on at ${n}`);
  }
  const told = lines.map((line) => line.replace(/^\S+Z /, "").replace(/ \d+\.\d ms$/, ""));
  const [ping, fail, broke, count] = told;
  assertMatch(ping, / PING ok$/);
  assertMatch(fail, / FAIL "TWO\\nLINES"$/);
  assertMatch(broke, / BREAK INTERNAL$/);
  assertMatch(count, / COUNT ok$/);
});

Deno.test("accessLog() writes the peer, the command and the code as one word each: no code looks like another line", async () => {
  const lines: string[] = [];
  const commands = {
    "SET UP": command(({ code }: { code: string }) => {
      throw new RpcError(code);
    }),
  };
  await using server = createServer({ commands, middleware: [accessLog((line) => lines.push(line))] });
  const [here, there] = memoryPair();
  void server.accept(Object.assign(there, { peer: "the other end" }));
  await using client = await connect<typeof commands>({ dial: () => Promise.resolve(here) });
  const codes = ["OUT_OF_STOCK", "a=b", "ok", "ok 0.1 ms", "", 'a"b', "a\\b", "TWO\nLINES", "\u202eX"];
  for (const code of codes) await codeOf(client.call("SET UP", { code }));
  assertEquals(
    lines.map((line) => line.replace(/^\S+Z /, "").replace(/ \d+\.\d ms$/, "")),
    ["OUT_OF_STOCK", "a=b", '"ok"', '"ok 0.1 ms"', '""', '"a\\"b"', '"a\\\\b"', '"TWO\\nLINES"', '"\\u202eX"']
      .map((code) => `"the other end" "SET UP" ${code}`),
  );
});

/** Calls that end otherwise than their handlers, or the middleware behind the log, think. */
const commands = {
  DATE: command(() => new Date() as unknown),
  LONG: command(() => "x".repeat(2_000_000)),
  PROXY: command(() => {
    throw Object.defineProperty(new RpcError("OWN"), "toJSON", {
      value() {
        throw new Error("cannot be read");
      },
    });
  }),
  DATES: command(async function* () {
    yield 1;
    yield new Date() as unknown;
  }),
  SLOW: command((_: object, { signal }) => Promise.race([aborted(signal), new Promise<string>(() => {})])),
  DEAF: command(() => new Promise<string>(() => {})),
};

/** Resolves late, so that the handler succeeds after its caller was told of a failure. */
function aborted(signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve("too late")));
}

Deno.test("accessLog() writes the code that the caller got, although the handler has succeeded or goes on", async () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const middleware = [accessLog((line) => lines.push(line))];
  await using server = createServer({ commands, middleware, clock, handlerTimeoutMs: 5_000, onError() {} });
  await using client = await connectInMemory<typeof commands>(server);
  const expected: string[] = [];
  const ends = async (name: string, code: Promise<string>) => {
    expected.push(`${name} ${await code}`);
    await settle();
    assertEquals(shortened(lines), expected);
  };
  await ends("DATE", codeOf(client.call.DATE()));
  await ends("LONG", codeOf(client.call.LONG()));
  await ends("PROXY", codeOf(client.call.PROXY()));
  await ends("DATES", codeOf(Array.fromAsync(client.stream.DATES())));
  for (const name of ["SLOW", "DEAF"] as const) {
    const late = codeOf(client.call(name));
    await settle();
    await clock.advance(6_000);
    await ends(name, late);
    const patience = new AbortController();
    const cancelled = codeOf(client.call(name, {}, { signal: patience.signal }));
    await settle();
    patience.abort();
    await ends(name, cancelled);
  }
  assertEquals(expected.map((line) => line.split(" ")[1]), [
    ...["REPLY_NOT_ENCODABLE", "REPLY_TOO_LARGE", "INTERNAL", "REPLY_NOT_ENCODABLE"],
    ...["DEADLINE_EXCEEDED", "CANCELLED", "DEADLINE_EXCEEDED", "CANCELLED"],
  ]);
});

Deno.test("accessLog() writes what a middleware before it has answered, and that a caller is gone", async () => {
  const lines: string[] = [];
  const arrived = Promise.withResolvers<void>();
  const commands = { HANG: command(() => (arrived.resolve(), new Promise<string>(() => {}))) };
  const log = accessLog((line) => lines.push(line));
  await using server = createServer({
    commands,
    middleware: [async (call, next) => {
      const reply = await next();
      if (call.meta.secret === undefined) throw new RpcError("HIDDEN");
      return reply;
    }, log],
  });
  {
    await using client = await connectInMemory<typeof commands>(server);
    assertEquals(await codeOf(client.call.PING()), "HIDDEN");
    const lost = codeOf(client.call.HANG());
    await arrived.promise;
    await client.close();
    assertEquals(await lost, "CLOSED");
  }
  await settle();
  const [ping, hang] = shortened(lines);
  assertEquals(ping, "PING HIDDEN");
  assertMatch(hang, /^HANG (CONNECTION_LOST|CANCELLED)$/);
});

Deno.test("a writer that throws, or that rejects later, harms no call, and its error is reported", async () => {
  const fail = (): never => {
    throw new Error("the disk is full");
  };
  // deno-lint-ignore require-await -- it rejects
  const failLater = async () => fail();
  const coded = () => {
    throw new RpcError("FULL"); // not the failure of any call
  };
  for (const write of [fail, failLater, coded]) {
    const errors = new ErrorLog();
    await using server: Server = createServer({ middleware: [accessLog(write)], onError: errors.onError });
    await using client: Client = await connectInMemory(server);
    assertEquals(await client.call.PING(), "PONG");
    await settle();
    const [{ error, origin }] = errors.takeWithOrigin();
    assertMatch(String(error), /the disk is full|FULL/);
    assertEquals(origin.command, "PING");
  }
});

Deno.test("accessLog() refuses a writer that is no function, before any call", () => {
  for (const write of [{ write: console.log }, "access.log", null]) {
    assertThrows(() => accessLog(write as never), TypeError, "as the argument of accessLog(): it must be a function");
  }
});
