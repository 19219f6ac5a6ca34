--[[
A client of packline for OpenResty, over cosockets, and for plain LuaJIT, over LuaSocket.

    local packline = require "packline"
    local client = packline.new { host = "127.0.0.1", port = 1235, timeout = 5000 }
    local reply, failure = client:call("DELAY", { sleep = 2 }, { timeout = 3000, idempotent = true })
    if reply then print(reply.res, reply.slept) else print(failure.code, failure.msg, failure.retryable) end

    local ticks = client:stream("TICK", { count = 3 }) -- a command that answers with a stream
    for tick in ticks do print(tick) end -- to leave this loop early, call ticks:close() before
    if ticks.reply then print(ticks.reply.res) else print(ticks.failure.code) end

    reply, failure = client:call("TALLY", {}, { items = { "a", "b" } }) -- a stream to a command

In: a command's number or name, its parameters, and `timeout` (ms, for the whole call; 0 means no time is left,
math.huge no limit), `meta`, `idempotent`, `items` (a list, or a function that returns the next item), and for a stream
`credit` (how many items may be under way). Out: the reply as a table; or nil and a failure: `code`, `msg`, `data`, and
`retryable`, which means that the command was certainly not started. TIMEOUT and CONNECTION_LOST mean that there is no
reply. Refused: parameters and items that cannot be sent (INVALID_PARAMS), and invalid replies (BAD_REPLY). All other
codes come from the server. In a phase of nginx without cosockets (init, init_worker, set, header and body filters, log)
a call fails with CONNECTION_LOST; there, call in a timer: `ngx.timer.at(0, ...)`.

A connection serves one call at a time and returns to the pool only if nothing is outstanding: after a valid, complete
reply in time, and with nothing half sent; otherwise it is closed. A connection from the pool may be stale, because the
server has closed it. A call is sent again, on another connection, if its frame was not sent completely or the server
replied SHUTTING_DOWN (it was not started, either way), or if it is marked `idempotent`; but not once an item has come
or more items than the first were asked for. Otherwise its caller gets CONNECTION_LOST and decides.

MessagePack and Lua: an empty table is sent as an array, unless it is a `packline.map {}`. A string is sent as text and
must be UTF-8, unless it is a `packline.binary(bytes)`; both are received as strings. nil and null are received as
nothing; an item that is null is `packline.null`, because nil ends a loop. A whole number is sent as an integer, any
other as a double; integers beyond 2^53 lose their last digits.
]]

local Call = require "packline.calls"
local messages = require "packline.messages"

local CREDIT = 16 -- items of a stream under way

local Client = {}
Client.__index = Client

-- Calls a command. Returns its reply, or nil and the failure.
function Client:call(cmd, params, options) return self:start(cmd, params, options):wait() end

-- The same in two steps: `wait()` calls, and `close()` cancels it, from its source of items or from a light thread.
function Client:start(cmd, params, options) return Call.new(self, cmd, params, options or {}) end

-- Calls a command that answers with a stream. Returns an iterator, which sends the request when it is first called.
function Client:stream(cmd, params, options)
  options = options or {}
  return Call.new(self, cmd, params, options, options.credit or CREDIT)
end

local packline = { binary = messages.binary, map = messages.map, null = messages.null }

-- A client: an address and its options. It has no connection, so one can serve all requests of a worker.
function packline.new(options)
  local client = setmetatable({
    host = options.host or "127.0.0.1", -- a name or an address; IPv6 with or without brackets
    port = options.port or 1235,
    path = options.path, -- of a unix socket, instead of host and port
    timeout = options.timeout or 30000, -- ms
    bytes_max = options.bytes_max or messages.SHORT_BYTES_MAX, -- of a payload, both ways; above the default in long frames
    pool_size = options.pool_size or 32, -- idle connections, for each worker
    keepalive = options.keepalive or 60000, -- ms; the server closes a connection after 300 s of silence
  }, Client)
  client.host = client.host:gsub("^%[(.*)%]$", "%1")
  client.bracketed = client.host:find(":", 1, true) and "[" .. client.host .. "]" or client.host
  client.address = client.path and "unix:" .. client.path or client.bracketed .. ":" .. client.port
  client.pool = client.address .. ":" .. client.bytes_max
  local asks = client.bytes_max > messages.SHORT_BYTES_MAX
  client.greeting = asks and messages.to_frame({ cmd = 0, max = client.bytes_max }, messages.SHORT_BYTES_MAX) or ""
  return client
end

return packline
