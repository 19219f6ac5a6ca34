--[[
The messages of packline.lua: frames and MessagePack, and their failures.

In: tables; bytes, from a function. Out: frames; tables. Refused, by raising a failure: values that cannot be sent
(INVALID_PARAMS), and invalid frames or payloads that are not a map (BAD_REPLY).
]]

local ffi = require "ffi"

local char, floor = string.char, math.floor

local SHORT_BYTES_MAX = 57310 -- the largest payload of a short frame
local LONG_MARK = "\31\31" -- the beginning of a long frame
local DEPTH_MAX = 64 -- tables in one another, including the message
local INTEGER_MAX = 2 ^ 53 - 1 -- lua-MessagePack packs numbers from here as floats
local RESERVED = { cmd = true, seq = true, ttl = true, meta = true, credit = true }
local OPTIONS = { timeout = true, meta = true, idempotent = true, items = true, credit = true } -- of a call

local messages = { SHORT_BYTES_MAX = SHORT_BYTES_MAX }

-- A private copy of MessagePack: its options are global to the module, and other code may need different ones.
local messagepack = assert(loadfile(assert(package.searchpath("MessagePack", package.path))))()
messagepack.set_string("string") -- text with the shortest header
messagepack.set_number("double") -- as a float, 0.1 would arrive as 0.10000000149
messagepack.set_array("without_hole") -- a list with holes becomes a map, without loss

local Binary, Map, Null = {}, {}, {}
messages.null = ngx and ngx.null or setmetatable({}, Null)
local packers = messagepack.packers

-- ngx.null and cjson.null are the null pointer. Any other userdata, such as a file, would be lost without a word.
function packers.userdata(buffer, value)
  if ffi.cast("void *", value) ~= nil then error "pack 'userdata' is unimplemented" end
  packers["nil"](buffer)
end

-- Marks bytes that are not text. If a read failed, it returns nil and the reason, like the read.
function messages.binary(bytes, reason)
  if bytes == nil then return nil, reason end
  return setmetatable({ bytes = bytes }, Binary)
end

-- Marks a table as a map, even if it is empty.
function messages.map(value) return setmetatable(value, Map) end

-- What a server cannot read is refused here: its answer would have no `seq`, and would end the connection for all.

-- Returns where a text is not UTF-8; nil if it is. LuaJIT compiles this loop, but no patterns.
local function find_fault(text)
  local more, low, high = 0, 0x80, 0xBF -- bytes of this character that are to come, and the range of the next one
  for i = 1, #text do
    local byte = text:byte(i)
    if more > 0 then
      if byte < low or byte > high then return i end
      more, low, high = more - 1, 0x80, 0xBF
    elseif byte >= 0x80 then
      if byte < 0xC2 or byte > 0xF4 then return i end
      more = byte < 0xE0 and 1 or byte < 0xF0 and 2 or 3
      low = byte == 0xE0 and 0xA0 or byte == 0xF0 and 0x90 or low -- the shortest form
      high = byte == 0xED and 0x9F or byte == 0xF4 and 0x8F or high -- no surrogates, nothing beyond U+10FFFF
    end
  end
  return more > 0 and #text or nil
end

function packers.string(buffer, text)
  local at = find_fault(text)
  if at then
    error(("text that is not UTF-8 at byte %d of %d; packline.binary() marks what is no text"):format(at, #text))
  end
  packers._string(buffer, text)
end

local pack_map = packers.map
function packers.map(buffer, value, size)
  for key in pairs(value) do
    local is_integer = type(key) == "number" and floor(key) == key and math.abs(key) < INTEGER_MAX
    if type(key) ~= "string" and not is_integer then error("a key must be text or an integer: " .. tostring(key)) end
  end
  pack_map(buffer, value, size)
end

local depth = 0

function packers.table(buffer, value)
  local kind = getmetatable(value)
  if kind == Binary then
    local given = type(value.bytes)
    if given ~= "string" then error("packline.binary() takes a string, and was given a " .. given) end
    return packers.binary(buffer, value.bytes)
  end
  if kind == Null then return packers["nil"](buffer) end
  if depth == DEPTH_MAX then error("more than " .. DEPTH_MAX .. " tables in one another, or a table in itself") end
  depth = depth + 1
  if kind == Map then
    local size = 0
    for _ in pairs(value) do size = size + 1 end
    packers.map(buffer, value, size)
  else
    packers._table(buffer, value)
  end
  depth = depth - 1
end

local Failure = { __tostring = function(failure) return failure.code .. ": " .. (failure.msg or "") end }

-- A number of a server's above 0; nil for what is no number of anything, such as a text or an infinity.
function messages.count(value) return type(value) == "number" and value > 0 and value < math.huge and value or nil end

-- `after`: the number of milliseconds to wait before the next try, from the server.
function messages.failure(code, msg, retryable, data, after)
  after = messages.count(after)
  return setmetatable({ code = code, msg = msg, retryable = retryable or false, data = data, after = after }, Failure)
end

function messages.is_failure(value) return getmetatable(value) == Failure end

-- The codes for a call that the server has not started.
messages.REFUSED = { SHUTTING_DOWN = true, OVERLOADED = true }

-- The failure in a reply.
function messages.failure_of(reply)
  return messages.failure(reply.err, reply.msg, messages.REFUSED[reply.err], reply.data, reply["$after"])
end

-- A failure is raised as an error, which only packline.lua catches.
local function fail(...) error(messages.failure(...)) end
messages.fail = fail

-- The fields of a message, packed one after another, and their number.
local function pack_fields(message)
  local buffer, size = {}, 0
  for _ in pairs(message) do size = size + 1 end
  depth = 1 -- the message
  local sound, reason = pcall(packers.map, buffer, message, size)
  if not sound then fail("INVALID_PARAMS", (tostring(reason):gsub("^.-:%d+: ", ""))) end
  return table.concat(buffer, "", 2), size
end

-- The part of a request that belongs to its caller. It is packed when the call is made: the call may be sent again when
-- the caller has long changed its tables.
function messages.to_request(cmd, options, params)
  -- 0 would be sent as a message about the connection, which has no reply.
  if type(cmd) ~= "string" and not (messages.count(cmd) and cmd == floor(cmd)) then
    fail("INVALID_PARAMS", "a command is called by its name, and this is " .. tostring(cmd))
  end
  for name in pairs(options) do
    if not OPTIONS[name] then fail("INVALID_PARAMS", 'a call has no option "' .. tostring(name) .. '"') end
  end
  local meta, idempotent = options.meta, options.idempotent
  if idempotent ~= nil and type(idempotent) ~= "boolean" then -- "false" would send a call twice
    fail("INVALID_PARAMS", "idempotent must be true or false, and is a " .. type(idempotent))
  end
  for name, given in pairs { meta = meta, params = params } do
    if type(given) ~= "table" then fail("INVALID_PARAMS", name .. " must be a table, and is a " .. type(given)) end
  end
  local request = { meta = meta and messages.map {} }
  for name, text in pairs(meta or {}) do
    if type(text) ~= "string" then fail("INVALID_PARAMS", "meta." .. tostring(name) .. " must be text") end
    request.meta[name] = text
  end
  for name, value in pairs(params or {}) do
    if RESERVED[name] or tostring(name):find("^%$") then fail("INVALID_PARAMS", name .. " is a reserved name") end
    request[name] = value
  end
  local bytes, size = pack_fields(request)
  return { bytes = bytes, size = size }
end

function messages.to_frame(message, bytes_max, request)
  request = request or { bytes = "", size = 0 }
  local bytes, count = pack_fields(message)
  local header = {}
  pack_map(header, {}, count + request.size)
  local size = #header[1] + #bytes + #request.bytes
  if size > bytes_max then fail("INVALID_PARAMS", "a request of " .. size .. " bytes, the limit is " .. bytes_max) end
  local high, low = floor(size / 0x100), size % 0x100
  local length = char((high + 32) % 0x100, (low + 32) % 0x100)
  if size > SHORT_BYTES_MAX then
    length = LONG_MARK .. char(floor(high / 0x10000), floor(high / 0x100) % 0x100, high % 0x100, low)
  end
  return length .. header[1] .. bytes .. request.bytes .. "\n"
end

-- The map, and whether it is a reply: whether it has `res` or `err`. lua-MessagePack drops nil values, so `{seq, res:
-- nil}` would look like a notice. So the pairs are read one by one.
local function unpack_map(payload)
  local kind, b1, b2, b3, b4 = payload:byte(1, 5)
  local size, from
  if kind == 0x90 or (kind >= 0x80 and kind < 0x90) then -- an empty array is an empty map
    size, from = kind % 0x10, 2
  elseif kind == 0xDE then
    size, from = b1 * 0x100 + b2, 4
  elseif kind == 0xDF then
    size, from = ((b1 * 0x100 + b2) * 0x100 + b3) * 0x100 + b4, 6
  else
    error "not a map"
  end
  local map, is_reply = {}, false
  local values = messagepack.unpacker(payload:sub(from))
  for _ = 1, size do
    local found, name = values()
    local complete, value = values()
    assert(found and complete and name ~= nil)
    map[name] = value
    is_reply = is_reply or name == "res" or name == "err"
  end
  assert(not values(), "extra bytes")
  if map.err ~= nil then map.more = nil end -- an error ends its call
  return map, is_reply
end

-- Frames are cut by length; the newline only verifies, because payloads and headers may contain 0x0A.
function messages.read(receive, bytes_max)
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
  if body:byte(-1) ~= 0x0A then fail("BAD_REPLY", "no newline after the payload") end
  local sound, message, is_reply = pcall(unpack_map, body:sub(1, -2))
  if not sound then fail("BAD_REPLY", "the payload is not a map") end
  return message, is_reply
end

return messages
