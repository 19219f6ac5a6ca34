/** The pool of the OpenResty client: which connections it keeps, who gets them, and its options. */

import { assertEquals } from "@std/assert";
import { connect } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import {
  LUAJIT,
  LUAJIT_PACKAGES,
  next,
  NGINX,
  NGINX_PACKAGES,
  saidBy,
  startLua,
  testInLua,
  withScript,
} from "./lua.ts";
import { accepted, serveHolds } from "./lua_servers.ts";
import { testWith } from "./programs.ts";

testWith(NGINX_PACKAGES, "in nginx, a call that is made while close() waits opens another connection", async () => {
  const said = await withScript(
    NGINX,
    `
    local connection = client:connection()
    local held = connection:start("HOLD")
    local closing = ngx.thread.spawn(function() connection:close() end)
    say(tell(connection:call("NEXT")))
    say(tell(held:wait()))
    ngx.thread.wait(closing)
    connection:close()`,
    async (accept) => {
      const old = await accept();
      const held = await next(old);
      assertEquals(await next(old), { cmd: 0, seq: held.seq, cancel: true }); // no answer
      const fresh = await accept();
      await fresh.reply({ seq: (await next(fresh)).seq, res: "next" });
      assertEquals([await old.message(), await fresh.message()], [undefined, undefined]);
    },
  );
  assertEquals(said, ["next", "CANCELLED: it was closed here"]);
});

testWith(NGINX_PACKAGES, "in nginx, set_keepalive() gives the connection to the next request", async () => {
  await using server = await serveHolds();
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        local client = require("resty.packline").new { port = ${server.port} }
        local connection = client:connection()
        local first, second = connection:start("PING"), connection:start("PING")
        ngx.print(second:wait().res, " ", first:wait().res)
        if ngx.var.arg_open then connection:start("HOLD") end
        connection:set_keepalive()
      }
    }`,
  );
  const get = async (path: string) => await (await fetch(url + path)).text();
  for (let count = 0; count < 5; count++) assertEquals(await get("/"), "PONG PONG");
  assertEquals(accepted(server), 1);
  assertEquals(await get("/?open=1"), "PONG PONG"); // closed: a call is open
  assertEquals(await get("/"), "PONG PONG");
  assertEquals(accepted(server), 2);
  while (server.holds[0] === "held") await get("/");
});

testWith(NGINX_PACKAGES, "in nginx, a connection of another request is refused as long as that goes on", async () => {
  await using server = await serveHolds();
  await using owned = new AsyncDisposableStack();
  const { url } = await startLua(
    owned,
    `location / {
      content_by_lua_block {
        local _, reply = pcall(shared.call, shared, ngx.var.arg_cmd)
        ngx.print(type(reply) == "table" and reply.res or reply)
      }
    }`,
    {
      http: `init_worker_by_lua_block {
        shared = require("resty.packline").new { port = ${server.port} }:connection() -- a mistake
      }`,
    },
  );
  const get = async (cmd: string) => await (await fetch(`${url}/?cmd=${cmd}`)).text();
  await using other = await connect({ port: server.port });
  const held = get("HOLD");
  while (server.holds.length === 0) await other.call.PING();
  assertEquals(
    await get("PING"),
    "this connection belongs to another request or timer; make one for each by client:connection()",
  );
  await other.call.RELEASE();
  assertEquals(await held, "held");
  assertEquals(await get("PING"), "PONG"); // nginx has closed it, and this call opens another
});

testWith(LUAJIT_PACKAGES, "under LuaJIT, set_keepalive() closes: nobody would read the notices", async () => {
  await using server = await serveHolds();
  const said = await saidBy(
    LUAJIT,
    server.port,
    `
    for _ = 1, 2 do
      local connection = client:connection()
      say(tell(connection:call("PING")))
      connection:set_keepalive()
    end
    say(client:call("STATS").res.connections.accepted)`,
  );
  assertEquals(said, ["PONG", "PONG", "3"]);
});

testInLua("numbers of the environment, which are text, configure a client", async (world) => {
  await using server = await serve({ port: 0 });
  const said = await saidBy(
    world,
    server.port,
    `
    local options = { port = "${server.port}", bytes_max = "60000", alive = "5000", pool_size = "4", keepalive = "60000" }
    local texts = packline.new(options)
    for _ = 1, 2 do say(tell(texts:call("PING"))) end
    say(tell(texts:connection():call("PING")))
    say(type(options.port))`,
  );
  assertEquals(said, ["PONG", "PONG", "PONG", "string"]);
});

testInLua("no connection is kept in a pool of 0, or for 0 ms", async (world) => {
  await using server = await serve({ port: 0 });
  const said = await saidBy(
    world,
    server.port,
    `
    for _, option in ipairs { "pool_size", "keepalive" } do
      local forgetful = packline.new { port = ${server.port}, [option] = 0 }
      say(tell(forgetful:call("PING")))
      say(tell(forgetful:call("PING")))
    end`,
  );
  assertEquals(said, Array(4).fill("PONG"));
  assertEquals(accepted(server), 4);
});
