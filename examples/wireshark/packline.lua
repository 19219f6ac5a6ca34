--[[
packline.lua: shows what travels on a packline connection, in Wireshark and tshark (Lua 5.2 and later).

In: TCP on port 1235, or on what the preferences say. Out, for each frame: its length, its kind (request, control,
item, reply, error), command, seq and outcome, as columns and as fields to filter by; the whole MessagePack map as a
tree; and a link from a request to its final reply and back, with the time in between.

Frames are cut by their length, never by a newline, and put together over segments. What a packline peer would refuse
is flagged: a header that is none, a wrong byte at the end of a frame, a message that is malformed.

Each frame is first looked at once, in the order of the capture, and in any order after that. All that depends on what
came before (who asked for this reply, whether the boundary between frames is lost) is decided the first time and kept.
PROTOCOL.md has the wire itself.
]]

local SHORT_END = 57311 -- from this length on a payload travels in a long frame
local MAX_DEPTH = 64 -- containers in one another, as a server takes them by default
local MAX_VALUES = 100000 -- values in a message, likewise
local MAX_SHOWN = 10000 -- values shown of a message: Wireshark gives up at a million lines, people long before
local MAX_SAFE = 2 ^ 53 - 1 -- integers up to here are numbers, to packline as to Lua

local COMMANDS = { [0] = "control", "PING", "DELAY", "INFO", "STATS" }

local packline = Proto("packline", "packline RPC")

-- Fields ------------------------------------------------------------------------------------------------------------

local field = {
  kind = ProtoField.string("packline.kind", "Kind"),
  length = ProtoField.uint32("packline.length", "Length", base.DEC, nil, nil, "Bytes of payload"),
  long = ProtoField.bool("packline.long", "Long frame"),
  cmd = ProtoField.string("packline.cmd", "Command", base.UNICODE, "By name, also where it came as a number"),
  number = ProtoField.uint64("packline.cmd.number", "Command number"),
  seq = ProtoField.uint64("packline.seq", "Seq"),
  ttl = ProtoField.double("packline.ttl", "Time to live in ms"),
  credit = ProtoField.uint64("packline.credit", "Credit", base.DEC, nil, nil, "Items of a stream the caller takes"),
  max = ProtoField.uint64("packline.max", "Largest reply", base.DEC, nil, nil, "Bytes of payload the caller takes"),
  cancel = ProtoField.bool("packline.cancel", "Cancel"),
  res = ProtoField.string("packline.res", "Result"),
  err = ProtoField.string("packline.err", "Error code"),
  msg = ProtoField.string("packline.msg", "Error text"),
  more = ProtoField.bool("packline.more", "More items follow"),
  terminator = ProtoField.uint8("packline.terminator", "Terminator", base.HEX),
  skipped = ProtoField.none("packline.skipped", "Bytes that are not read"),
  request_in = ProtoField.framenum("packline.request_in", "Request in frame", base.NONE, frametype.REQUEST),
  reply_in = ProtoField.framenum("packline.reply_in", "Final reply in frame", base.NONE, frametype.RESPONSE),
  reply_to = ProtoField.string("packline.reply_to", "Command of the request"),
  time = ProtoField.relative_time("packline.time", "Time since the request"),
  entry = ProtoField.none("packline.entry", "Entry"),
  key = ProtoField.string("packline.key", "Key"),
}

-- MessagePack by type, each under the name that the reader below gives it.
local value_field = {
  map = ProtoField.uint32("packline.value.map", "Map", base.DEC, nil, nil, "How many entries"),
  array = ProtoField.uint32("packline.value.array", "Array", base.DEC, nil, nil, "How many elements"),
  text = ProtoField.string("packline.value.text", "Text"),
  int = ProtoField.int64("packline.value.int", "Integer"),
  uint = ProtoField.uint64("packline.value.uint", "Integer from 2^63 up"),
  float = ProtoField.double("packline.value.float", "Float"),
  bool = ProtoField.bool("packline.value.bool", "Boolean"),
  ["nil"] = ProtoField.none("packline.value.nil", "Nil"),
  bin = ProtoField.bytes("packline.value.bin", "Binary"),
  ext = ProtoField.bytes("packline.value.ext", "Extension"),
}

-- What stands in the tree of values.
local in_values = { field.entry, field.key }
for _, one in pairs(value_field) do in_values[#in_values + 1] = one end

local all_fields = {}
for _, group in ipairs({ field, value_field }) do
  for _, one in pairs(group) do all_fields[#all_fields + 1] = one end
end
packline.fields = all_fields

local problem = {
  header = ProtoExpert.new("packline.bad_header", "Not a packline header", expert.group.MALFORMED,
    expert.severity.ERROR),
  terminator = ProtoExpert.new("packline.bad_terminator", "The byte after the payload is not 0x0A",
    expert.group.MALFORMED, expert.severity.ERROR),
  message = ProtoExpert.new("packline.bad_message", "A server answers INVALID_MESSAGE", expert.group.PROTOCOL,
    expert.severity.WARN),
  cut = ProtoExpert.new("packline.cut", "Not all of the frame is here", expert.group.UNDECODED, expert.severity.WARN),
  lost = ProtoExpert.new("packline.lost", "Where the next frame begins is not known", expert.group.UNDECODED,
    expert.severity.WARN),
  unasked = ProtoExpert.new("packline.unasked", "The capture holds no open request for this", expert.group.SEQUENCE,
    expert.severity.NOTE),
  failed = ProtoExpert.new("packline.failed", "The request failed", expert.group.RESPONSE_CODE, expert.severity.NOTE),
  hidden = ProtoExpert.new("packline.hidden", "Not all values are shown", expert.group.UNDECODED, expert.severity.NOTE),
}

local all_problems = {}
for _, one in pairs(problem) do all_problems[#all_problems + 1] = one end
packline.experts = all_problems

-- Preferences -------------------------------------------------------------------------------------------------------

packline.prefs.port = Pref.range("TCP ports", "1235", "Where packline servers listen: 1235, or 1235,4000-4010", 65535)
packline.prefs.names = Pref.string("Command names", "", "Names of your own numbered commands: 16=GREET 17=ADD")
packline.prefs.limit = Pref.uint("Largest payload", 1048576,
  "In bytes, as the server's maxPayloadBytes: a header that declares more is taken for a broken one")

local names = {}

local function name_of(number)
  return COMMANDS[number] or names[number] or string.format("command %.0f", number)
end

-- Text --------------------------------------------------------------------------------------------------------------

-- UTF-8 beyond ASCII, a character by its first byte: no overlong forms, no surrogates, nothing above U+10FFFF.
local CHARACTER = {}
for first = 0xc2, 0xf4 do
  local rest = first < 0xe0 and "" or first < 0xf0 and "[\128-\191]" or "[\128-\191][\128-\191]"
  CHARACTER[first] = "^.[\128-\191]" .. rest
end
CHARACTER[0xe0] = "^.[\160-\191][\128-\191]"
CHARACTER[0xed] = "^.[\128-\159][\128-\191]"
CHARACTER[0xf0] = "^.[\144-\191][\128-\191][\128-\191]"
CHARACTER[0xf4] = "^.[\128-\143][\128-\191][\128-\191]"

-- The bytes as text that Wireshark can take: NUL, which would end it, as a picture of it, and what is not UTF-8 as the
-- sign for that. Also whether the bytes were UTF-8.
local function clean(bytes)
  local valid = true
  local parts, from, at = {}, 1, bytes:find("[%z\128-\255]")
  while at do
    local byte = bytes:byte(at)
    local _, stop = bytes:find(CHARACTER[byte] or "^$", at)
    if not stop then
      valid = valid and byte == 0
      parts[#parts + 1] = bytes:sub(from, at - 1) .. (byte == 0 and "␀" or "�")
      stop, from = at, at + 1
    end
    at = bytes:find("[%z\128-\255]", stop + 1)
  end
  parts[#parts + 1] = bytes:sub(from)
  return table.concat(parts), valid
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

-- A text as a person reads it, on one line, cut after some 60 bytes.
local function quote(text)
  local cut = #text > 60
  -- Only whole characters: what the cut has left of one goes.
  if cut then text = text:sub(1, 60):gsub("[\192-\255][\128-\191]*$", "") end
  text = text:gsub('[%c"\\]', function(character)
    return ESCAPES[character] or string.format("\\x%02x", character:byte())
  end)
  return '"' .. text .. (cut and '…"' or '"')
end

-- The shortest digits that are this float and no other.
local function float_text(number)
  if number ~= number then return "NaN" end
  if number == math.huge then return "Infinity" end
  if number == -math.huge then return "-Infinity" end
  for digits = 15, 16 do
    local text = string.format("%." .. digits .. "g", number)
    if tonumber(text) == number then return text end
  end
  return string.format("%.17g", number)
end

-- MessagePack -------------------------------------------------------------------------------------------------------

--[[
A value is a table: `kind`, as in `value_field`; `at` and `stop`, its bytes within the payload, counted from 0; `value`,
a number, text or boolean; `big`, an integer that Lua's numbers cannot hold; `parts`, the elements of an array, or keys
and values of a map in turn; `problem`, what a server does not like about it.
]]

local function unsigned(bytes, at, count)
  local number = 0
  for index = at + 1, at + count do number = number * 256 + bytes:byte(index) end
  return number
end

-- Ends the reading of a payload.
local function fail(text)
  error({ problem = text }, 0)
end

local function take(cursor, count)
  local at = cursor.at
  if count > cursor.stop - at then fail("the message ends too early") end
  cursor.at = at + count
  return at
end

local function take_unsigned(cursor, count)
  return unsigned(cursor.bytes, take(cursor, count), count)
end

local function set_integer64(value, high, low, signed)
  local number = high * 2 ^ 32 + low
  if signed and high >= 2 ^ 31 then number = (high - 2 ^ 32) * 2 ^ 32 + low end
  value.kind = (signed or high < 2 ^ 31) and "int" or "uint"
  if number >= -MAX_SAFE and number <= MAX_SAFE then
    value.value = number
  else
    value.big = value.kind == "int" and Int64.new(low, high) or UInt64.new(low, high)
  end
end

-- As a server does: the first thing it does not like is what it says.
local function note(cursor, value, text)
  value.problem = text
  cursor.problem = cursor.problem or text
end

local function set_text(cursor, value, size)
  local at = take(cursor, size)
  local valid
  value.kind = "text"
  value.value, valid = clean(cursor.bytes:sub(at + 1, at + size))
  if not valid then note(cursor, value, "text is not valid UTF-8") end
end

local function set_bytes(cursor, value, kind, size)
  value.kind, value.size, value.content = kind, size, take(cursor, size)
end

local function set_extension(cursor, value, size)
  note(cursor, value, "extension types are not accepted")
  local tag = take_unsigned(cursor, 1)
  value.type = tag < 128 and tag or tag - 256
  set_bytes(cursor, value, "ext", size)
end

local read_value -- for what holds values in turn

local function set_container(cursor, value, kind, size, depth)
  local count = kind == "map" and 2 * size or size
  value.kind, value.size, value.parts = kind, size, {}
  -- Each takes a byte at least: a size that is a mere claim costs nothing.
  if count > cursor.stop - cursor.at then fail("the message ends too early") end
  cursor.values = cursor.values + count
  if cursor.values > MAX_VALUES then fail("more than " .. MAX_VALUES .. " values") end
  if depth > MAX_DEPTH then fail("nested deeper than " .. MAX_DEPTH) end
  for index = 1, count do
    local part = read_value(cursor, value.parts, depth + 1)
    if kind == "map" and index % 2 == 1 and part.kind ~= "text" and part.kind ~= "int" and part.kind ~= "uint" then
      note(cursor, part, "a key must be text or an integer")
    end
  end
end

-- What follows each tag from 0xc4 on: how many bytes of size or number, and what to do with them.
local TAGS = {}
for index, bytes in ipairs({ 1, 2, 4 }) do
  TAGS[0xc3 + index] = { bytes, function(cursor, value, size) set_bytes(cursor, value, "bin", size) end }
  TAGS[0xc6 + index] = { bytes, set_extension }
  TAGS[0xd8 + index] = { bytes, set_text }
end
for index, bytes in ipairs({ 2, 4 }) do
  TAGS[0xdb + index] = { bytes, function(cursor, value, size, depth)
    set_container(cursor, value, "array", size, depth)
  end }
  TAGS[0xdd + index] = { bytes, function(cursor, value, size, depth)
    set_container(cursor, value, "map", size, depth)
  end }
end
for index, bytes in ipairs({ 1, 2, 4 }) do
  TAGS[0xcb + index] = { bytes, function(_, value, number) value.kind, value.value = "int", number end }
  TAGS[0xcf + index] = { bytes, function(_, value, number)
    if number >= 256 ^ bytes / 2 then number = number - 256 ^ bytes end
    value.kind, value.value = "int", number
  end }
end
for index, size in ipairs({ 1, 2, 4, 8, 16 }) do
  TAGS[0xd3 + index] = { 0, function(cursor, value) set_extension(cursor, value, size) end }
end
for tag, signed in pairs({ [0xcf] = false, [0xd3] = true }) do
  TAGS[tag] = { 4, function(cursor, value, high) set_integer64(value, high, take_unsigned(cursor, 4), signed) end }
end
for tag, format in pairs({ [0xca] = ">f", [0xcb] = ">d" }) do
  TAGS[tag] = { 0, function(cursor, value)
    local at = take(cursor, tag == 0xca and 4 or 8)
    value.kind, value.value = "float", Struct.unpack(format, cursor.bytes:sub(at + 1, cursor.at))
  end }
end

function read_value(cursor, into, depth)
  local at = take(cursor, 1)
  local tag = cursor.bytes:byte(at + 1)
  -- Entered before it is whole: when the reading fails, what was read until then is shown.
  local value = { at = at, stop = cursor.stop }
  into[#into + 1] = value
  if tag < 0x80 then
    value.kind, value.value = "int", tag
  elseif tag < 0x90 then
    set_container(cursor, value, "map", tag - 0x80, depth)
  elseif tag < 0xa0 then
    set_container(cursor, value, "array", tag - 0x90, depth)
  elseif tag < 0xc0 then
    set_text(cursor, value, tag - 0xa0)
  elseif tag >= 0xe0 then
    value.kind, value.value = "int", tag - 256
  elseif tag == 0xc0 then
    value.kind = "nil"
  elseif tag == 0xc2 or tag == 0xc3 then
    value.kind, value.value = "bool", tag == 0xc3
  elseif TAGS[tag] then
    local bytes, set = TAGS[tag][1], TAGS[tag][2]
    set(cursor, value, take_unsigned(cursor, bytes), depth)
  else
    fail("0xc1 is not a value")
  end
  value.stop = cursor.at
  return value
end

local key_text

-- A value on one line, for labels and the column: about 80 bytes, then dots.
local function render(value)
  if value.big then return tostring(value.big) end
  if value.kind == "int" then return string.format("%.0f", value.value) end
  if value.kind == "float" then return float_text(value.value) end
  if value.kind == "text" then return quote(value.value) end
  if value.kind == "bool" then return tostring(value.value) end
  if value.kind == "bin" then return string.format("<%d bytes>", value.size) end
  if value.kind == "ext" then return string.format("<extension %d, %d bytes>", value.type, value.size) end
  if value.kind == "nil" then return "nil" end
  if not value.parts then return "?" end
  local open, close = "[", "]"
  if value.kind == "map" then open, close = "{", "}" end
  local text = open
  for index, part in ipairs(value.parts) do
    local is_key = value.kind == "map" and index % 2 == 1
    if index > 1 then text = text .. ((value.kind == "array" or is_key) and ", " or ": ") end
    if #text > 80 then return text .. "…" .. close end
    text = text .. (is_key and key_text(part) or render(part))
  end
  return text .. close
end

-- A key on one line: text without its quotes.
function key_text(key)
  return key.kind == "text" and quote(key.value):sub(2, -2) or render(key)
end

-- Messages ----------------------------------------------------------------------------------------------------------

--[[
A message is a table: `values`, the one value of the payload, or all there are; `fields`, the values of its map by key;
`problem`, why it is none. `cmd` and `seq` are there where they mean something.
]]

local function is_count(value)
  local number = value and (value.kind == "int" or value.kind == "float") and value.value
  return number and number >= 0 and number <= MAX_SAFE and number % 1 == 0
end

local function is_text_map(value)
  if value.kind == "array" then return value.size == 0 end -- an empty table of Lua
  if value.kind ~= "map" then return false end
  for index = 2, #value.parts, 2 do
    if value.parts[index].kind ~= "text" then return false end
  end
  return true
end

local function is_number(value)
  return (value.kind == "int" or value.kind == "float") and value.value
end

-- Whether a payload begins as messages do: with a map, or with the empty array that is an empty table of Lua.
local function begins_message(bytes, at)
  local tag = bytes:byte(at + 1)
  return tag and (tag >= 0x80 and tag <= 0x90 or tag >= 0xdc and tag <= 0xdf)
end

local function read_message(payload)
  local cursor = { bytes = payload, at = 0, stop = #payload, values = 1 }
  local message = { values = {}, fields = {} }
  local ok, failure = pcall(read_value, cursor, message.values, 1)
  -- Anything but the payload's fault is a fault of this file, and is to be seen.
  if not ok and type(failure) ~= "table" then error(failure, 0) end
  message.problem = cursor.problem or not ok and failure.problem or nil
  local map = message.values[1]
  if map and map.kind == "map" then
    for index = 2, #map.parts, 2 do
      local key = map.parts[index - 1]
      message.fields[key.kind == "text" and key.value or render(key)] = map.parts[index]
    end
  elseif map and not (begins_message(payload, 0) and (map.kind ~= "array" or map.size == 0)) then
    message.problem = "a message must be a map"
  end
  if not message.problem and cursor.at < cursor.stop then message.problem = "bytes are left over" end
  local cmd = message.fields.cmd
  if cmd and cmd.kind == "text" then message.cmd = cmd.value end
  if is_count(cmd) then message.cmd = name_of(cmd.value) end
  message.seq = is_count(message.fields.seq) and message.fields.seq.value or nil
  return message
end

-- What a server says about a request or control message. It knows whom to tell only where `seq` is sound.
local function check_request(message)
  local fields = message.fields
  message.control = is_count(fields.cmd) and fields.cmd.value == 0
  if message.problem then
    message.seq = nil
    return
  end
  if fields.seq and not message.seq then
    message.problem = "seq must be an integer from 0 to 2^53-1"
    return
  end
  local ttl = fields.ttl and (is_number(fields.ttl) or 0)
  if ttl and not (ttl > 0 and ttl < math.huge) then
    message.problem = "ttl must be a number of milliseconds above 0"
  elseif fields.meta and not is_text_map(fields.meta) then
    message.problem = "meta must be a map of texts"
  elseif fields.credit and not (is_count(fields.credit) and fields.credit.value > 0) then
    message.problem = "credit must be an integer above 0"
  elseif message.control and message.seq then
    local cancel = fields.cancel and fields.cancel.value == true
    if not cancel == not fields.credit then
      message.problem = "a control message with seq needs either cancel: true or credit"
    end
  elseif message.control and not is_count(fields.max) then
    message.problem = "a control message needs max, or seq with cancel or credit"
  elseif fields.credit and not message.seq then
    message.problem = "credit needs a seq, by which more of it can be granted"
  end
  if message.control and message.problem then message.seq = nil end
end

local function check_reply(message)
  local fields = message.fields
  if message.problem then return end
  if fields.seq and not message.seq then
    message.problem = "seq must be an integer from 0 to 2^53-1"
  elseif not fields.res == not fields.err then
    message.problem = "a reply has either res or err"
  end
end

-- Connections -------------------------------------------------------------------------------------------------------

local connections -- by their two ends; only what the first look needs
local records -- what the first look has found, by where a frame begins

function packline.init()
  connections, records = {}, {}
  names = {}
  for number, name in packline.prefs.names:gmatch("(%d+)=(%S+)") do names[tonumber(number)] = name end
end

-- The connection that a segment belongs to, on the first look.
local function connection_of(pinfo)
  local from = tostring(pinfo.src) .. " " .. pinfo.src_port
  local to = tostring(pinfo.dst) .. " " .. pinfo.dst_port
  local key = from < to and from .. " " .. to or to .. " " .. from
  -- The port table is asked for the first segment of a connection only: from then on Wireshark keeps to what is said
  -- here. So ports that are used again do not inherit what an earlier connection has left open.
  local port = pinfo.match_uint
  if not connections[key] or port == pinfo.src_port or port == pinfo.dst_port then
    pinfo.conversation = packline
    connections[key] = {
      server = port == pinfo.src_port and from or to,
      open = {}, -- by seq
      lane = {}, -- without seq, in their order, from `next_in_lane` on
      next_in_lane = 1,
      directions = { [from] = {}, [to] = {} },
    }
  end
  local connection = connections[key]
  return connection, connection.directions[from], from, to
end

-- "Decode As" may have been told the client's port. Whoever sends commands is the client.
local function find_server(look, message)
  local connection, fields = look.connection, message.fields
  if connection.certain then return end
  if fields.cmd then
    connection.server, connection.certain = look.to, true
  elseif fields.res or fields.err then
    connection.server, connection.certain = look.from, true
  end
end

-- A request has been seen: who will be answered, and by what.
local function open_exchange(look, message)
  local connection, pinfo = look.connection, look.pinfo
  local name = message.cmd or message.problem and "a malformed message" or "no command"
  local exchange = { request = pinfo.number, time = pinfo.rel_ts, name = name, broken = false }
  if message.seq and connection.open[message.seq] and not message.problem then
    message.problem = "seq is in flight already"
  end
  if message.seq and not connection.open[message.seq] then
    connection.open[message.seq] = exchange
  else
    table.insert(connection.lane, exchange)
  end
  return exchange
end

-- A reply has been seen: what it answers.
local function settle_exchange(look, message)
  local connection, fields = look.connection, message.fields
  local final = not (fields.more and fields.more.value == true)
  local exchange
  if message.seq then
    exchange = connection.open[message.seq]
    if final then connection.open[message.seq] = nil end
  else
    local broken = fields.err ~= nil and fields.err.value == "BAD_FRAME"
    local lane, at = connection.lane, connection.next_in_lane
    -- A broken frame is answered by its own code and by nothing else, and that code answers nothing else.
    while lane[at] and lane[at].broken ~= broken do at = at + 1 end
    exchange = lane[at]
    if exchange and final then
      lane[at] = false
      at = at + 1
    end
    connection.next_in_lane = at
  end
  if exchange and final then exchange.reply = look.pinfo.number end
  return exchange
end

-- Frames ------------------------------------------------------------------------------------------------------------

--[[
A look is one call of the dissector: `tvb`, `bytes` (the same as a string), `pinfo`, `tree`, `has_tree` and
`has_values` (whether anybody asks for what is put there, which is most of the work), `first` (whether Wireshark has
never been here), and on the first look `connection`, `direction`, `from`, `to`.
]]

-- What stands at the beginning of a frame: the `length` it declares, the `size` of the header itself, and of the
-- `whole` frame; or `reason`, why it is no header; or nothing, when there is too little of it.
local function read_header(bytes, at)
  local there = #bytes - at
  if there < 2 then return {} end
  local high, low = bytes:byte(at + 1, at + 2)
  local header = { length = (high - 32) % 256 * 256 + (low - 32) % 256, size = 2 }
  if header.length == 0xffff then
    if there < 6 then return {} end
    header.length, header.size = unsigned(bytes, at + 2, 4), 6
    if header.length < SHORT_END then
      header.reason = "a long frame declares %.0f bytes, which belong in a short one"
    end
  elseif header.length >= SHORT_END then
    header.reason = "the header declares %.0f bytes, a short frame holds at most " .. SHORT_END - 1
  end
  if not header.reason and header.length > packline.prefs.limit then
    header.reason = "the header declares %.0f bytes, the limit in the preferences is " .. packline.prefs.limit
  end
  if header.reason then
    header.reason = header.reason:format(header.length)
  else
    header.whole = header.size + header.length + 1
  end
  return header
end

-- From here on it is not known where the next frame begins.
local function lose(look, reason)
  if look.first then look.direction.lost, look.direction.lost_in = reason, look.pinfo.number end
end

-- Likewise, and a peer closes the connection. That frames come all the same may mean that the capture misses some
-- bytes, so they are shown, each with the reason to doubt it.
local function lose_for_good(look, reason)
  lose(look, reason)
  if look.first then look.direction.suspect = reason end
end

-- Why the bytes here must not be read as a frame, if so. Where a capture has begun inside a frame or misses some bytes,
-- a wrong guess would have Wireshark wait for up to a megabyte and show none of it. So a frame that is not all here yet
-- must begin like a message, although a peer would take it whatever it holds. And behind a broken frame the rest of the
-- packet is not read at all, nor what comes later unless it is sound in all that can be seen of it.
local function doubt(look, at, header)
  local direction = look.direction
  local begun = header.whole and begins_message(look.bytes, at + header.size)
  local whole = header.whole and at + header.whole <= #look.bytes
  if direction.lost then
    local sound = begun and not (whole and look.bytes:byte(at + header.whole) ~= 0x0a)
    if not sound or look.pinfo.number == direction.lost_in then return direction.lost end
    direction.lost = nil
  elseif header.whole and not whole and not begun and #look.bytes > at + header.size then
    lose(look, "no frame begins here: the capture misses the beginning, or this is another protocol")
    return direction.lost
  end
end

local function column(look, text)
  local info = look.pinfo.cols.info
  -- Several frames share a line, also where Wireshark calls several times for a packet; the fence keeps what is there.
  info:clear()
  local before = tostring(info)
  -- What TCP has to say stands there too, with a blank at its end. Without columns there is a name in parentheses.
  if before ~= "" and not before:find(" $") and before ~= "(info)" then text = " | " .. text end
  info:append(text)
  info:fence()
end

local function show_skipped(look, tree, at, reason)
  local size = #look.bytes - at
  local item = tree:add(field.skipped, look.tvb(at, size))
  item:set_text(string.format("%d bytes that are not read", size))
  item:add_proto_expert_info(problem.lost, reason)
end

-- A value and all that is in it. `left` counts down what may still be shown.
local function show_value(look, start, value, tree, label, left)
  if left.values <= 0 or not value.kind then return end
  left.values = left.values - 1
  local one = value_field[value.kind]
  local range = look.tvb(start + value.at, value.stop - value.at)
  local item
  if value.kind == "int" or value.kind == "uint" then
    item = tree:add(one, range, value.big or Int64.new(value.value))
  elseif value.kind == "nil" then
    item = tree:add(one, range)
  elseif value.kind == "bin" or value.kind == "ext" then
    item = tree:add(one, look.tvb(start + value.content, value.size))
  else
    item = tree:add(one, range, value.parts and value.size or value.value)
  end
  item:set_text(label .. ": " .. render(value))
  if value.problem then item:add_proto_expert_info(problem.message, value.problem) end
  for index, part in ipairs(value.parts or {}) do
    if left.values <= 0 then break end
    if value.kind == "array" then
      show_value(look, start, part, item, "[" .. index - 1 .. "]", left)
    elseif index % 2 == 1 then
      local content = value.parts[index + 1]
      local stop = content and content.stop or part.stop
      local entry = item:add(field.entry, look.tvb(start + part.at, stop - part.at))
      entry:set_text(key_text(part) .. ": " .. (content and render(content) or "?"))
      local key = entry:add(field.key, look.tvb(start + part.at, part.stop - part.at),
        part.kind == "text" and part.value or render(part))
      if part.problem then key:add_proto_expert_info(problem.message, part.problem) end
      if content then show_value(look, start, content, entry, "Value", left) end
    end
  end
end

-- All values of a message.
local function show_values(look, start, message, tree)
  if not look.has_values then return end
  local left = { values = MAX_SHOWN }
  for _, value in ipairs(message.values) do show_value(look, start, value, tree, "Message", left) end
  if left.values <= 0 then tree:add_proto_expert_info(problem.hidden) end
end

-- The fields with a meaning, each over the bytes of its value.
local function show_fields(look, start, message, tree, request)
  local function add(one, value, shown)
    return tree:add(one, look.tvb(start + value.at, value.stop - value.at), shown)
  end
  local fields = message.fields
  local function add_count(one, value)
    if is_count(value) then add(one, value, UInt64.new(value.value)) end
  end
  local function add_flag(one, value)
    if value and value.kind == "bool" then add(one, value, value.value) end
  end
  local function add_text(one, value)
    if value then add(one, value, value.kind == "text" and value.value or render(value)) end
  end
  if request then
    if message.cmd then add(field.cmd, fields.cmd, message.cmd) end
    add_count(field.number, fields.cmd)
  end
  add_count(field.seq, fields.seq)
  if request then
    if fields.ttl and is_number(fields.ttl) then add(field.ttl, fields.ttl, fields.ttl.value) end
    add_count(field.credit, fields.credit)
    if message.control then
      add_count(field.max, fields.max)
      add_flag(field.cancel, fields.cancel)
    end
  else
    add_text(field.res, fields.res)
    if fields.err then
      add_text(field.err, fields.err)
      add_text(field.msg, fields.msg)
    end
    add_flag(field.more, fields.more)
  end
end

local function show_links(look, record, tree)
  local exchange = record.exchange
  if not exchange then
    if record.unasked then tree:add_proto_expert_info(problem.unasked) end
    return
  end
  if record.opens then
    if exchange.reply then tree:add(field.reply_in, exchange.reply):set_generated() end
    return
  end
  tree:add(field.reply_to, exchange.name):set_generated()
  tree:add(field.request_in, exchange.request):set_generated()
  local nanoseconds = math.floor((look.pinfo.rel_ts - exchange.time) * 1e9 + 0.5)
  tree:add(field.time, NSTime.new(math.floor(nanoseconds / 1e9), nanoseconds % 1e9)):set_generated()
end

-- Parameters, or what else a reply says, in the order they came.
local function rest_of(message, without)
  local text = ""
  local map = message.values[1]
  if not map or map.kind ~= "map" then return text end
  for index = 2, #map.parts, 2 do
    local name = key_text(map.parts[index - 1])
    if not without[name] and map.parts[index].kind and #text < 200 then
      text = text .. " " .. name .. "=" .. render(map.parts[index])
    end
  end
  return text
end

local NOT_PARAMETERS = { cmd = true, seq = true, meta = true }
local NOT_CONTENT = { seq = true, err = true, more = true }

-- One line about a message.
local function summary(message, record)
  local seq = message.fields.seq and " seq=" .. render(message.fields.seq) or ""
  if record.kind == "request" or record.kind == "control" then
    return (message.cmd or message.problem and "malformed" or "no command") .. seq .. rest_of(message, NOT_PARAMETERS)
  end
  local name = record.exchange and " to " .. record.exchange.name or ""
  local code = message.fields.err and message.fields.err.kind == "text" and " " .. message.fields.err.value or ""
  return record.kind .. name .. seq .. code .. rest_of(message, NOT_CONTENT)
end

-- What a whole frame means beside those before it: decided once.
local function judge(look, record, message, sound)
  if not look.first then return end
  find_server(look, message)
  record.request = look.connection.server == look.to
  record.suspect = look.direction.suspect
  if not sound then
    record.kind = "broken"
    if record.request then
      record.exchange, record.opens = open_exchange(look, { cmd = "a broken frame" }), true
      record.exchange.broken = true
    end
  elseif record.request then
    check_request(message)
    if message.control and not message.problem then
      record.kind = "control"
      record.exchange = message.seq and look.connection.open[message.seq]
    else
      record.kind = message.control and "control" or "request"
      record.exchange, record.opens = open_exchange(look, message), true
    end
  else
    check_reply(message)
    record.exchange = settle_exchange(look, message)
    record.unasked = not record.exchange
    record.kind = message.fields.err and "error" or
      message.fields.more and message.fields.more.value == true and "item" or "reply"
  end
  record.problem, record.control = message.problem, message.control
end

-- A header that is none: nothing behind it can be read.
local function show_broken(look, record, at, header)
  judge(look, record, { fields = {} }, false)
  lose_for_good(look, "behind a header that is none, where a peer has stopped to read")
  local tree = look.tree:add(packline, look.tvb(at))
  tree:append_text(", no frame")
  tree:add(field.kind, "broken"):set_generated()
  tree:add(field.length, look.tvb(at, header.size), header.length):add_proto_expert_info(problem.header, header.reason)
  if at + header.size < #look.bytes then show_skipped(look, tree, at + header.size, "behind a header that is none") end
  show_links(look, record, tree)
  column(look, "no frame: " .. header.reason)
end

-- A frame of which not all bytes are here, and never will be.
local function show_cut(look, record, at, header)
  lose(look, "behind a frame that is not all here")
  local there = #look.bytes - at
  local tree = look.tree:add(packline, look.tvb(at))
  tree:add_proto_expert_info(problem.cut)
  if not header.whole then
    tree:append_text(", part of a header")
    column(look, "part of a header")
    return
  end
  tree:append_text(string.format(", %d of %d bytes of a frame", there, header.whole))
  tree:add(field.length, look.tvb(at, header.size), header.length)
  tree:add(field.long, look.tvb(at, header.size), header.size == 6)
  local message = read_message(look.bytes:sub(at + header.size + 1, at + header.size + header.length))
  show_values(look, at + header.size, message, tree)
  column(look, string.format("%d of %d bytes of a frame", there, header.whole))
end

local function show_frame(look, record, at, header)
  local start = at + header.size
  local stop = start + header.length
  local terminator = look.bytes:byte(stop + 1)
  local sound = terminator == 0x0a
  local message = read_message(look.bytes:sub(start + 1, stop))
  judge(look, record, message, sound)
  if not sound then lose_for_good(look, "behind a wrong terminator, where a peer has stopped to read") end
  record.kind = record.kind or "frame"
  message.control = record.control

  local text = sound and summary(message, record) or string.format("wrong terminator 0x%02x", terminator)
  if record.suspect then text = text .. " (behind a broken frame)" end
  column(look, text)
  if not look.has_tree then return end

  local tree = look.tree:add(packline, look.tvb(at, header.whole))
  tree:append_text(", " .. text)
  tree:add(field.kind, record.kind):set_generated()
  tree:add(field.length, look.tvb(at, header.size), header.length)
  tree:add(field.long, look.tvb(at, header.size), header.size == 6)
  show_fields(look, start, message, tree, record.request)
  show_values(look, start, message, tree)
  local last = tree:add(field.terminator, look.tvb(stop, 1), terminator)
  if not sound then
    last:add_proto_expert_info(problem.terminator)
  elseif record.problem then
    tree:add_proto_expert_info(problem.message, record.problem)
  end
  if record.kind == "error" then tree:add_proto_expert_info(problem.failed) end
  if record.suspect then tree:add_proto_expert_info(problem.lost, record.suspect) end
  show_links(look, record, tree)
end

-- Shows what begins at `at`. Answers with how many bytes it took; or with nothing, having asked Wireshark for more.
local function dissect_at(look, at)
  local pinfo, size = look.pinfo, #look.bytes
  -- Where a frame begins is the same each time, be it in a packet or in what Wireshark has put together for it.
  local key = pinfo.number .. " " .. look.tvb:offset() + at
  local record = records[key] or {}
  records[key] = record
  local header = read_header(look.bytes, at)
  if look.first then record.skip = doubt(look, at, header) end
  if record.skip then
    local tree = look.tree:add(packline, look.tvb(at))
    show_skipped(look, tree, at, record.skip)
    column(look, "not read: " .. size - at .. " bytes")
    return size - at
  end
  if header.reason then
    show_broken(look, record, at, header)
    return size - at
  end
  if header.whole and at + header.whole <= size then
    show_frame(look, record, at, header)
    return header.whole
  end
  if pinfo.can_desegment > 0 then
    pinfo.desegment_offset = at
    pinfo.desegment_len = header.whole and at + header.whole - size or DESEGMENT_ONE_MORE_SEGMENT
    return nil
  end
  show_cut(look, record, at, header)
  return size - at
end

function packline.dissector(tvb, pinfo, tree)
  local look = { tvb = tvb, bytes = tvb:raw(), pinfo = pinfo, tree = tree, first = not pinfo.visited }
  look.has_tree = tree:referenced(Dissector.get("packline"))
  for _, one in ipairs(in_values) do look.has_values = look.has_values or tree:referenced(one) end
  if look.first then look.connection, look.direction, look.from, look.to = connection_of(pinfo) end
  pinfo.cols.protocol = "packline"
  local at = 0
  while at < #look.bytes do
    local taken = dissect_at(look, at)
    if not taken then break end
    at = at + taken
  end
  return #look.bytes
end

-- Ports -------------------------------------------------------------------------------------------------------------

local tcp_ports = DissectorTable.get("tcp.port")
local ports = ""

local function listen()
  if packline.prefs.port == ports then return end
  if ports ~= "" then tcp_ports:remove(ports, packline) end
  ports = packline.prefs.port
  if ports ~= "" then tcp_ports:add(ports, packline) end
end

function packline.prefs_changed()
  listen()
end

listen()
