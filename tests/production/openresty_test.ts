/**
 * The OpenResty client, `examples/openresty/lib/resty/packline.lua`, in real nginx over HTTP and under plain LuaJIT: against real
 * servers, and against one that answers wrongly, late or not at all.
 */

import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../../codec/msgpack.ts";
import { command, type ListeningServer, reply, RpcError } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { concat, frame, type Message, takeFrames } from "../support/wire.ts";
import { LUAJIT_PACKAGES, NGINX_PACKAGES, type Settings, startExample, startLua } from "./lua.ts";
import { example, Folder, type Package, Program, root, run, testWith } from "./programs.ts";

/** How long a call waits for its reply, where that is what ends it. */
const TIMEOUT_MS = 250;

/** Text of line ends: a client that reads lines sees nothing but these. */
function lines(length: number): string {
  return "\n\r".repeat(length).slice(0, length);
}

const commands = {
  ECHO: command({ handler: ({ value }: { value: unknown }) => value ?? null }),
  KIND: command({ handler: ({ value }: { value: unknown }) => Array.isArray(value) ? "array" : "map" }),
  REMAINING: command({
    handler: (_params: { [name: string]: unknown }, { remaining }) => String(remaining()),
  }),
  META: command({ handler: (_params: { [name: string]: unknown }, { meta }) => meta.token ?? null }),
  LINES: command({
    handler: ({ length }: { length: number }) =>
      reply(lines(length), { n: 0x0a0d0a0d, x: [10, 13, 10.000000000000002] }),
  }),
  WITHDRAW: command({
    handler(): never {
      throw new RpcError("INSUFFICIENT_FUNDS", "the balance is 100", { data: { balance: 100 } });
    },
  }),
};

function serveOn(port: number): Promise<ListeningServer> {
  return serve({ port, commands, onError: () => {} });
}

/** Listens where another server has just begun to shut down: it gives up the port in one of the next turns. */
async function serveAfter(server: ListeningServer): Promise<ListeningServer> {
  for (let tries = 1;; tries++) {
    try {
      return await serveOn(server.port);
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse) || tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
}

async function connectionsAccepted(front: Front): Promise<number> {
  return (await front.call("STATS")).res.connections.accepted;
}

/** Asks until no handler runs: where it never comes to that, the test fails. */
async function handlersEnd(front: Front): Promise<void> {
  for (let tries = 0; (await front.call("STATS")).res.inFlight > 0; tries++) {
    assert(tries < 1000, "a handler still runs");
  }
}

// Fronts: what the Lua file runs in ----------------------------------------------------------------------------------

/** A reply, or a failure, as the Lua file returned it. */
// deno-lint-ignore no-explicit-any -- JSON, whose shape is what the tests are about
type Outcome = any;

/** The Lua file in one of its worlds, on behalf of a test. */
interface Front extends AsyncDisposable {
  /** How many calls it makes side by side. */
  readonly width: number;
  /** Calls; `safe` says that the call may be made twice. */
  call(cmd: string, params?: Message, options?: { safe?: boolean }): Promise<Outcome>;
}

interface World {
  readonly name: string;
  readonly packages: readonly Package[];
  /** Starts it, in front of a server on this port. */
  start(port: number, settings?: Settings): Promise<Front>;
}

/** nginx, with the configuration of the example. */
class Nginx implements Front {
  readonly width = 20;
  readonly #url: string;
  readonly #owned: AsyncDisposableStack;
  readonly #client = Deno.createHttpClient({});

  private constructor(address: string, owned: AsyncDisposableStack) {
    this.#url = `http://${address}/call/`;
    this.#owned = owned;
  }

  static async start(packlinePort: number, settings: Settings = {}): Promise<Nginx> {
    await using owned = new AsyncDisposableStack();
    return new Nginx(await startExample(owned, packlinePort, settings), owned.move());
  }

  async call(cmd: string, params: Message = {}, { safe = false } = {}): Promise<Outcome> {
    return (await this.request(cmd, params, { safe })).body;
  }

  /** The same with the status: safe calls by GET, others by POST. */
  async request(cmd: string, params: Message, { safe = false } = {}): Promise<{ status: number; body: Outcome }> {
    const query = Object.entries(params).map(([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value))}`);
    const response = safe
      ? await fetch(`${this.#url}${cmd}?${query.join("&")}`, { client: this.#client })
      : await fetch(this.#url + cmd, { method: "POST", body: JSON.stringify(params), client: this.#client });
    return { status: response.status, body: await response.json() };
  }

  /** What curl would show of a call, with its status in front where that is asked for. */
  async curl(path: string, withStatus: boolean): Promise<string> {
    const response = await fetch(this.#url + path, { client: this.#client });
    const status = withStatus ? `HTTP/1.1 ${response.status} ${response.statusText}\n` : "";
    return status + await response.text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#owned.disposeAsync();
  }
}

/** LuaJIT, with a program that makes one call for each line on its stdin. */
class LuaJit implements Front {
  readonly width = 1;
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  static async start(port: number, { timeoutMs = 5000 }: Settings = {}): Promise<LuaJit> {
    const code = `
      package.path = "${root}examples/openresty/lib/?.lua;" .. package.path
      local cjson = require "cjson"
      local Infinity = math.huge
      local client = require("resty.packline").new { port = ${port}, timeout = ${timeoutMs}, bytes_max = 1048576 }
      io.stdout:setvbuf("no")
      print "ready"
      for line in io.lines() do
        local call = cjson.decode(line)
        local reply, failure = client:call(call.cmd, call.params, { idempotent = call.safe })
        print(cjson.encode(reply or { err = failure.code, msg = failure.msg, data = failure.data }))
      end`;
    return new LuaJit(await Program.start("luajit", ["-e", code], /ready\n/));
  }

  async call(cmd: string, params: Message = {}, { safe = false } = {}): Promise<Outcome> {
    return JSON.parse(await this.#program.ask(JSON.stringify({ cmd, params, safe })));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}

const NGINX: World = {
  name: "nginx",
  packages: NGINX_PACKAGES,
  start: Nginx.start,
};

const LUAJIT: World = {
  name: "LuaJIT",
  packages: LUAJIT_PACKAGES,
  start: LuaJit.start,
};

/** Registers a test for each world. */
function testInBoth(name: string, run: (world: World) => Promise<void>): void {
  for (const world of [NGINX, LUAJIT]) testWith(world.packages, `in ${world.name}, ${name}`, () => run(world));
}

// Real servers -------------------------------------------------------------------------------------------------------

/** Makes many calls, some side by side, and checks that each got its own reply. */
async function echoMany(front: Front, count: number): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: front.width }, async () => {
    while (next < count) {
      const value = `call ${next++}`;
      assertEquals(await front.call("ECHO", { value }, { safe: true }), { res: value });
    }
  }));
}

testInBoth("1,000 calls share a few connections, over a restart of the server", async (world) => {
  await using servers = new AsyncDisposableStack();
  const first = await serveOn(0);
  servers.use(first);
  await using front = await world.start(first.port, { workers: 2 });
  // Two workers of nginx, each with no more connections than calls side by side.
  const most = front.width === 1 ? 1 : 2 * front.width;

  await echoMany(front, 500);
  const before = await connectionsAccepted(front);
  // The next server listens while the first still drains: calls on connections to that one are refused, and sent again.
  void first.shutdown();
  servers.use(await serveAfter(first));
  await echoMany(front, 500);
  const after = await connectionsAccepted(front);
  assert(before <= most && after <= most, `${before} and ${after} connections for 500 calls each`);
  console.log(`${world.name}: 1,000 calls answered over ${before} connections, and ${after} behind a restart`);
});

testInBoth("replies full of line ends arrive whole, whatever their length", async (world) => {
  await using server = await serveOn(0);
  await using front = await world.start(server.port);
  // Lengths that also put 0x0A and 0x0D into the header.
  for (let length = 0; length < 520; length += length > 180 && length < 240 ? 1 : 13) {
    const expected = { res: lines(length), n: 0x0a0d0a0d, x: [10, 13, 10] };
    const { x, ...reply } = await front.call("LINES", { length });
    assertEquals({ ...reply, x: x.map(Math.round) }, expected);
  }
});

testInBoth("payloads of 57,310 bytes, a few more or less, and 300,000 bytes go both ways", async (world) => {
  await using server = await serveOn(0);
  await using front = await world.start(server.port);
  // With its few bytes of other fields, one of these requests and one of the replies have exactly 57,310 bytes.
  for (let length = 57_310 - 60; length < 57_330; length++) {
    const value = lines(length);
    assertEquals((await front.call("ECHO", { value })).res === value, true, `a text of ${length} bytes`);
  }
  const value = lines(300_000);
  assertEquals((await front.call("ECHO", { value })).res === value, true);
});

testInBoth("what Lua cannot tell apart, or has no word for, does no harm", async (world) => {
  await using server = await serveOn(0);
  await using front = await world.start(server.port);
  const echo = async (value: unknown) => (await front.call("ECHO", { value })).res;
  assertEquals(await echo({ list: [1, 2, 3], map: { a: 1 }, text: "naïve", yes: true, no: false }), {
    list: [1, 2, 3],
    map: { a: 1 },
    text: "naïve",
    yes: true,
    no: false,
  });
  assertEquals(await echo([]), {}); // an empty table has no kind
  assertEquals(await echo({ gone: null, here: 1 }), { here: 1 });
  assertEquals(await front.call("ECHO", { value: null }), {});
  assertEquals(await echo([0, 1, 127, 128, 65536, 2 ** 40, -1, -33, -32769, 0.1, -1e100]), [
    ...[0, 1, 127, 128, 65536, 2 ** 40, -1, -33, -32769, 0.1, -1e100],
  ]);
});

testInBoth("failures come with the server's code, text and data", async (world) => {
  await using server = await serveOn(0);
  await using front = await world.start(server.port, { timeoutMs: TIMEOUT_MS });
  assertEquals(await front.call("FOO"), { err: "CMD_NOT_FOUND" });
  assertEquals(await front.call("DELAY", { sleep: -1 }), { err: "INVALID_SLEEP" });
  assertEquals(await front.call("WITHDRAW"), {
    err: "INSUFFICIENT_FUNDS",
    msg: "the balance is 100",
    data: { balance: 100 },
  });
  assertEquals((await front.call("DELAY", { sleep: 60 })).err, "TIMEOUT");
  await handlersEnd(front);
  assertEquals((await front.call("PING", { ttl: 1 })).err, "INVALID_PARAMS");
  assertEquals((await front.call("PING", { $x: 1 })).err, "INVALID_PARAMS");
  assertEquals((await front.call("TICK", { count: 3, interval: 0 })).err, "BAD_REPLY");
  assertEquals((await front.call("DELAY", { sleep: 0 })).res, "DONE");
});

testInBoth("a server that is not there is one clear line", async (world) => {
  const server = await serveOn(0);
  await server.shutdown();
  await using front = await world.start(server.port);
  assertEquals(await front.call("PING", {}, { safe: true }), {
    err: "CONNECTION_LOST",
    msg: `cannot reach 127.0.0.1:${server.port}: connection refused`,
  });
});

// A server that answers as it is told ---------------------------------------------------------------------------------

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
    await using front = await world.start(server.port, { timeoutMs: TIMEOUT_MS });
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

// Time, phases and addresses -------------------------------------------------------------------------------------------

/** What the Lua client answers with, as text. */
const TELL = `
  local function tell(reply, failure) return reply and tostring(reply.res) or failure.code .. ": " .. failure.msg end`;

testWith(NGINX.packages, "in nginx, a call's time begins with the call, also after a long computation", async () => {
  await using server = await serveOn(0);
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        ${TELL}
        local client = require("resty.packline").new { port = ${server.port} }
        local start = os.clock()
        repeat until os.clock() - start > 1 -- nginx does not read the clock meanwhile
        ngx.say(tell(client:call("DELAY", { sleep = 0.15 }, { timeout = 900 })))
      }
    }`,
  );
  assertEquals(await (await fetch(url)).text(), "DONE\n");
});

testWith(NGINX.packages, "in nginx, a call in a phase without sockets returns a failure that says so", async () => {
  await using server = await serveOn(0);
  await using owned = new AsyncDisposableStack();
  const call = `${TELL} return tell(require("resty.packline").new({ port = ${server.port} }):call("PING"))`;
  const { program, url } = await startLua(
    owned,
    `location / {
      set_by_lua_block $early { ${call} }
      header_filter_by_lua_block {
        local function run() ${call} end
        ngx.header["X-Called"] = run()
      }
      content_by_lua_block { ngx.say(ngx.var.early) }
      log_by_lua_block {
        local function run() ${call} end
        ngx.log(ngx.NOTICE, "in log: ", run())
        ngx.timer.at(0, function() ngx.log(ngx.NOTICE, "in a timer: ", run()) end)
      }
    }`,
  );
  const response = await fetch(url);
  const refusal = (phase: string) =>
    `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: this phase of nginx has no sockets ` +
    `(API disabled in the context of ${phase}*); call in a timer`;
  assertEquals(await response.text(), `${refusal("set_by_lua")}\n`);
  assertEquals(response.headers.get("X-Called"), refusal("header_filter_by_lua"));
  assertEquals((await program.hear(/in log: (.*?call in a timer)/))[1], refusal("log_by_lua"));
  await program.hear(/in a timer: PONG/);
});

testInBoth("a time-out of 0 is out of time, and one of math.huge is without end", async (world) => {
  await using server = await serveOn(0);
  await using zero = await world.start(server.port, { timeoutMs: 0 });
  assertEquals(await zero.call("PING"), { err: "TIMEOUT", msg: "no time is left; the request was not sent" });
  assertEquals((await zero.call("PING", {}, { safe: true })).err, "TIMEOUT");
  await using endless = await world.start(server.port, { timeoutMs: Infinity });
  assertEquals(await endless.call("REMAINING"), { res: "Infinity" });
  assertEquals(await connectionsAccepted(endless), 1);
});

/** Addresses as the Lua client takes them, each with what it reaches. */
const ADDRESSES = ['host = "::1"', 'host = "[::1]"', 'host = "127.0.0.1"'];

testWith(
  [...NGINX.packages, ...LUAJIT.packages],
  "an IPv6 address needs no brackets, and a path is a unix socket",
  async () => {
    await using folder = await Folder.make();
    const path = `${folder.path}/packline.sock`;
    await using six = await serve({ hostname: "::1", port: 0 });
    await using four = await serve({ hostname: "127.0.0.1", port: 0 });
    await using unix = await serve({ path });
    assert(unix.address.includes(path));
    const options = [
      ...ADDRESSES.map((host) => `{ ${host}, port = ${(host.includes("::1") ? six : four).port} }`),
      `{ path = "${path}" }`,
    ];
    const calls = `
    ${TELL}
    local packline = require "resty.packline"
    for _, options in ipairs { ${options.join(", ")} } do say(tell(packline.new(options):call("PING"))) end
    say(tell(packline.new({ host = "::1", port = 1 }):call("PING")))`;
    const expected = "PONG\nPONG\nPONG\nPONG\nCONNECTION_LOST: cannot reach [::1]:1: connection refused\n";

    await using owned = new AsyncDisposableStack();
    const { url } = await startLua(owned, `location / { content_by_lua_block { local say = ngx.say ${calls} } }`);
    assertEquals(await (await fetch(url)).text(), expected);
    const program = `package.path = "${root}examples/openresty/lib/?.lua;" .. package.path; local say = print ${calls}`;
    assertEquals(await run("luajit", ["-e", program]), { code: 0, text: expected });
  },
);

// The examples beside it ----------------------------------------------------------------------------------------------

testWith(NGINX.packages, "examples/openresty/nginx.conf answers each failure with the status that fits", async () => {
  await using server = await serveOn(0);
  await using nginx = await Nginx.start(server.port, { timeoutMs: TIMEOUT_MS });
  const statuses: [string, Message, number][] = [
    ["PING", {}, 200],
    ["FOO", {}, 404],
    ["DELAY", { sleep: -1 }, 400],
    ["DELAY", { sleep: 60 }, 504],
    ["WITHDRAW", {}, 422],
    ["TICK", { count: 1 }, 502],
  ];
  for (const [cmd, params, status] of statuses) assertEquals((await nginx.request(cmd, params)).status, status, cmd);
  const { body } = await nginx.request("ECHO", { value: 'text, and "quotes" & 100 %' }, { safe: true });
  assertEquals(body, { res: 'text, and "quotes" & 100 %' });
});

testWith(LUAJIT.packages, "examples/openresty/client.lua speaks as the article's client does", async () => {
  await using server = await serveOn(0);
  const client = async (...args: string[]) => {
    const { code, text } = await run("luajit", [`${root}examples/openresty/client.lua`, ...args], {
      env: { PACKLINE_PORT: String(server.port) },
    });
    return [code, text];
  };
  assertEquals(await client("PING"), [0, 'you said {"res":"PONG"}\n']);
  assertEquals(await client("DELAY", "-1"), [1, 'you said {"err":"INVALID_SLEEP"}\n']);
  assertEquals(await client("FOO"), [1, 'you said {"err":"CMD_NOT_FOUND"}\n']);
});

testWith([...NGINX.packages, ...LUAJIT.packages], "examples/openresty/README.md does what it says", async () => {
  const GREET = command({ handler: ({ name }: { name: string }) => `Hello, ${name}!` });
  await using server = await serve({ port: 0, commands: { GREET } });
  await using nginx = await Nginx.start(server.port);
  const readme = await example("openresty/README.md");
  // A table of Lua has no order, and no sleep lasts to the microsecond.
  const meaning = (text: string) => {
    const [, before, json] = text.match(/^([^]*?)(\{.*\})\n?$/) ?? [];
    const { slept = 0, ...reply } = JSON.parse(json);
    return { before, ...reply, slept: Math.floor(slept * 10) / 10 };
  };

  const curls = [...readme.matchAll(/^\$ curl (-i )?"http:\/\/127\.0\.0\.1:8080\/call\/([^"]+)"\n((?:[^$`].*\n)+)/gm)];
  assertEquals(curls.length, 3);
  for (const [, status, path, output] of curls) {
    assertEquals(meaning(await nginx.curl(path, status !== undefined)), meaning(output));
  }

  const folder = { cwd: `${root}examples/openresty`, env: { PACKLINE_PORT: String(server.port) } };
  const [, args, output] = readme.match(/^\$ luajit (client\.lua .*)\n(.*)$/m) ?? [];
  assertEquals(meaning((await run("luajit", args.split(" "), folder)).text), meaning(output));

  const [, code] = readme.match(/^```lua\n([^]*?)^```$/m) ?? [];
  const program = `package.path = "lib/?.lua;" .. package.path
    ${code.replace("1235", String(server.port))} print(reply.res, failure)`;
  assertEquals(await run("luajit", ["-e", program], folder), { code: 0, text: "Hello, Ada!\tnil\n" });
});

testWith(["luajit2", "lua-messagepack", "lua-socket"], "bytes and empty maps have their marks in Lua", async () => {
  await using server = await serveOn(0);
  const code = `
    package.path = "${root}examples/openresty/lib/?.lua;" .. package.path
    local packline = require "resty.packline"
    local client = packline.new { port = ${server.port} }
    local bytes = "\\0\\255\\10\\13"
    assert(client:call("ECHO", { value = packline.binary(bytes) }).res == bytes)
    assert(select(2, client:call("ECHO", { value = bytes })).code == "INVALID_MESSAGE")
    assert(client:call("KIND", { value = packline.map {} }).res == "map")
    assert(client:call("KIND", { value = {} }).res == "array")
    assert(client:call("KIND", { value = { 1, nil, 3 } }).res == "map")
    assert(select(2, client:call("ECHO", { value = print })).code == "INVALID_PARAMS")
    assert(select(2, client:call("ECHO", { value = ("x"):rep(60000) })).code == "INVALID_PARAMS")
    assert(client:call("META", {}, { meta = { token = "sesame" } }).res == "sesame")
    print "done"`;
  assertEquals(await run("luajit", ["-e", code]), { code: 0, text: "done\n" });
});
