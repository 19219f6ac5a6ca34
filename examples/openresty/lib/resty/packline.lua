--[[
A client of packline for OpenResty, over cosockets, and for plain LuaJIT, over LuaSocket.

    local packline = require "resty.packline"
    local client = packline.new { servers = { "127.0.0.1:1235", "127.0.0.1:1236" }, timeout = 5000 }
    local reply, failure = client:call("DELAY", { sleep = 2 }, { timeout = 3000, idempotent = true })
    if reply then print(reply.res, reply.slept) else print(failure.code, failure.msg, failure.retryable) end

    local ticks = client:stream("TICK", { count = 3 }) -- a command that answers with a stream
    for tick in ticks do print(tick) end -- to leave this loop early, call ticks:close() first
    if ticks.reply then print(ticks.reply.res) else print(ticks.failure.code) end

    reply, failure = client:call("TALLY", {}, { items = { "a", "b" } }) -- a stream to a command

    local connection = client:connection() -- its calls share one connection
    local slow, quick = connection:start("DELAY", { sleep = 60 }), connection:start("PING")
    print(quick:wait().res)
    slow:close() -- cancels it
    connection:set_keepalive() -- or close()

In: a command's number or name, its parameters, and `timeout` (ms, for the whole call; 0 means no time is left,
math.huge no limit), `meta`, `idempotent`, `items` (a list, or a function that returns the next item), and for a stream
`credit` (how many items may be on their way). Out: the reply as a table; or nil and a failure: `code`, `msg`, `data`,
`retryable`, which means that the command was certainly not started, and `after` (ms), if the server says when to try
again. TIMEOUT and CONNECTION_LOST mean that there is no reply. `stream.id` is the id of the last item that had one.
Refused: options of a client that cannot be used, by an error; options, parameters and items of a call that cannot be
used (INVALID_PARAMS), and invalid replies (BAD_REPLY). All other codes come from the server. In a phase of nginx without cosockets, a call fails
with CONNECTION_LOST, whose text says what to do.

Each call of a client has its own connection. The connection returns to the pool only after a valid, complete reply, and
if nothing is partly sent or unanswered; otherwise it is closed. A connection from the pool may be stale, because the
server has closed it. A client does not promise signs of life or ask for notices, because nothing is sent or read
on a pooled connection. A `connection` does both, while one of its calls or its `poll()` waits.

A call is sent again, on another connection and to another server if there is one, in two cases: it was not started,
because its frame was not sent completely or the server replied SHUTTING_DOWN or OVERLOADED; or it is marked
`idempotent` and its connection was lost. It is not sent again after an item has come, or after the server has asked for
more than the first item. Otherwise the caller gets the failure and decides. servers.lua has the waits and the limits.

MessagePack and Lua: an empty table is sent as an array, unless it is a `packline.map {}`. A string is sent as text and
must be UTF-8, unless it is a `packline.binary(bytes)`; both are received as strings. nil and null are received as
nothing; an item that is null is `packline.null`, because nil ends a loop. A whole number is sent as an integer, any
other number as a double; integers beyond 2^53 lose their last digits.
]]

local Call = require "resty.packline.calls"
local messages = require "resty.packline.messages"
local new_budget = require("resty.packline.servers").new_budget
local sockets = require "resty.packline.sockets"

local PORT = 1235
local CREDIT = 16 -- items of a stream that may be on their way

local Client = {}
Client.__index = Client

-- Calls a command. Returns its reply, or nil and the failure.
function Client:call(cmd, params, options) return self:start(cmd, params, options):wait() end

-- The same in two steps: the request is sent at once, and `wait()` returns the reply. `close()` cancels the call.
function Client:start(cmd, params, options) return Call.new(self, cmd, params, options or {}):send() end

-- Calls a command that answers with a stream. Returns an iterator, which sends the request when it is first called.
function Client:stream(cmd, params, options)
  options = options or {}
  return Call.new(self, cmd, params, options, options.credit or CREDIT)
end

-- A client whose calls share one connection.
local Connection = setmetatable({}, { __index = Client })
Connection.__index = Connection

-- The same servers and options, but all calls go over one connection at a time. The first call opens it. The next call
-- opens another one if the connection was lost or its server is about to stop.
function Client:connection()
  local connection = {}
  for name, value in pairs(self) do connection[name] = value end
  connection.links, connection.waiting = {}, {}
  connection.promise = ":alive:" .. self.alive
  local max = self.greeting ~= "" and self.bytes_max or nil
  local settings = { cmd = 0, max = max, alive = self.alive, notice = true }
  connection.greeting = messages.to_frame(settings, messages.SHORT_BYTES_MAX)
  return setmetatable(connection, Connection)
end

-- Waits until a message has come or the time is over. Meanwhile, it reads messages and gives signs of life.
function Connection:poll(ms)
  local deadline, links = sockets.now() + ms, { unpack(self.links) }
  for i, link in ipairs(links) do
    link:step({}, i == #links and deadline or sockets.now())
    link:hand_over()
  end
  if #links == 0 then sockets.sleep(ms) end
end

-- Cancels all calls, and closes the connection.
function Connection:close()
  for _, link in ipairs { unpack(self.links) } do
    link.leaving = true -- a call that is made meanwhile opens another connection
    for _, call in pairs(link.calls) do call:close() end
    link:drain()
    link:close()
  end
end

-- Returns the connection to the pool of the worker, for another request; or closes it, if anything is outstanding.
function Connection:set_keepalive()
  for _, link in ipairs { unpack(self.links) } do link:rest() end
end

local packline = {
  _VERSION = "0.1.0",
  binary = messages.binary,
  map = messages.map,
  null = messages.null,
}

-- The options of packline.new(). A name with a slip in it would leave the default, such as the host 127.0.0.1.
local KINDS = {
  host = "string", port = "integer", path = "string", servers = "table", tls = "any",
  timeout = "number", bytes_max = "integer", pool_size = "integer", keepalive = "number", alive = "integer",
}

-- Returns the options with all numbers as numbers: from the environment, they are text.
local function check(options)
  local checked = {}
  for name, given in pairs(options) do
    local kind, value = KINDS[name], given
    if not kind then error('there is no option "' .. tostring(name) .. '"', 3) end
    local is_number = kind == "number" or kind == "integer"
    if is_number then value = tonumber(given) or given end
    local is_sound = kind == "any" or type(value) == (is_number and "number" or kind) and value == value
    if kind == "integer" and is_sound then is_sound = value % 1 == 0 end -- also no infinity
    if not is_sound then
      local shown = is_number and type(value) == "number" and tostring(value) or "a " .. type(given)
      error(name .. " must be " .. (kind == "integer" and "an " or "a ") .. kind .. ", and is " .. shown, 3)
    end
    if value == "" then error(name .. " must not be empty", 3) end
    checked[name] = value
  end
  return checked
end

-- "a.internal:1235", "[::1]:1235", "unix:/run/packline.sock"; without a port it is 1235.
local function parse(text)
  if type(text) ~= "string" then error("a server must be text, and is a " .. type(text), 3) end
  local path = text:match("^unix:(.+)$")
  if path then return { path = path } end
  local host, port = text:match("^(%[[^%[%]]+%]):?(%d*)$")
  if not host then host, port = text:match("^([^:/%[%]%s]+):?(%d*)$") end
  if host then return { host = host, port = tonumber(port) or PORT } end
  error('a server must be like "localhost:1235", "[::1]:1235" or "unix:/path", and this is "' .. text .. '"', 3)
end

-- The name that the server's certificate must have. nginx compares only names, not addresses.
local function name_for(tls, server)
  if tls.server_name then return tls.server_name end
  if server.path or server.host:find("^[%d.]+$") or server.host:find(":", 1, true) then
    error("tls.server_name must say which name the certificate has: " .. server.address .. " is not a name", 3)
  end
  return server.host
end

local TLS = { server_name = true, cert = true, key = true }

-- The client's certificate and key, in the form that nginx needs.
local function parse_pem(options)
  if type(options) ~= "table" then error("tls must be true or a table, and is a " .. type(options), 3) end
  for name in pairs(options) do
    if not TLS[name] then error('there is no option "' .. tostring(name) .. '" in tls', 3) end
  end
  if not ngx then error("tls works in nginx only: LuaSec does not check the name in a certificate", 3) end
  if not options.cert ~= not options.key then error("tls.cert and tls.key go together", 3) end
  if not options.cert then return {} end
  local ssl = require "ngx.ssl"
  local cert, reason = ssl.parse_pem_cert(options.cert)
  if not cert then error("tls.cert is not a certificate as PEM text: " .. reason, 3) end
  local key, obstacle = ssl.parse_pem_priv_key(options.key)
  if not key then error("tls.key is not a key as PEM text: " .. obstacle, 3) end
  return { cert = cert, key = key }
end

local known = {} -- the servers of this worker, by name
local budgets = {} -- of retries, by the names of the servers together

-- A client: addresses and options. It has no connection, so one can serve all requests of a worker.
function packline.new(options)
  options = check(options)
  local client = setmetatable({
    timeout = options.timeout or 30000, -- ms
    bytes_max = options.bytes_max or messages.SHORT_BYTES_MAX, -- of a payload, both ways; larger ones need long frames
    pool_size = options.pool_size or 32, -- idle connections to a server, for each worker
    keepalive = options.keepalive or 60000, -- ms; the server closes a connection after 300 s of silence
    alive = options.alive or 10000, -- ms; a shared connection gives a sign of life this often
    promise = "", -- what a connection has promised the server
    servers = {},
  }, Client)
  if client.alive < 1000 or client.alive > 3600000 then error("alive must be 1000 to 3600000 (ms)", 2) end
  local tls = options.tls == true and {} or options.tls or nil
  client.tls = tls and parse_pem(tls)
  local list, names = options.servers, {}
  if list and (options.host or options.port or options.path) then error("name all servers in servers", 2) end
  if list and #list == 0 then error("servers must be a list of at least one server", 2) end
  for i = 1, list and #list or 1 do
    local server = list and parse(list[i])
      or { host = options.host or "127.0.0.1", port = options.port or PORT, path = options.path }
    if server.port and (server.port < 1 or server.port > 65535) then error("a port must be 1 to 65535", 2) end
    server.host = server.host and server.host:gsub("^%[(.*)%]$", "%1")
    server.bracketed = server.host and (server.host:find(":", 1, true) and "[" .. server.host .. "]" or server.host)
    server.address = server.path and "unix:" .. server.path or server.bracketed .. ":" .. server.port
    server.name = server.address .. ":" .. client.bytes_max
    if tls then
      server.tls_name = name_for(tls, server)
      -- A connection is reused only for the same server name and the same client certificate.
      server.name = server.name .. ":tls:" .. server.tls_name .. ":" .. (tls.cert and ngx.md5(tls.cert) or "")
    end
    server.in_flight = 0
    known[server.name] = known[server.name] or server
    client.servers[i], names[i] = known[server.name], server.name
  end
  local together = table.concat(names, " ")
  budgets[together] = budgets[together] or new_budget()
  client.budget = budgets[together]
  local asks = client.bytes_max > messages.SHORT_BYTES_MAX
  client.greeting = asks and messages.to_frame({ cmd = 0, max = client.bytes_max }, messages.SHORT_BYTES_MAX) or ""
  return client
end

return packline
