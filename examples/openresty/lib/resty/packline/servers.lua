--[[
The servers of packline.lua: which server takes the next call, which servers have failed, and how long to wait before a
call is sent again.

In: a client's servers, and the outcomes of calls to them. Out: a server; a wait in milliseconds. Refused: nothing. If
all servers have failed, the call tries the server whose pause ends first: no call waits for a server to return.

A failure is remembered in `lua_shared_dict packline`, for all workers of nginx; without it, separately in each worker.
The pauses are the same as in packline's own client. After a pause, one call tries the server, and the others wait for
the result.
]]

local clock = require "resty.packline.clock"

local floor, max, min, now = math.floor, math.max, math.min, clock.now

local FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 50, 2000 -- after a failure; doubles with each further failure
local AFTER_LOSS_MS = 500 -- after the first loss of a connection that had answered
local FORGIVEN_AFTER_MS = 10000 -- without a failure
local TRIAL_MS = 10000 -- how long other calls wait for the call that tries
local SPREAD = 0.2 -- many callers get the same time from a server

local RETRIES_PER_CALL, RETRIES_PER_SECOND, RETRIES_MAX = 0.2, 10, 100 -- for all calls of a worker to the same servers

local servers = {}

-- A number from 0 to 1. Workers of nginx are copies of one process, so math.random() returns the same numbers in all.
local seed = 1
local function random()
  seed = (seed * 16807 + clock.nanoseconds()) % 2147483647
  return seed / 2147483647
end

local function below(count) return min(count - 1, floor(random() * count)) end

-- Failures, by server name -------------------------------------------------------------------------------------------

local in_worker = {}
local memory = ngx and ngx.shared and ngx.shared.packline
  or {
    get = function(_, name) return in_worker[name] end,
    set = function(_, name, value) in_worker[name] = value end,
  }

-- Failures in a row, the end of the pause, and when the last one was noted; nil if there is nothing to remember.
local function recall(server)
  local failures, pause_end, noted = (memory:get(server.name) or ""):match("^(%d+) (%d+) (%d+)$")
  if not failures or now() > pause_end + FORGIVEN_AFTER_MS then return nil end
  return tonumber(failures), tonumber(pause_end), tonumber(noted)
end

local function remember(server, failures, pause_ms, noted)
  local text = ("%d %.0f %.0f"):format(failures, now() + pause_ms, noted)
  memory:set(server.name, text, (pause_ms + FORGIVEN_AFTER_MS) / 1000)
end

-- A server could not be reached, or its connection was lost. Calls that fail together count as one failure: `began` is
-- when the call began.
function servers.failed(server, began, had_answered)
  local failures, _, noted = recall(server)
  if noted and noted >= began then return end
  if had_answered and not failures then return remember(server, 0, random() * AFTER_LOSS_MS, now()) end
  failures = failures or 0
  remember(server, failures + 1, random() * min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ^ failures), now())
end

-- The server has answered the call that tried it.
function servers.returned(server)
  local failures, _, noted = recall(server)
  if failures then remember(server, failures, 0, noted) end
end

-- The choice ---------------------------------------------------------------------------------------------------------

-- The servers that are not in a pause and not in `avoided`; and the paused server whose pause ends first.
local function ready(list, avoided)
  local found, soonest, soonest_end = {}, nil, math.huge
  for _, server in ipairs(list) do
    if not avoided[server] then
      local _, pause_end = recall(server)
      if not pause_end or pause_end <= now() then
        table.insert(found, server)
      elseif pause_end < soonest_end then
        soonest, soonest_end = server, pause_end
      end
    end
  end
  return found, soonest
end

-- The server for a call: of two random servers, the one with fewer calls of this worker. The second result is true if
-- this call tries a server that has failed. `avoided` has the servers that have just failed or refused this call.
function servers.choose(list, avoided)
  if #list == 1 then return list[1], recall(list[1]) ~= nil end
  local found, soonest = ready(list, avoided)
  if #found == 0 and not soonest then found, soonest = ready(list, {}) end
  local first = below(#found)
  local server = found[first + 1] or soonest
  if #found > 1 then
    local other = found[(first + 1 + below(#found - 1)) % #found + 1]
    if other.in_flight < server.in_flight then server = other end
  end
  local failures, _, noted = recall(server)
  if failures then remember(server, failures, TRIAL_MS, noted) end
  return server, failures ~= nil
end

-- Counts a call of a server. Returns a function that ends the count, which also ends when this function is
-- garbage-collected: nginx ends light threads without notice.
function servers.count(server)
  server.in_flight = server.in_flight + 1
  return clock.when_forgotten(function() server.in_flight = server.in_flight - 1 end)
end

-- Retries ------------------------------------------------------------------------------------------------------------

-- The wait before a refused call is sent again, by the number of its refusals.
function servers.wait_ms(failure, refusals)
  if failure.after and failure.after > 0 then return failure.after * (1 + SPREAD * random()) end
  if failure.code ~= "OVERLOADED" then return 0 end -- only this server is about to end
  return random() * min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ^ refusals)
end

-- The budget for all retries of a worker, so that retries do not make an outage worse.
local Budget = {}
Budget.__index = Budget

function servers.new_budget() return setmetatable({ left = RETRIES_MAX, last = now() }, Budget) end

function Budget:called() self.left = self.left + RETRIES_PER_CALL end

-- Takes one retry out of the budget, if there is one.
function Budget:take()
  local time = now()
  self.left = min(RETRIES_MAX, self.left + max(0, time - self.last) / 1000 * RETRIES_PER_SECOND)
  self.last = time
  if self.left < 1 then return false end
  self.left = self.left - 1
  return true
end

return servers
