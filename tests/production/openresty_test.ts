/**
 * The OpenResty client, `examples/openresty/lib/resty/packline.lua`, in real nginx over HTTP and under plain LuaJIT: against real
 * servers, late ones among them.
 */

import { assert, assertEquals } from "@std/assert";
import { command, type ListeningServer, reply, RpcError } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import type { Message } from "../support/wire.ts";
import { startExample, startLua } from "./lua.ts";
import { example, Folder, root, run, testWith } from "./programs.ts";
import { type Front, LUAJIT, NGINX, Nginx, testInBoth, TIMEOUT_MS } from "./lua_fronts.ts";

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

testWith(
  NGINX.packages,
  "examples/openresty/nginx.conf takes JSON objects only, and answers in valid JSON",
  async () => {
    const odd = [Infinity, -Infinity, NaN, 1];
    const ODD = command({ handler: () => odd });
    const ODDS = command(async function* () {
      yield* await Promise.resolve(odd);
    });
    await using server = await serve({ port: 0, commands: { ODD, ODDS } });
    await using owned = new AsyncDisposableStack();
    const address = await startExample(owned, server.port);
    const send = async (path: string, body?: BodyInit) => {
      const response = await fetch(`http://${address}/${path}`, { method: "POST", body });
      return [response.status, await response.text()];
    };
    for (const body of ["[1,2]", "[]", "false", "null", "5", '"text"', "{", "{}x"]) {
      const [status, text] = await send("call/PING", body);
      assertEquals([status, JSON.parse(text as string)], [400, {
        err: "INVALID_PARAMS",
        msg: "the body is not a JSON object",
      }]);
    }
    for (const body of ["{}", " \n{ }", ""]) assertEquals(await send("call/PING", body), [200, '{"res":"PONG"}\n']);
    assertEquals(await send("call/ODD"), [200, '{"res":[null,null,null,1]}\n']);
    assertEquals(await send("stream/ODDS"), [200, "null\nnull\nnull\n1\n"]);
  },
);

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
    assert(select(2, client:call("ECHO", { value = bytes })).code == "INVALID_PARAMS")
    assert(client:call("KIND", { value = packline.map {} }).res == "map")
    assert(client:call("KIND", { value = {} }).res == "array")
    assert(client:call("KIND", { value = { 1, nil, 3 } }).res == "map")
    assert(select(2, client:call("ECHO", { value = print })).code == "INVALID_PARAMS")
    assert(select(2, client:call("ECHO", { value = ("x"):rep(60000) })).code == "INVALID_PARAMS")
    assert(client:call("META", {}, { meta = { token = "sesame" } }).res == "sesame")
    print "done"`;
  assertEquals(await run("luajit", ["-e", code]), { code: 0, text: "done\n" });
});

testWith(
  ["luajit2", "lua-messagepack", "lua-socket"],
  "what is no option, parameter or time limit is refused",
  async () => {
    const code = `
    package.path = "${root}examples/openresty/lib/?.lua;" .. package.path
    local packline = require "resty.packline"
    local function refused(options) return (select(2, pcall(packline.new, options)):gsub("^.-:%d+: ", "")) end
    print(refused { hostname = "a.internal" })
    print(refused { host = 5 })
    print(refused { servers = "127.0.0.1:1" })
    print(refused { servers = { 5 } })
    print(refused { timeout = 0 / 0 })
    print(refused { alive = "soon" })
    print(refused { alive = "1500.5" })
    print(refused { bytes_max = math.huge })
    print(refused { host = "" })
    print(refused { path = "" })
    print(refused { port = 65536 })
    print(refused { port = 0 })
    print(refused { servers = { "a.internal:70000" } })
    print(refused { tls = "true" })
    print(refused { tls = { servername = "a.internal" } })
    local client = packline.new { port = "1", timeout = "1000" } -- of the environment
    local function failure(params, options) return tostring(select(2, client:call("ECHO", params, options))) end
    print(failure("text"))
    print(failure({}, { meta = "text" }))
    print(failure({}, { timeout = 0 / 0 }))
    print(failure({}, { timeout = "soon" }))
    print(failure({ value = packline.binary {} }))
    print(failure({}, { timeoutMs = 1000 }))
    print(failure({}, { idempotent = "false" }))
    for _, name in ipairs { 0, -1, 1.5, 0 / 0, false } do print(select(2, client:call(name))) end
    print(select(2, client:call(MISSPELT)))`;
    const { text } = await run("luajit", ["-e", code]);
    assertEquals(text.trimEnd().split("\n"), [
      'there is no option "hostname"',
      "host must be a string, and is a number",
      "servers must be a table, and is a string",
      "a server must be text, and is a number",
      "timeout must be a number, and is nan",
      "alive must be an integer, and is a string",
      "alive must be an integer, and is 1500.5",
      "bytes_max must be an integer, and is inf",
      "host must not be empty",
      "path must not be empty",
      ...Array(3).fill("a port must be 1 to 65535"),
      "tls must be true or a table, and is a string",
      'there is no option "servername" in tls',
      "INVALID_PARAMS: params must be a table, and is a string",
      "INVALID_PARAMS: meta must be a table, and is a string",
      "INVALID_PARAMS: timeout must be a number of milliseconds, and is nan",
      "INVALID_PARAMS: timeout must be a number of milliseconds, and is soon",
      "INVALID_PARAMS: packline.binary() takes a string, and was given a table",
      'INVALID_PARAMS: a call has no option "timeoutMs"',
      "INVALID_PARAMS: idempotent must be true or false, and is a string",
      ...["0", "-1", "1.5", "nan", "false", "nil"].map((name) =>
        `INVALID_PARAMS: a command is called by its name, and this is ${name}`
      ),
    ]);
  },
);
