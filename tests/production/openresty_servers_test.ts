/** Several servers, phases and time of the OpenResty client: in nginx, and under plain LuaJIT as far as it can. */

import { assert, assertEquals } from "@std/assert";
import { Certificates } from "./certificates.ts";
import { LUAJIT_PACKAGES, NGINX, NGINX_PACKAGES, startLua, testInLua } from "./lua.ts";
import { serveAs, TELL } from "./lua_servers.ts";
import { Folder, root, run, testWith } from "./programs.ts";

/** A port where connections are accepted and closed at once, and how many there were. */
class ClosingServer implements AsyncDisposable {
  dials = 0;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #closing = (async () => {
    for await (const conn of this.#listener) {
      this.dials++;
      conn.close();
    }
  })();

  get address(): string {
    return `127.0.0.1:${this.#listener.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#closing;
  }
}

// Several servers ------------------------------------------------------------------------------------------------------

testInLua("calls go to several servers, and not to one that is not there", async (world) => {
  await using a = await serveAs("a");
  await using b = await serveAs("b");
  const said = await world.run(`
    local client = packline.new { servers = { "127.0.0.1:1", "127.0.0.1:${a.port}", "127.0.0.1:${b.port}" } }
    local counts = { a = 0, b = 0 }
    local streams = {}
    for _ = 1, 40 do
      local stream = client:stream("TICK", { interval = 3600 })
      assert(stream() == 1, tostring(stream.failure))
      table.insert(streams, stream)
    end
    for _, stream in ipairs(streams) do stream:close() end
    for _ = 1, 10 do local name = client:call("NAME").res counts[name] = counts[name] + 1 end
    say(counts.a + counts.b)`);
  assertEquals(said, "10\n");
  const [ofA, ofB] = [a, b].map((server) => server.statistics().connections.accepted);
  assert(Math.min(ofA, ofB) >= 15, `${ofA} and ${ofB} streams at once`);
});

testInLua("if none is there, each is tried, and the failure names the last", async (world) => {
  const said = await world.run(`${TELL}
    local client = packline.new { servers = { "127.0.0.1:1", "127.0.0.1:2", "unix:/nowhere.sock" } }
    local reply, failure = client:call("PING")
    say(failure.code .. " " .. tostring(failure.retryable))
    for _, servers in ipairs { { "a:b:c" }, { "" }, {}, { "::1" } } do say((pcall(packline.new, { servers = servers }))) end
    say((pcall(packline.new, { servers = { "a" }, port = 1 })))`);
  assertEquals(said, "CONNECTION_LOST true\n" + "false\n".repeat(5));
});

testInLua("a server that does not answer a dial leaves time for another", async (world) => {
  // Where two connections wait to be accepted, the system answers no third one.
  using deaf = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 });
  using _first = await Deno.connect({ port: deaf.addr.port });
  using _second = await Deno.connect({ port: deaf.addr.port });
  await using a = await serveAs("a");
  const said = await world.run(`${TELL}
    local client = packline.new { servers = { "127.0.0.1:${deaf.addr.port}", "127.0.0.1:${a.port}" }, timeout = 1000 }
    for _ = 1, 4 do say(tell(client:call("NAME"))) end
    say(tell(packline.new { port = ${deaf.addr.port}, timeout = 100 }:call("NAME")))`);
  assertEquals(said, "a\n".repeat(4) + `TIMEOUT: cannot reach 127.0.0.1:${deaf.addr.port}: timeout\n`);
});

testInLua("a call that one server refuses unstarted goes to another", async (world) => {
  await using full = await serveAs("full", { maxConnections: 1 });
  await using a = await serveAs("a");
  using _held = await Deno.connect({ port: full.port });
  const said = await world.run(`${TELL}
    local client = packline.new { servers = { "127.0.0.1:${full.port}", "127.0.0.1:${a.port}" } }
    for _ = 1, 10 do say(tell(client:call("NAME"))) end`);
  assertEquals(said, "a\n".repeat(10));
});

/** Rules of `servers.lua`, with a clock that stands still. */
const RULES = `
  local time, nanoseconds = 1000000, 0
  package.loaded["resty.packline.clock"] = {
    now = function() return time end,
    nanoseconds = function() nanoseconds = nanoseconds + 7919 return nanoseconds end,
    when_forgotten = function(action) return action end,
  }
  local servers = require "resty.packline.servers"
  local a, b = { name = "a", in_flight = 0 }, { name = "b", in_flight = 0 }
  local function share(calls)
    local count = 0
    for _ = 1, calls or 100 do if servers.choose({ a, b }, {}) == a then count = count + 1 end end
    return count
  end`;

testWith(LUAJIT_PACKAGES, "a failed server sits out; then one call tries it, and success ends that", async () => {
  const code = `package.path = "${root}examples/openresty/lib/?.lua;" .. package.path ${RULES}
    print(share() > 20, share() < 80)
    local pauses = {}
    for n = 1, 12 do
      servers.failed(a, time)
      servers.failed(a, time - 1) -- another call, which began before
      local sat_out = 0
      while share(20) == 0 do time = time + 1 sat_out = sat_out + 1 end
      assert(share(20) == 0) -- one of the calls tries it
      pauses[n] = sat_out
    end
    print(pauses[1] <= 50, math.max(unpack(pauses)) > 500, math.max(unpack(pauses)) <= 2000)
    servers.returned(a)
    print(share() > 0)
    servers.failed(a, time)
    time = time + 20000
    servers.failed(a, time, true) -- had answered: a short pause
    local sat_out = 0
    while share(20) == 0 do time = time + 1 sat_out = sat_out + 1 end
    print(sat_out <= 500)
    b.in_flight = 5
    time = time + 30000
    print(share())
    print(servers.choose({ a, b }, { [a] = true }) == b)
    servers.failed(a, time) servers.failed(b, time)
    print(servers.choose({ a, b }, {}) ~= nil)`;
  const expected = ["true\ttrue", "true\ttrue\ttrue", "true", "true", "100", "true", "true", ""].join("\n");
  assertEquals(await run("luajit", ["-e", code]), { code: 0, text: expected });
});

testWith(LUAJIT_PACKAGES, "retries wait as the server says or with chance, and have a budget", async () => {
  const code = `package.path = "${root}examples/openresty/lib/?.lua;" .. package.path ${RULES}
    for _ = 1, 100 do
      local wait = servers.wait_ms({ code = "OVERLOADED", after = 1000 }, 0)
      assert(wait >= 1000 and wait <= 1200)
      assert(servers.wait_ms({ code = "OVERLOADED" }, 0) <= 50)
      assert(servers.wait_ms({ code = "OVERLOADED" }, 20) <= 2000)
      assert(servers.wait_ms({ code = "SHUTTING_DOWN" }, 3) == 0)
    end
    local budget, taken = servers.new_budget(), 0
    while budget:take() do taken = taken + 1 end
    time = time + 1000
    while budget:take() do taken = taken + 1 end
    for _ = 1, 11 do budget:called() end
    while budget:take() do taken = taken + 1 end
    print(taken)`;
  assertEquals(await run("luajit", ["-e", code]), { code: 0, text: "112\n" });
});

testWith(NGINX_PACKAGES, "in nginx, a call that is ended where it waits is counted no more", async () => {
  await using server = await serveAs("a");
  const said = await NGINX.run(`
    local client = packline.new { port = ${server.port} }
    local waiting = ngx.thread.spawn(function() client:call("DELAY", { sleep = 60 }) end)
    say(client.servers[1].in_flight)
    ngx.thread.kill(waiting)
    waiting = nil
    client:call("PING")
    collectgarbage()
    collectgarbage()
    say(client.servers[1].in_flight)`);
  assertEquals(said, "1\n0\n");
});

/** Asks over new connections until each of two workers of nginx has answered. */
async function untilBoth(url: string, check: (text: string) => void): Promise<void> {
  const workers = new Set<string>();
  for (let tries = 0; workers.size < 2; tries++) {
    assert(tries < 200, "one worker of nginx answers everything");
    using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
    const [worker, text] = (await (await fetch(url, { client })).text()).trim().split(" ");
    workers.add(worker);
    check(text);
  }
}

for (const shared of [true, false]) {
  const name = shared
    ? "what one worker of nginx knows of failures, all know"
    : "without lua_shared_dict, each worker knows its own";
  testWith(NGINX_PACKAGES, name, async () => {
    await using closing = new ClosingServer();
    await using a = await serveAs("a");
    await using owned = new AsyncDisposableStack();
    const { url } = await startLua(
      owned,
      `location /fail {
        content_by_lua_block {
          local servers, now = require "resty.packline.servers", require("resty.packline.clock").now
          local client = require("resty.packline").new { servers = { "${closing.address}", "127.0.0.1:${a.port}" } }
          local failing, ends = client.servers[1], 0
          repeat -- pauses are random: until one outlasts the test
            servers.failed(failing, now() + 1)
            local text = ngx.shared.packline and ngx.shared.packline:get(failing.name) or "1 9e9"
            ends = tonumber(text:match("^%d+ (%S+)"))
          until ends - now() > 2000
          ngx.say(ngx.worker.pid())
        }
      }
      location / {
        content_by_lua_block {
          local client = require("resty.packline").new { servers = { "${closing.address}", "127.0.0.1:${a.port}" } }
          for _ = 1, 20 do client:call("NAME") end
          local answer
          repeat answer = client:call("NAME") until answer -- a pause that only one worker knows may be over
          ngx.say(ngx.worker.pid(), " ", answer.res)
        }
      }`,
      { workers: 2, http: shared ? "lua_shared_dict packline 100k;" : "" },
    );
    await (await fetch(`${url}/fail`)).text();
    await untilBoth(url, (text) => assertEquals(text, "a"));
    if (shared) assertEquals(closing.dials, 0);
    else assert(closing.dials > 0);
  });
}

// Streams that go on ---------------------------------------------------------------------------------------------------

testInLua("a stream knows the id of its last item, and another goes on from there", async (world) => {
  await using server = await serveAs("a");
  const said = await world.run(`
    local client = packline.new { port = ${server.port} }
    local stream = client:stream("TWO")
    for item in stream do say(item) end
    say(stream.failure.code .. " " .. stream.id)
    stream = client:stream("TWO", { after = stream.id })
    for item in stream do say(item) end
    say(stream.id .. " " .. tostring(stream.failure))
    say(tostring(client:stream("TWO", { after = 9 }).id))`);
  assertEquals(said, "item 1\nitem 2\nINTERNAL 2\nitem 3\nitem 4\n4 nil\nnil\n");
});

// Phases ---------------------------------------------------------------------------------------------------------------

testWith(
  [...NGINX_PACKAGES, "openssl"],
  "a call works in all phases with sockets, and says so in the others",
  async () => {
    await using certificates = await Certificates.begin();
    const { certPath, keyPath } = await certificates.selfSigned();
    await using folder = await Folder.make();
    await using server = await serveAs("a");
    await using owned = new AsyncDisposableStack();
    const call = `${TELL}
    local function call()
      local client = require("resty.packline").new { port = ${server.port} }
      local total = 0
      if client:call("PING") then -- a stream as well, with its light threads
        for item in client:stream("ECHO", {}, { items = { 1, 2 } }) do total = total + item end
      end
      return tell(client:call("PING")) .. " " .. total
    end`;
    const log = (phase: string) => `${call} ngx.log(ngx.NOTICE, "in ${phase}: ", call(), ".")`;
    const { program, url } = await startLua(
      owned,
      `listen unix:${folder.path}/tls.sock ssl;
    ssl_certificate ${certPath};
    ssl_certificate_key ${keyPath};
    ssl_protocols TLSv1.2;
    ssl_session_tickets off;
    ssl_certificate_by_lua_block { ${log("ssl_certificate")} }
    server_rewrite_by_lua_block { ${log("server_rewrite")} }
    location / {
      set_by_lua_block $early { ${log("set")} return "" }
      rewrite_by_lua_block { ${log("rewrite")} }
      access_by_lua_block { ${log("access")} }
      content_by_lua_block { ${log("content")} ngx.say("done") }
      header_filter_by_lua_block { ${log("header_filter")} }
      body_filter_by_lua_block { if ngx.arg[2] then ${log("body_filter")} end }
      log_by_lua_block { ${log("log")} }
    }
    location /proxied { proxy_pass http://behind; }`,
      {
        http: `
        init_by_lua_block { ${log("init")} }
        init_worker_by_lua_block {
          ${log("init_worker")}
          ngx.timer.at(0, function() ${log("timer")} end)
        }
        exit_worker_by_lua_block { ${log("exit_worker")} }
        ssl_session_store_by_lua_block { ${log("ssl_session_store")} }
        upstream behind { server 0.0.0.1; balancer_by_lua_block { ${log("balancer")} ngx.exit(500) } }`,
      },
    );
    assertEquals(await (await fetch(url)).text(), "done\n");
    await (await fetch(`${url}/proxied`)).text();
    await run("openssl", ["s_client", "-unix", `${folder.path}/tls.sock`, "-reconnect", "-tls1_2"]);
    const phases = [
      "server_rewrite",
      "rewrite",
      "access",
      "content",
      "timer",
      "ssl_certificate",
    ];
    for (const phase of phases) {
      assertEquals(
        (await program.hear(new RegExp(`in ${phase}: (.*?)\\.[, ]`)))[1],
        "PONG 3",
        phase,
      );
    }
    for (
      const phase of [
        "set",
        "header_filter",
        "body_filter",
        "log",
        "init",
        "init_worker",
        "balancer",
        "ssl_session_store",
      ]
    ) {
      const [, text] = await program.hear(new RegExp(`in ${phase}: (CONNECTION_LOST.*?) 0\\.`));
      const advice = {
        init: "call in a timer that init_worker starts",
        balancer: "call in access_by_lua, and keep the answer in ngx.ctx",
      };
      const reason = phase === "init" ? "it is init_by_lua*" : `API disabled in the context of ${phase}_by_lua*`;
      assertEquals(
        text,
        `CONNECTION_LOST: cannot reach 127.0.0.1:${server.port}: this phase of nginx has no sockets (${reason}); ` +
          `${advice[phase as "init"] ?? "call in a timer"}`,
      );
    }
  },
);

// Time -----------------------------------------------------------------------------------------------------------------

testWith(NGINX_PACKAGES, "in nginx, a deadline goes on while Lua computes", async () => {
  await using server = await serveAs("a");
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        local client = require("resty.packline").new { port = ${server.port} }
        local clock = require "resty.packline.clock"
        client:call("PING")
        local call = client:start("DELAY", { sleep = 60 }, { timeout = 300 })
        local cached, began = ngx.now() * 1000, clock.now()
        repeat until clock.now() - began > 200 -- a handler that computes 200 ms
        local took = clock.now() - began
        ngx.say(math.floor(took - (ngx.now() * 1000 - cached)))
        ngx.say(select(2, call:wait()).code)
        ngx.say(math.floor(clock.now() - began))
      }
    }`,
  );
  const [error, outcome, took] = (await (await fetch(url)).text()).trimEnd().split("\n");
  assert(Number(error) >= 199, `what nginx has cached is ${error} ms late`);
  assertEquals(outcome, "TIMEOUT");
  assert(Number(took) >= 290 && Number(took) < 450, `a call of 300 ms took ${took} ms`);
  console.log(
    `what nginx has cached is ${error} ms late after 200 ms; a call of 300 ms, begun before, took ${took} ms`,
  );
});
