--[[
The driver of the Lua client, under LuaJIT: `luajit packline.lua path/to/examples/openresty`.

In: steps, a line each. Out: answers (README.md). Refused, by `skip`: calls side by side and cancels, since LuaJIT waits
for one call at a time.
]]

package.path = arg[1] .. "/lib/?.lua;" .. package.path

local json = require "cjson"
local packline = require "resty.packline"

local client

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

local function call(step)
  local reply, failure = client:call(step.call, from_json(step.params), options_of(step))
  return failure and { err = failure.code } or { res = to_json(reply.res) }
end

local function stream(step)
  local items, taken = client:stream(step.stream, from_json(step.params), options_of(step)), {}
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
  if step.calls then return { skip = "LuaJIT makes one call at a time" } end
  if step.cancelAfterMs then return { skip = "LuaJIT waits for its call" } end
  if step.call then return call(step) end
  if step.stream then return stream(step) end
  if step.close then return { skip = "the Lua client cannot be closed: its pool keeps connections" } end
  if step.connect then
    client = packline.new { servers = { step.connect }, bytes_max = 1048576, timeout = 10000 }
  end
  return {}
end

for line in io.lines() do
  local text = json.encode(answer(json.decode(line)))
  io.write((text:gsub('"items":{}', '"items":[]')), "\n") -- an empty table is an object to cjson
  io.flush()
end
