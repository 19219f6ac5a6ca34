/** The OpenResty client with calls of all kinds, in a random order on one connection, in nginx and under plain LuaJIT. */

import { assertEquals } from "@std/assert";
import { serve } from "../support/demo_server.ts";
import { newSeed } from "../support/random.ts";
import { saidBy, testInLua } from "./lua.ts";

/** Calls of all kinds, started and waited for in a random order; in nginx, each waits in a light thread. */
const RANDOM_CALLS = `
  local random, connection, wrong = math.random, client:connection(), 0
  local function check(holds, kind, failure)
    if holds then return end
    wrong = wrong + 1
    say(kind .. ": " .. tostring(failure))
  end
  local function fails(call, code)
    local _, failure = call:wait()
    check(failure and failure.code == code, code, failure)
  end
  local function upTo(count)
    local n = 0
    return function()
      n = n + 1
      if n <= count then return n end
    end
  end
  local kinds = {
    function()
      local text = ("x"):rep(random(1, 200000))
      local call = connection:start("ECHO", { data = text })
      return function()
        local reply, failure = call:wait()
        check(reply and reply.res == text, "ECHO", failure)
      end
    end,
    function()
      local call = connection:start("DELAY", { sleep = 3600 })
      return function()
        call:close()
        fails(call, "CANCELLED")
      end
    end,
    function()
      local call = connection:start("DELAY", { sleep = 3600 }, { timeout = 500 })
      return function() fails(call, "TIMEOUT") end
    end,
    function()
      local count, leave = random(0, 60), random(1, 120)
      local ticks = connection:stream("TICK", { count = count, interval = 0 }, { credit = random(1, 9) })
      return function()
        local taken = 0
        for _ in ticks do
          taken = taken + 1
          if taken == leave then
            ticks:close()
            break
          end
        end
        check(taken == math.min(count, leave) and (taken == leave or not ticks.failure), "TICK", ticks.failure)
      end
    end,
    function()
      local count = random(0, 200)
      local call = connection:start("TALLY", {}, { items = upTo(count) })
      return function()
        local reply, failure = call:wait()
        check(reply and reply.res.items == count, "TALLY", failure)
      end
    end,
    function()
      local count, taken = random(0, 100), 0
      local echo = connection:stream("ECHO", {}, { items = upTo(count) })
      return function()
        for _ in echo do taken = taken + 1 end
        check(taken == count and not echo.failure, "ECHO of items", echo.failure)
      end
    end,
    function()
      local call = connection:start("TICK", { interval = 0 })
      return function() fails(call, "BAD_REPLY") end
    end,
  }
  local open = {}
  local function settle()
    local finish = table.remove(open, random(#open))
    if ngx then assert(ngx.thread.wait(finish)) else finish() end
  end
  for _ = 1, 100 do
    local finish = kinds[random(#kinds)]()
    table.insert(open, ngx and ngx.thread.spawn(finish) or finish)
    while #open > 0 and random() < #open / 60 do settle() end
  end
  while #open > 0 do settle() end
  say(wrong)
  connection:close()`;

testInLua("100 calls of all kinds in a random order each get their own end, on one connection", async (world) => {
  await using server = await serve({ port: 0 });
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const said = await saidBy(world, server.port, `math.randomseed(${seed}) ${RANDOM_CALLS}`);
  assertEquals(said, ["0"]);
  assertEquals(server.statistics().connections.accepted, 1);
});
