/** The conformance kit, and the clients of this project: packline's own and the Lua client pass, through their drivers. */

import { assertEquals } from "@std/assert";
import { testWith } from "../production/programs.ts";
import { checkClient } from "./client_kit.ts";
import { linesOf } from "./report.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";

const here = new URL(".", import.meta.url).pathname;

Deno.test("packline's client passes every scenario", async () => {
  const program = `${here}drivers/packline.ts`;
  const command = [Deno.execPath(), "run", "--no-prompt", "--no-check", "--allow-net=127.0.0.1", program];
  const outcomes = await checkClient(command);
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assertEquals(outcomes.length, SCENARIOS.length);
});

/** What LuaJIT cannot do, which waits for one call at a time and has a pool in place of a close. */
const SKIPPED_IN_LUA = [
  "LuaJIT makes one call at a time",
  "LuaJIT waits for its call",
  "the Lua client cannot be closed",
];

testWith(
  ["luajit2", "lua-messagepack", "lua-cjson", "lua-socket"],
  "the Lua client passes the scenarios of levels 1 and 3",
  async () => {
    const command = ["luajit", `${here}drivers/packline.lua`, `${here}../../examples/openresty`];
    const outcomes = await checkClient(command, { level: 3 });
    const skipped = outcomes.filter(({ result }) => result === "skipped");
    const allowed = ({ detail }: { detail: string }) => SKIPPED_IN_LUA.some((reason) => detail.startsWith(reason));
    assertEquals(outcomes.filter(({ result }) => result === "failed"), [], linesOf(outcomes).join("\n"));
    assertEquals(skipped.filter((outcome) => outcome.level !== 2 && !allowed(outcome)), []);
    assertEquals(skipped.length, 15);
  },
);
