/** The conformance kit, and the clients of this project: packline's own and the Lua client pass, through their drivers. */

import { assertEquals } from "@std/assert";
import { LUAJIT_PACKAGES, NGINX_PACKAGES, startLua } from "../production/lua.ts";
import { testWith } from "../production/programs.ts";
import { checkClient } from "./client_kit.ts";
import { linesOf } from "./report.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";

const here = new URL(".", import.meta.url).pathname;

const OWN_CLIENTS: Record<string, string[]> = { "packline's client": [], "the browser's client": ["--web"] };

for (const [name, args] of Object.entries(OWN_CLIENTS)) {
  Deno.test(`${name} passes every scenario`, async () => {
    const program = `${here}drivers/packline.ts`;
    const command = [Deno.execPath(), "run", "--no-prompt", "--no-check", "--allow-net=127.0.0.1", program, ...args];
    await passesAll(command);
  });
}

const LUA_DRIVER = `${here}drivers/packline.lua`;

async function passesAll(command: string[]): Promise<void> {
  const outcomes = await checkClient(command);
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assertEquals(outcomes.length, SCENARIOS.length);
}

testWith(LUAJIT_PACKAGES, "under LuaJIT, the Lua client passes every scenario", async () => {
  await passesAll(["luajit", LUA_DRIVER, `${here}../../examples/openresty`]);
});

testWith([...NGINX_PACKAGES, "lua-socket"], "in nginx, the Lua client passes every scenario", async () => {
  await using owned = new AsyncDisposableStack();
  const location = `location / { content_by_lua_file ${LUA_DRIVER}; }`;
  const { url } = await startLua(owned, location);
  // One request is the whole run: behind its header come the steps, and its answers are the driver's.
  const code = `
    local socket = require("socket").connect("127.0.0.1", ${new URL(url).port})
    socket:send("GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    for line in io.lines() do
      socket:send(line .. "\\n")
      print((socket:receive("*l")))
      io.flush()
    end
    socket:close()`;
  await passesAll(["luajit", "-e", code]);
});
