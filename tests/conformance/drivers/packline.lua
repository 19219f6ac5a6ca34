--[[
The driver of the Lua client, whose calls share a connection: under LuaJIT `luajit packline.lua path/to/examples/openresty`,
in nginx as the content of a location, over the request's own socket.

In: steps, a line each. Out: answers (README.md). Refused: nothing. LuaJIT reads no connection in the background, so the
driver polls it while it waits for a step. In nginx, calls side by side and cancels are light threads.
]]

if arg then package.path = arg[1] .. "/lib/?.lua;" .. package.path end

local json = require "cjson"
local packline = require "resty.packline"
local now = require("resty.packline.clock").now

local POLL_MS = 20

local connection

local function hex(bytes)
  return (bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

-- Lua has one kind of text: what is no UTF-8 must have been binary.
local function is_utf8(text)
  local rest = text:gsub("[\194-\223][\128-\191]", ""):gsub("[\224-\239][\128-\191][\128-\191]", "")
    :gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "")
  return not rest:find("[\128-\255]")
end

local function from_json(value)
  if value == json.null then return packline.null end
  if type(value) ~= "table" then return value end
  if value["$bin"] then
    return packline.binary((value["$bin"]:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end)))
  end
  local result = {}
  for key, field in pairs(value) do result[key] = from_json(field) end
  return result
end

local function to_json(value)
  if value == nil or value == packline.null then return json.null end
  if type(value) == "string" and not is_utf8(value) then return { ["$bin"] = hex(value) } end
  -- cjson writes 14 digits.
  if type(value) == "number" and math.abs(value) >= 1e14 then return { ["$int"] = ("%.0f"):format(value) } end
  if type(value) ~= "table" then return value end
  local result = {}
  for key, field in pairs(value) do result[key] = to_json(field) end
  return result
end

local function options_of(step)
  return { timeout = step.timeoutMs, meta = step.meta, items = step.items and from_json(step.items) }
end

local function answer_of(reply, failure)
  return failure and { err = failure.code } or { res = to_json(reply.res) }
end

local function start(step)
  return connection:start(step.call, from_json(step.params), options_of(step))
end

local function call(step)
  local call = start(step)
  if step.cancelAfterMs and ngx then
    ngx.thread.spawn(function()
      ngx.sleep(step.cancelAfterMs / 1000)
      call:close()
    end)
  elseif step.cancelAfterMs then
    local deadline = now() + step.cancelAfterMs
    while now() < deadline do connection:poll(deadline - now()) end
    call:close()
  end
  return answer_of(call:wait())
end

local function calls(steps)
  local replies = {}
  for i, step in ipairs(steps) do replies[i] = ngx and ngx.thread.spawn(call, step) or start(step) end
  for i, started in ipairs(replies) do
    if ngx then
      replies[i] = select(2, ngx.thread.wait(started))
    else
      replies[i] = answer_of(started:wait())
    end
  end
  return { replies = replies }
end

local function stream(step)
  local items, taken = connection:stream(step.stream, from_json(step.params), options_of(step)), {}
  for item in items do
    taken[#taken + 1] = to_json(item)
    if #taken == step.take then
      items:close()
      return { items = taken }
    end
  end
  if items.failure then return { items = taken, err = items.failure.code } end
  return { items = taken, res = to_json(items.reply.res) }
end

local function answer(step)
  if step.calls then return calls(step.calls) end
  if step.call then return call(step) end
  if step.stream then return stream(step) end
  if connection then connection:close() end
  connection = nil
  if step.connect then
    local client =
      packline.new { servers = { step.connect }, bytes_max = 1048576, timeout = 8000, alive = step.aliveMs }
    connection = client:connection()
  end
  return {}
end

-- A line of input, if one comes soon; nil and whether it has ended.
local read_line, write_line
if ngx then
  local socket, held = assert(ngx.req.socket(true)), ""
  socket:settimeout(POLL_MS)
  function read_line()
    local line, reason, part = socket:receive("*l")
    held = held .. (line or part)
    if not line then return nil, reason ~= "timeout" end
    line, held = held, ""
    return line
  end
  function write_line(text) assert(socket:send(text .. "\n")) end
else
  local luasocket = require "socket"
  local input = { getfd = function() return 0 end, dirty = function() return false end }
  function read_line()
    if #luasocket.select({ input }, nil, POLL_MS / 1000) == 0 then return nil, false end
    local line = io.read()
    return line, not line
  end
  function write_line(text)
    io.write(text, "\n")
    io.flush()
  end
end

repeat
  local line, ended = read_line()
  if line then
    write_line((json.encode(answer(json.decode(line))):gsub('"items":{}', '"items":[]'))) -- cjson knows no empty array
  elseif connection then
    connection:poll(1)
  end
until ended
if connection then connection:close() end
