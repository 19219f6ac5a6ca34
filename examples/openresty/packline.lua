--[[
A client of packline for OpenResty, over cosockets, and for plain LuaJIT, over LuaSocket.

    local packline = require "packline"
    local client = packline.new { host = "127.0.0.1", port = 1235, timeout = 5000 }
    local reply, failure = client:call("DELAY", { sleep = 2 }, { timeout = 3000, idempotent = true })
    if reply then print(reply.res, reply.slept) else print(failure.code, failure.msg, failure.retryable) end

In: a command's number or name, its parameters, and `timeout` (ms, for the whole call; 0 means no time is left,
math.huge no limit), `meta`, `idempotent`. Out: the reply as a table; or nil and a failure: `code`, `msg`, `data`, and
`retryable`, which means that the command was certainly not started. TIMEOUT and CONNECTION_LOST mean that there is no
reply. Refused: parameters that cannot be sent (INVALID_PARAMS), and invalid replies (BAD_REPLY). All other codes come
from the server. In a phase of nginx without cosockets (init, init_worker, set, header and body filters, log) a call
fails with CONNECTION_LOST; there, call in a timer: `ngx.timer.at(0, ...)`.

A connection serves one call at a time and returns to the pool only after a valid, complete reply in time; otherwise it
is closed. A connection from the pool may be stale, because the server has closed it. A call is sent again, on another
connection, if its frame was not sent completely or the server replied SHUTTING_DOWN (it was not started, either way),
or if it is marked `idempotent`. Otherwise its caller gets CONNECTION_LOST and decides.

MessagePack and Lua: an empty table is sent as an array, unless it is a `packline.map {}`. A string is sent as text and
must be UTF-8, unless it is a `packline.binary(bytes)`; both are received as strings. nil and null are received as
nothing. A whole number is sent as an integer, any other as a double; integers beyond 2^53 lose their last digits.
]]

local char, floor, ceil, max, min = string.char, math.floor, math.ceil, math.max, math.min

local SHORT_BYTES_MAX = 57310 -- the largest payload of a short frame
local LONG_MARK = "\31\31" -- how a long frame begins
local TIMER_MS_MAX = 2147483647 -- the longest time that nginx can wait
local PATIENCE_MS = 50 -- after the deadline: if the server reports it in this time, the connection is kept
local FRESH_TRIES = 2 -- new connections for one call, at most
local RESERVED = { cmd = true, seq = true, ttl = true, meta = true, credit = true }

-- Sockets: everything that differs between nginx and LuaSocket.
local sockets = {}
if ngx then
  -- Wall clock time. nginx reads the clock once for all events of a round, so after Lua has computed it is late.
  function sockets.now()
    ngx.update_time()
    return ngx.now() * 1000
  end

  function sockets.set_timeout(socket, ms) socket:settimeout(ms) end

  -- A connection, and whether it has been used before.
  function sockets.connect(client, ms)
    local made, socket = pcall(ngx.socket.tcp) -- raises an error in such a phase
    if not made then return nil, "this phase of nginx has no sockets (" .. socket .. "); call in a timer" end
    socket:settimeout(ms)
    local connected, reason
    if client.path then
      connected, reason = socket:connect(client.address, { pool = client.pool })
    else
      connected, reason = socket:connect(client.bracketed, client.port, { pool = client.pool })
    end
    if not connected then return nil, reason end
    return socket, socket:getreusedtimes() > 0
  end

  -- Keeps a connection for a later call, if there is room.
  function sockets.keep(client, socket) return socket:setkeepalive(client.keepalive, client.pool_size) end
else
  local luasocket = require "socket"
  local pools = {} -- by name: connections with the time of their last use, latest last

  -- Wall clock time: LuaSocket has no other.
  function sockets.now() return luasocket.gettime() * 1000 end

  function sockets.set_timeout(socket, ms) socket:settimeout(ms / 1000) end

  function sockets.connect(client, ms)
    local pool = pools[client.pool] or {}
    while #pool > 0 do
      local kept = table.remove(pool)
      -- Readable means closed, or bytes that match no request.
      local readable = #luasocket.select({ kept.socket }, nil, 0) > 0
      if not readable and sockets.now() - kept.used < client.keepalive then return kept.socket, true end
      kept.socket:close()
    end
    local socket = client.path and require("socket.unix")() or luasocket.tcp()
    socket:settimeout(ms / 1000)
    local connected, reason = socket:connect(client.path or client.host, client.port)
    if not connected then return socket:close() and nil, reason end
    if not client.path then socket:setoption("tcp-nodelay", true) end
    return socket, false
  end

  function sockets.keep(client, socket)
    pools[client.pool] = pools[client.pool] or {}
    local pool = pools[client.pool]
    if #pool < client.pool_size then return table.insert(pool, { socket = socket, used = sockets.now() }) or true end
  end
end

-- A private copy of MessagePack: its options are global to the module, and other code may need different ones.
local messagepack = assert(loadfile(assert(package.searchpath("MessagePack", package.path))))()
messagepack.set_string("string") -- text with the shortest header
messagepack.set_number("double") -- as a float, 0.1 would arrive as 0.10000000149
messagepack.set_array("without_hole") -- a list with holes becomes a map, without loss

local Binary, Map = {}, {}
local packers = messagepack.packers
packers.userdata = packers["nil"] -- ngx.null, cjson.null

function packers.table(buffer, value)
  local kind = getmetatable(value)
  if kind == Binary then return packers.binary(buffer, value.bytes) end
  if kind ~= Map then return packers._table(buffer, value) end
  local size = 0
  for _ in pairs(value) do size = size + 1 end
  packers.map(buffer, value, size)
end

-- Any failure raises an error, which only `Client:call` catches.
local Failure = { __tostring = function(failure) return failure.code .. ": " .. (failure.msg or "") end }

local function fail(code, msg, retryable, data)
  error(setmetatable({ code = code, msg = msg, retryable = retryable or false, data = data }, Failure))
end

local function fail_to(action, reason, retryable)
  fail(reason == "timeout" and "TIMEOUT" or "CONNECTION_LOST", "cannot " .. action .. ": " .. reason, retryable)
end

local function to_request(cmd, seq, ttl, meta, params)
  local request = { cmd = cmd, seq = seq, ttl = ttl, meta = meta }
  for name, value in pairs(params or {}) do
    if RESERVED[name] or tostring(name):find("^%$") then fail("INVALID_PARAMS", name .. " is a reserved name") end
    request[name] = value
  end
  return request
end

local function to_frame(message, bytes_max)
  local sound, payload = pcall(messagepack.pack, message)
  if not sound then fail("INVALID_PARAMS", (tostring(payload):gsub("^.-:%d+: ", ""))) end
  local size = #payload
  if size > bytes_max then fail("INVALID_PARAMS", "a request of " .. size .. " bytes, the limit is " .. bytes_max) end
  local high, low = floor(size / 0x100), size % 0x100
  if size <= SHORT_BYTES_MAX then return char((high + 32) % 0x100, (low + 32) % 0x100) .. payload .. "\n" end
  return LONG_MARK .. char(floor(high / 0x10000), floor(high / 0x100) % 0x100, high % 0x100, low) .. payload .. "\n"
end

-- Frames are cut by length; the newline only verifies, because payloads and headers may contain 0x0A.
local function read_message(receive, bytes_max)
  local header, size = receive(2), nil
  if header == LONG_MARK then
    local b1, b2, b3, b4 = receive(4):byte(1, 4)
    size = ((b1 * 0x100 + b2) * 0x100 + b3) * 0x100 + b4
    if size <= SHORT_BYTES_MAX or size > bytes_max then fail("BAD_REPLY", "a long frame of " .. size .. " bytes") end
  else
    local high, low = header:byte(1, 2)
    size = (high - 32) % 0x100 * 0x100 + (low - 32) % 0x100
    if size > SHORT_BYTES_MAX then fail("BAD_REPLY", "a frame that declares " .. size .. " bytes") end
  end
  local body = receive(size + 1)
  if body:byte(-1) ~= 0x0A then fail("BAD_REPLY", "no newline behind the payload") end
  local sound, message = pcall(messagepack.unpack, body:sub(1, -2))
  if not sound or type(message) ~= "table" then fail("BAD_REPLY", "the payload is not a map") end
  return message
end

local last_seq = 0

-- Makes the call on one connection. Sets `socket`, `reused` and at the end `sound` in `link`, for the caller.
local function converse(client, link, deadline, cmd, params, meta)
  local function left() return min(max(1, ceil(deadline - sockets.now())), TIMER_MS_MAX) end
  if deadline <= sockets.now() then fail("TIMEOUT", "no time is left; the request was not sent", true) end
  last_seq = last_seq + 1
  local seq = last_seq
  local ttl = deadline < math.huge and left() or nil
  local frame = to_frame(to_request(cmd, seq, ttl, meta, params), client.bytes_max)
  local socket, reused = sockets.connect(client, left())
  if not socket then fail_to("reach " .. client.address, reused, true) end
  link.socket, link.reused = socket, reused
  sockets.set_timeout(socket, left())
  local sent, send_error = socket:send(reused and frame or client.greeting .. frame)
  -- A server starts a request only after its last byte, which was not sent.
  if not sent then fail_to("send the request", send_error, true) end
  local reply = read_message(function(size)
    sockets.set_timeout(socket, min(left() + PATIENCE_MS, TIMER_MS_MAX))
    local bytes, receive_error = socket:receive(size)
    return bytes or fail_to("receive the reply", receive_error)
  end, client.bytes_max)
  local code = reply.err
  if reply.seq ~= seq and (reply.seq or not code) then fail("BAD_REPLY", "it is another call's") end
  if reply.more then fail("BAD_REPLY", "the command answers with a stream") end
  -- A failure without seq concerns the connection.
  link.sound = reply.seq == seq and code ~= "SHUTTING_DOWN"
  if code == "DEADLINE_EXCEEDED" and left() == 1 then code = "TIMEOUT" end
  if code then fail(code, reply.msg, code == "SHUTTING_DOWN" or code == "OVERLOADED", reply.data) end
  reply.seq = nil
  return reply
end

local Client = {}
Client.__index = Client

-- Calls a command. Returns its reply, or nil and the failure.
function Client:call(cmd, params, options)
  options = options or {}
  local deadline = sockets.now() + (options.timeout or self.timeout)
  local fresh = 0
  while true do
    local link = {}
    local done, outcome = pcall(converse, self, link, deadline, cmd, params, options.meta)
    if link.socket and not (link.sound and sockets.keep(self, link.socket)) then link.socket:close() end
    if done then return outcome end
    if getmetatable(outcome) ~= Failure then error(outcome, 0) end
    if not link.reused then fresh = fresh + 1 end
    local lost = outcome.code == "CONNECTION_LOST" or outcome.code == "SHUTTING_DOWN"
    local harmless = outcome.retryable or options.idempotent
    if not (lost and harmless) or fresh == FRESH_TRIES or sockets.now() >= deadline then return nil, outcome end
  end
end

local packline = {}

-- Marks bytes that are not text.
function packline.binary(bytes) return setmetatable({ bytes = bytes }, Binary) end

-- Marks a table as a map, even if it is empty.
function packline.map(value) return setmetatable(value, Map) end

-- A client: an address and its options. It has no connection, so one can serve all requests of a worker.
function packline.new(options)
  local client = setmetatable({
    host = options.host or "127.0.0.1", -- a name or an address; IPv6 with or without brackets
    port = options.port or 1235,
    path = options.path, -- of a unix socket, instead of host and port
    timeout = options.timeout or 30000, -- ms
    bytes_max = options.bytes_max or SHORT_BYTES_MAX, -- of a payload, both ways; above the default in long frames
    pool_size = options.pool_size or 32, -- idle connections, for each worker
    keepalive = options.keepalive or 60000, -- ms; the server closes a connection after 300 s of silence
  }, Client)
  client.host = client.host:gsub("^%[(.*)%]$", "%1")
  client.bracketed = client.host:find(":", 1, true) and "[" .. client.host .. "]" or client.host
  client.address = client.path and "unix:" .. client.path or client.bracketed .. ":" .. client.port
  client.pool = client.address .. ":" .. client.bytes_max
  local asks = client.bytes_max > SHORT_BYTES_MAX
  client.greeting = asks and to_frame({ cmd = 0, max = client.bytes_max }, SHORT_BYTES_MAX) or ""
  return client
end

return packline
