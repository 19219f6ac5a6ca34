/** TAP: which calls a reader sees, what it is told of them, and what it is not; over sockets, with a clock that the test moves. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { command, RpcError } from "../../mod.ts";
import type { TappedCall, TapReport } from "../../handlers/tap.ts";
import type { ServeOptions } from "../../server.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { type Peer, settle } from "../support/peers.ts";
import { type TestServer, withServer } from "../support/test_server.ts";
import { type Message, message } from "../support/wire.ts";

/** As long as between two reports. */
const REPORT_MS = 200;

/** The most calls of a report. */
const REPORT_CALLS = 100;

const FOREVER = 2 ** 31;

/** One reader of a server. */
class Reader {
  readonly #peer: Peer;
  readonly #clock: FakeClock;
  readonly #seq: number;

  constructor(peer: Peer, clock: FakeClock, seq: number) {
    this.#peer = peer;
    this.#clock = clock;
    this.#seq = seq;
  }

  /** The next report; the time for it passes. */
  async report(): Promise<TapReport> {
    await settle();
    await this.#clock.advance(REPORT_MS);
    const { seq, res, more } = await this.#peer.readReply();
    assertEquals([seq, more], [this.#seq, true]);
    return res as TapReport;
  }

  /** The only call that there was. */
  async call(): Promise<TappedCall> {
    const { calls, leftOut } = await this.report();
    assertEquals([calls.length, leftOut], [1, 0]);
    return calls[0];
  }

  async grant(credit: number): Promise<void> {
    await this.#peer.send({ cmd: 0, seq: this.#seq, credit });
    await settle();
  }
}

class World implements AsyncDisposable {
  readonly #served: TestServer;
  readonly clock: FakeClock;

  constructor(served: TestServer, clock: FakeClock) {
    this.#served = served;
    this.clock = clock;
  }

  get errors() {
    return this.#served.errors;
  }

  get server() {
    return this.#served.server;
  }

  peer(): Promise<Peer> {
    return this.#served.connect();
  }

  /** A reader, whose tap is on. */
  async tap(params: Message = {}, credit = FOREVER, seq = 7): Promise<Reader> {
    const peer = await this.peer();
    assertEquals(await peer.ask({ cmd: "TAP", seq, credit, ...params }), {
      seq,
      res: { calls: [], leftOut: 0 },
      more: true,
    });
    return new Reader(peer, this.clock, seq);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#served[Symbol.asyncDispose]();
  }
}

const commands = {
  FAIL: command(({ code }: { code: string }) => {
    throw new RpcError(code);
  }),
  LATER: command(async (_params: object, { clock }) => {
    await new Promise<void>((resolve) => clock.setTimer(resolve, 250, true));
    return 1;
  }),
  COUNT: command(async function* () {
    yield 1;
    yield 2;
    return 3;
  }),
  HOLD: command(() => new Promise<number>(() => {})),
};

async function world(options: ServeOptions = {}): Promise<World> {
  const clock = new FakeClock();
  return new World(await withServer({ tap: true, clock, commands, ...options }), clock);
}

Deno.test("TAP is not there unless the server allows it", async () => {
  for (const options of [{}, { tap: false }]) {
    await using served = await withServer(options);
    const peer = await served.connect();
    assertEquals(await peer.ask({ cmd: "TAP", seq: 1 }), { seq: 1, err: "CMD_NOT_FOUND" });
    const { res: info } = await peer.ask({ cmd: 3 });
    assert(!JSON.stringify(info).includes("TAP"));
    const { res: statistics } = await peer.ask({ cmd: 4 });
    assert(!JSON.stringify(statistics).includes("TAP"));
  }
});

Deno.test("INFO tells of TAP where it is allowed, and a command of the user's own takes its place", async () => {
  await using allowed = await world();
  const { res } = await (await allowed.peer()).ask({ cmd: 3 }) as { res: { commands: Message[] } };
  assertEquals(res.commands.find(({ name }) => name === "TAP"), {
    name: "TAP",
    number: null,
    summary: "Streams a line for each call: who, what, how it ended, how long it took",
    params: ["command", "slow"],
    stream: true,
  });
  await using own = await world({ commands: { TAP: command(() => "my own") } });
  assertEquals(await (await own.peer()).ask({ cmd: "TAP" }), { res: "my own" });
});

Deno.test("a call is told with its time, caller, command, code, duration and bytes, and with nothing else", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  const secret = { cmd: "ECHO", seq: 1, data: "parameter-secret", meta: { token: "meta-secret" } };
  const answer = await peer.ask(secret);
  const call = await tap.call();
  assertMatch(call.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assertMatch(call.peer, /^127\.0\.0\.1:\d+$/);
  assertEquals({ ...call, time: "", peer: "" }, {
    time: "",
    peer: "",
    command: "ECHO",
    code: null,
    ms: 0,
    receivedBytes: message(secret).length,
    sentBytes: message(answer).length,
  });
});

Deno.test("the caller of each call is told, also of those that fail or take their time", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peers = [await served.peer(), await served.peer()];
  await peers[0].send({ cmd: "LATER", seq: 1 });
  await settle();
  await served.clock.advance(250);
  await peers[0].readReply();
  await peers[1].ask({ cmd: "FAIL", code: "OUT_OF_STOCK" });
  const { calls } = await tap.report();
  assertEquals(calls.map(({ command, code, ms }) => [command, code, ms]), [["LATER", null, 250], [
    "FAIL",
    "OUT_OF_STOCK",
    0,
  ]]);
  assertEquals(new Set(calls.map(({ peer }) => peer)).size, 2);
});

Deno.test("refused requests are told, each with its code", async () => {
  await using served = await world({ maxInFlightTotal: 2 });
  const tap = await served.tap();
  const peer = await served.peer();
  await peer.send({ cmd: "HOLD", seq: 1 });
  await settle();
  const requests: [Message, command: string | null, code: string][] = [
    [{ cmd: "NO_SUCH", seq: 2 }, "NO_SUCH", "CMD_NOT_FOUND"],
    [{ cmd: 99, seq: 2 }, "99", "CMD_NOT_FOUND"],
    [{ seq: 2 }, null, "CMD_NOT_FOUND"],
    [{ cmd: "ECHO", seq: 2, ttl: -1 }, null, "INVALID_MESSAGE"],
    [{ cmd: "ECHO", seq: -2 }, null, "INVALID_MESSAGE"],
    [{ cmd: 0, seq: 9, item: 1, end: true }, null, "INVALID_MESSAGE"],
    [{ cmd: "HOLD", seq: 1 }, "HOLD", "INVALID_MESSAGE"],
    [{ cmd: "HOLD", seq: 2 }, "HOLD", "OVERLOADED"],
  ];
  for (const [request, command, code] of requests) {
    const reply = await peer.ask(request);
    assertEquals(reply.err, code);
    const { receivedBytes, sentBytes, ...call } = await tap.call();
    assertEquals([call.command, call.code], [command, code], Deno.inspect(request));
    assertEquals([receivedBytes, sentBytes], [message(request).length, message(reply).length], Deno.inspect(request));
  }
});

Deno.test("a request that is refused behind others is told once", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  await peer.send({ cmd: "LATER" }, { cmd: "NO_SUCH" });
  await settle();
  await served.clock.advance(250);
  assertEquals((await peer.readReplies(2)).map(({ err }) => err), [undefined, "CMD_NOT_FOUND"]);
  assertEquals([(await tap.call()).command, (await tap.call()).command], ["NO_SUCH", "LATER"]);
});

Deno.test("a stream is told at its end, with the frames of its items in both directions", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  const upload = [{ cmd: "TALLY", seq: 2, $items: true }, { cmd: 0, seq: 2, item: "abc" }];
  const count = { cmd: "COUNT", seq: 1 };
  await peer.send(count);
  const items = await peer.readReplies(3);
  const bytesOf = (...messages: Message[]) => messages.reduce((sum, each) => sum + message(each).length, 0);
  const counted = await tap.call();
  assertEquals(
    [counted.command, counted.receivedBytes, counted.sentBytes],
    ["COUNT", bytesOf(count), bytesOf(...items)],
  );
  await peer.send(...upload);
  await settle();
  await served.clock.advance(10 * REPORT_MS);
  await peer.send({ cmd: 0, seq: 2, end: true });
  const reply = (await peer.readReplies(3)).find(({ res }) => res !== undefined) as Message;
  const uploaded = await tap.call();
  assertEquals([uploaded.command, uploaded.receivedBytes, uploaded.sentBytes], [
    "TALLY",
    bytesOf(...upload),
    bytesOf(reply),
  ]);
});

Deno.test("a call that was cancelled, or whose caller is gone, is told with its code", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  await peer.send({ cmd: "HOLD", seq: 1 });
  await settle();
  await peer.ask({ cmd: 0, seq: 1, cancel: true });
  const cancelled = await tap.call();
  assertEquals([cancelled.command, cancelled.code], ["HOLD", "CANCELLED"]);
  await peer.send({ cmd: 0, alive: 60_000 }, { cmd: "HOLD", seq: 2 }, { cmd: "HOLD" }, { cmd: "PING" });
  await settle();
  peer.close();
  await settle();
  const { calls } = await tap.report();
  const lost = calls.map(({ command, code, sentBytes }) => [command, code, sentBytes]);
  assertEquals(lost.sort(), [["HOLD", "CONNECTION_LOST", 0], ["HOLD", "CONNECTION_LOST", 0], [
    "PING",
    "CONNECTION_LOST",
    0,
  ]]);
});

Deno.test("a filter selects by command and by slowness, and what it does not select is not counted", async () => {
  await using served = await world();
  const all = await served.tap({}, FOREVER, 1);
  const pings = await served.tap({ command: "PING" }, FOREVER, 2);
  const slow = await served.tap({ slow: 250 }, FOREVER, 3);
  const slower = await served.tap({ slow: 251, command: "LATER" }, FOREVER, 4);
  const peer = await served.peer();
  await peer.send({ cmd: 1 }, { cmd: "LATER", seq: 1 }, { cmd: "NO_SUCH" }, { cmd: 3 });
  await settle();
  await served.clock.advance(250);
  await peer.readReplies(4);
  await peer.ask({ cmd: 1 });
  await served.clock.advance(1);
  const namesOf = ({ calls }: TapReport) => calls.map(({ command }) => command);
  const seen = await all.report();
  const more = seen.calls.length < 5 ? await all.report() : { calls: [], leftOut: 0 };
  assertEquals([...namesOf(seen), ...namesOf(more)].sort(), ["INFO", "LATER", "NO_SUCH", "PING", "PING"]);
  assertEquals([seen.leftOut, more.leftOut], [0, 0]);
  const ping = await pings.report();
  const again = ping.calls.length < 2 ? await pings.report() : { calls: [], leftOut: 0 };
  assertEquals([...namesOf(ping), ...namesOf(again)], ["PING", "PING"]);
  assertEquals(await slow.report().then(namesOf), ["LATER"]);
  await peer.send({ cmd: "LATER", seq: 2 });
  await settle();
  served.clock.compute(300);
  await served.clock.advance(0);
  await peer.readReply();
  assertEquals(await slower.report().then(namesOf), ["LATER"]);
});

Deno.test("what is shown and what is left out adds up to the calls made, for each reader", async () => {
  await using served = await world();
  const readers = [await served.tap({}, FOREVER, 1), await served.tap({ command: "ECHO" }, FOREVER, 2)];
  const peer = await served.peer();
  const made = [0, 0];
  const told = [0, 0];
  for (const calls of [1, 99, 100, 101, 2_000, 5, 3_000]) {
    const pings = Array.from({ length: calls }, () => ({ cmd: 1 }));
    const echoes = Array.from({ length: calls }, (_, seq) => ({ cmd: "ECHO", seq }));
    await peer.send(...pings, ...echoes);
    await peer.readReplies(2 * calls);
    made[0] += 2 * calls;
    made[1] += calls;
    for (const [place, reader] of readers.entries()) {
      const report = await reader.report();
      assert(report.calls.length <= REPORT_CALLS);
      told[place] += report.calls.length + report.leftOut;
    }
    // What came while the first reader waited.
    for (const place of [0, 1]) if (told[place] < made[place]) told[place] += await rest(readers[place]);
    assertEquals(told, made);
  }
});

Deno.test("a report has as many calls as it takes, and counts the others", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  for (const calls of [1, 99, 100, 101, 2_000, 5, 3_000]) {
    for (const request of [{ cmd: 1 }, { cmd: "ECHO", data: 1 }, { cmd: "NO_SUCH" }]) {
      await peer.send(...Array.from({ length: calls }, () => request));
      await peer.readReplies(calls);
      const report = await tap.report();
      assertEquals([report.calls.length, report.leftOut], [
        Math.min(calls, REPORT_CALLS),
        Math.max(0, calls - REPORT_CALLS),
      ]);
    }
  }
});

/** What one more report tells of. */
async function rest(reader: Reader): Promise<number> {
  const { calls, leftOut } = await reader.report();
  return calls.length + leftOut;
}

Deno.test("a reader that grants nothing costs no memory: its calls are a number", async () => {
  await using served = await world();
  const tap = await served.tap({}, 1);
  const peer = await served.peer();
  for (let round = 0; round < 10; round++) {
    await peer.send(...Array.from({ length: 2_000 }, () => ({ cmd: 1 })));
    await peer.readReplies(2_000);
  }
  await peer.ask({ cmd: "NO_SUCH", seq: 1 });
  await peer.ask({ cmd: "FAIL", code: "X", seq: 1 });
  await served.clock.advance(10 * REPORT_MS);
  await tap.grant(1);
  assertEquals(await tap.report(), { calls: [], leftOut: 20_002 });
  // With credit again it sees calls again.
  await peer.ask({ cmd: 1 });
  await tap.grant(1);
  await peer.ask({ cmd: 4 });
  const { calls, leftOut } = await tap.report();
  assertEquals([calls.map(({ command }) => command), leftOut], [["STATS"], 1]);
});

Deno.test("a tap sees neither itself nor another", async () => {
  await using served = await world();
  const tap = await served.tap();
  await served.tap({}, FOREVER, 8);
  const peer = await served.peer();
  await peer.ask({ cmd: "TAP", slow: "x" });
  await peer.send({ cmd: "TAP", seq: 9, credit: 9 });
  await peer.readReply();
  await peer.ask({ cmd: 0, seq: 9, cancel: true });
  await peer.ask({ cmd: 1 });
  assertEquals((await tap.call()).command, "PING");
});

Deno.test("a report keeps and sends no more of a name than a line shows", async () => {
  await using served = await world();
  const tap = await served.tap();
  const peer = await served.peer();
  const long = "é".repeat(50_000);
  await peer.ask({ cmd: long });
  assertEquals((await tap.call()).command, `${"é".repeat(64)}…`);
  await peer.ask({ cmd: "x" + "😀".repeat(50_000) });
  assertEquals((await tap.call()).command, `x${"😀".repeat(31)}…`);
});

Deno.test("TAP refuses other parameters, and says where", async () => {
  await using served = await world();
  const peer = await served.peer();
  const wrong: [Message, path: string][] = [
    [{ command: 1 }, "command"],
    [{ command: "NO_SUCH" }, "command"],
    [{ slow: -1 }, "slow"],
    [{ slow: "1" }, "slow"],
    [{ slow: NaN }, "slow"],
    [{ slow: 2 ** 31 }, "slow"],
  ];
  for (const [params, path] of wrong) {
    const { err, data } = await peer.ask({ cmd: "TAP", seq: 1, credit: 1, ...params });
    assertEquals([err, (data as { path: string[] }[])[0].path], ["INVALID_PARAMS", [path]], Deno.inspect(params));
  }
});

Deno.test("a server has eight readers at most, also while it is overloaded; one that leaves makes room", async () => {
  await using served = await world({ maxInFlightTotal: 1 });
  await (await served.peer()).send({ cmd: "HOLD", seq: 1 });
  await settle();
  const peer = await served.peer();
  for (let seq = 1; seq <= 8; seq++) await peer.ask({ cmd: "TAP", seq, credit: 1 });
  assertEquals((await peer.ask({ cmd: "TAP", seq: 9, credit: 1 })).err, "OVERLOADED");
  await peer.ask({ cmd: 0, seq: 1, cancel: true });
  await settle();
  assertEquals((await peer.ask({ cmd: "TAP", seq: 9, credit: 1 })).res, { calls: [], leftOut: 0 });
  peer.close();
  await settle();
  const later = await served.peer();
  for (let seq = 1; seq <= 8; seq++) {
    assertEquals((await later.ask({ cmd: "TAP", seq, credit: 1 })).res, { calls: [], leftOut: 0 });
  }
});

Deno.test("a tap ends when its connection should end, and leaves no timer", async () => {
  const clock = new FakeClock();
  await using served = await withServer({ tap: true, clock });
  const peer = await served.connect();
  await peer.send({ cmd: 0, notice: true }, { cmd: "TAP", seq: 1, credit: 5 });
  await peer.readReply();
  await settle();
  const shutdown = served.server.shutdown();
  await settle();
  await clock.advance(REPORT_MS);
  const last = await peer.readReplies(2);
  assertEquals(last.map(({ err, going }) => err ?? typeof going).sort(), ["GOING_AWAY", "number"]);
  peer.close();
  await clock.advance(20_000);
  await shutdown;
  assertEquals(clock.timers, 0);
});

Deno.test("a middleware says who may tap", async () => {
  await using served = await world({
    middleware: [(call, next) => {
      if (call.command === "TAP" && call.meta.token !== "secret") throw new RpcError("UNAUTHENTICATED");
      return next();
    }],
  });
  const peer = await served.peer();
  assertEquals(await peer.ask({ cmd: "TAP", seq: 1, credit: 1 }), { seq: 1, err: "UNAUTHENTICATED" });
  const allowed = await peer.ask({ cmd: "TAP", seq: 1, credit: 1, meta: { token: "secret" } });
  assertEquals(allowed.res, { calls: [], leftOut: 0 });
});

Deno.test("a reader that does not read costs no more than the output may hold", async () => {
  await using served = await world({ maxQueuedBytes: 64 * 1024, writeTimeoutMs: 3_600_000 });
  const reader = await served.peer();
  await reader.send({ cmd: "TAP", seq: 1 }); // without credit only the connection holds it back
  await settle();
  const peer = await served.peer();
  const MADE = 1_200;
  let made = 0;
  // Far more reports than a socket takes that nobody reads, each of a hundred calls.
  for (let report = 0; report < MADE; report++) {
    const names = Array.from({ length: REPORT_CALLS + 1 }, () => ({ cmd: "N".repeat(100) }));
    await peer.send(...names);
    await peer.readReplies(names.length);
    made += names.length;
    await served.clock.advance(REPORT_MS);
  }
  let told = 0;
  let reports = 0;
  while (told < made) {
    await served.clock.advance(REPORT_MS);
    const { res } = await reader.readReply();
    const { calls, leftOut } = res as TapReport;
    told += calls.length + leftOut;
    reports++;
  }
  assertEquals(told, made);
  assert(reports < MADE / 2, `${reports} reports were kept`);
});
