--[[
packline.lua: dissects packline connections in Wireshark and tshark (4.0 and later).

In: TCP on port 1235, or on the ports in the preferences. Out, for each frame: its length, its kind (PROTOCOL.md,
"Messages") and its fields, as columns and as filters; the whole message as a tree; a link from a request to its final
reply and back, with the time in between. Flagged: an invalid header, a wrong byte after the payload, an invalid
message.

Frames are cut by their length, never by a newline, and reassembled over segments. PROTOCOL.md describes the protocol.
]]

local SHORT_END = 57311 -- the shortest payload of a long frame
local LONGEST = 64 * 1024 * 1024 -- the largest payload that a server can accept
local MAX_DEPTH = 64 -- nested containers, as in a server
local MAX_SHOWN = 10000 -- the maximum of values shown for a message: Wireshark fails at a million lines

local COMMANDS = { ["0"] = "control", ["1"] = "PING", ["2"] = "DELAY", ["3"] = "INFO", ["4"] = "STATS" }

local function set_of(names)
  local set = {}
  for name in names:gmatch("%S+") do set[name] = true end
  return set
end

-- The kinds of messages, and the fields of each: PROTOCOL.md has them under "Messages".
local FIELDS = {
  ["request"] = set_of("cmd seq ttl meta credit $items"),
  ["settings"] = set_of("cmd max alive notice"),
  ["cancel"] = set_of("cmd seq cancel"),
  ["credit"] = set_of("cmd seq credit"),
  ["request item"] = set_of("cmd seq item"),
  ["request end"] = set_of("cmd seq end"),
  ["unknown control"] = set_of("cmd"),
  ["item"] = set_of("seq res more $id"),
  ["reply"] = set_of("seq res $items"),
  ["error"] = set_of("seq err msg data $after"),
  ["going"] = set_of("going"),
  ["request credit"] = set_of("seq credit"),
  ["unknown notice"] = set_of("seq"),
}

local packline = Proto("packline", "packline RPC")

local field = {
  kind = ProtoField.string("packline.kind", "Kind"),
  length = ProtoField.uint32("packline.length", "Length", base.DEC, nil, nil, "Bytes of payload"),
  cmd = ProtoField.string("packline.cmd", "Command", base.UNICODE, "By name, also where it came as a number"),
  seq = ProtoField.uint64("packline.seq", "Seq"),
  ttl = ProtoField.double("packline.ttl", "Time to live", "Milliseconds for which the answer is wanted"),
  meta = ProtoField.string("packline.meta", "Meta"),
  credit = ProtoField.uint64("packline.credit", "Credit", base.DEC, nil, nil, "Items of a stream"),
  max = ProtoField.uint64("packline.max", "Largest reply", base.DEC, nil, nil, "Bytes of payload"),
  alive = ProtoField.uint64("packline.alive", "Alive", base.DEC, nil, nil, "Milliseconds between signs of life"),
  notice = ProtoField.bool("packline.notice", "Wants notices"),
  going = ProtoField.double("packline.going", "Going", "Milliseconds for which the connection is still served"),
  cancel = ProtoField.bool("packline.cancel", "Cancel"),
  item = ProtoField.string("packline.item", "Item"),
  ["end"] = ProtoField.bool("packline.end", "End of the caller's stream"),
  res = ProtoField.string("packline.res", "Result"),
  more = ProtoField.bool("packline.more", "More items follow"),
  err = ProtoField.string("packline.err", "Error code"),
  msg = ProtoField.string("packline.msg", "Error text"),
  data = ProtoField.string("packline.data", "Error data"),
  value = ProtoField.string("packline.value", "Value"),
  terminator = ProtoField.uint8("packline.terminator", "Terminator", base.HEX),
  request_in = ProtoField.framenum("packline.request_in", "Request in packet", base.NONE, frametype.REQUEST),
  reply_in = ProtoField.framenum("packline.reply_in", "Final reply in packet", base.NONE, frametype.RESPONSE),
  reply_to = ProtoField.string("packline.reply_to", "Command of the request"),
  time = ProtoField.relative_time("packline.time", "Time since the request"),
}
packline.fields = field

local function flag(name, text, group, severity)
  return ProtoExpert.new("packline." .. name, text, expert.group[group], expert.severity[severity])
end

local problem = {
  header = flag("bad_header", "No frame begins here", "MALFORMED", "ERROR"),
  terminator = flag("bad_terminator", "The byte after the payload is not 0x0A", "MALFORMED", "ERROR"),
  message = flag("bad_message", "The payload is not a message", "PROTOCOL", "WARN"),
  cut = flag("cut", "Not all of the frame is here", "UNDECODED", "WARN"),
  failed = flag("failed", "The request failed", "RESPONSE_CODE", "NOTE"),
}
packline.experts = problem

packline.prefs.port = Pref.range("TCP ports", "1235", "Where packline servers listen: 1235, or 1235,4000-4010", 65535)
packline.prefs.names = Pref.string("Command names", "", "Names of your own numbered commands: 16=GREET 17=ADD")

-- MessagePack -------------------------------------------------------------------------------------------------------

--[[
A value is a table: `at` and `stop`, its bytes within the buffer; `text`, for display; or, for an array or a
map, `parts`: elements, or alternating keys and values.
]]

-- The types by first byte, from 0xc4 on, and the size of the number or length that follows.
local TAGS = { [0xca] = { "float", 4 }, [0xcb] = { "float", 8 } }
for index, bytes in ipairs({ 1, 2, 4, 8 }) do
  TAGS[0xcb + index] = { "uint", bytes }
  TAGS[0xcf + index] = { "int", bytes }
end
for index, bytes in ipairs({ 1, 2, 4 }) do
  TAGS[0xc3 + index] = { "binary", bytes }
  TAGS[0xc6 + index] = { "extension", bytes }
  TAGS[0xd8 + index] = { "string", bytes }
end
for index, bytes in ipairs({ 2, 4 }) do
  TAGS[0xdb + index] = { "array", bytes }
  TAGS[0xdd + index] = { "map", bytes }
end

local function fail(reason)
  error({ reason = reason }, 0)
end

-- The next bytes of a payload. A cursor has `tvb`, `at`, and `stop`, where the payload ends.
local function take(cursor, count)
  if count > cursor.stop - cursor.at then fail("it ends too early") end
  cursor.at = cursor.at + count
  return cursor.tvb(cursor.at - count, count)
end

local function float_text(number)
  if number ~= number then return "NaN" end
  if number == math.huge or number == -math.huge then return number > 0 and "Infinity" or "-Infinity" end
  -- A seq is told apart by its digits, in which both forms of a number must agree.
  if number == math.floor(number) and math.abs(number) < 2 ^ 53 then return string.format("%.0f", number) end
  local short = string.format("%.15g", number)
  return tonumber(short) == number and short or string.format("%.17g", number)
end

local READ = {
  float = function(cursor, bytes) return { text = float_text(take(cursor, bytes):float()) } end,
  uint = function(cursor, bytes) return { text = tostring(take(cursor, bytes):uint64()) } end,
  int = function(cursor, bytes) return { text = tostring(take(cursor, bytes):int64()) } end,
}

local read_value -- declared here, because containers call it recursively

local function read_sized(cursor, kind, size, depth)
  if kind == "string" then
    return { is_string = true, text = size > 0 and take(cursor, size):string(ENC_UTF_8) or "" }
  end
  if kind == "binary" or kind == "extension" then
    if kind == "extension" then take(cursor, 1) end
    if size > 0 then take(cursor, size) end
    return { text = string.format("<%s, %d bytes>", kind, size) }
  end
  if depth > MAX_DEPTH then fail("it is nested deeper than " .. MAX_DEPTH) end
  local value = { is_map = kind == "map", parts = {} }
  for _ = 1, kind == "map" and 2 * size or size do
    table.insert(value.parts, read_value(cursor, depth + 1))
  end
  return value
end

local function read_content(cursor, depth)
  local tag = take(cursor, 1):uint()
  if tag < 0x80 then return { text = string.format("%d", tag) } end
  if tag < 0x90 then return read_sized(cursor, "map", tag - 0x80, depth) end
  if tag < 0xa0 then return read_sized(cursor, "array", tag - 0x90, depth) end
  if tag < 0xc0 then return read_sized(cursor, "string", tag - 0xa0, depth) end
  if tag >= 0xe0 then return { text = string.format("%d", tag - 256) } end
  if tag == 0xc0 then return { text = "nil" } end
  if tag == 0xc2 or tag == 0xc3 then return { text = tostring(tag == 0xc3) } end
  if tag >= 0xd4 and tag <= 0xd8 then return read_sized(cursor, "extension", 2 ^ (tag - 0xd4), depth) end
  if tag == 0xc1 then fail("0xc1 is not a value") end
  local kind, bytes = TAGS[tag][1], TAGS[tag][2]
  if READ[kind] then return READ[kind](cursor, bytes) end
  return read_sized(cursor, kind, take(cursor, bytes):uint(), depth)
end

function read_value(cursor, depth)
  local at = cursor.at
  local value = read_content(cursor, depth)
  value.at, value.stop = at, cursor.at
  return value
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

-- A text on one line, cut after about 60 bytes, and only between characters.
local function line_of(text)
  if #text > 60 then text = text:sub(1, 60):gsub("[\192-\255][\128-\191]*$", "") .. "…" end
  return (text:gsub('[%c"\\]', function(character)
    return ESCAPES[character] or string.format("\\x%02x", character:byte())
  end))
end

local name_text

-- A value on one line, for labels and the column: about 80 bytes, then dots.
local function render(value)
  if value.is_string then return '"' .. line_of(value.text) .. '"' end
  if not value.parts then return value.text end
  local text = ""
  for index, part in ipairs(value.parts) do
    local is_key = value.is_map and index % 2 == 1
    if index > 1 then text = text .. ((is_key or not value.is_map) and ", " or ": ") end
    if #text > 80 then
      text = text .. "…"
      break
    end
    text = text .. (is_key and name_text(part) or render(part))
  end
  return value.is_map and "{" .. text .. "}" or "[" .. text .. "]"
end

-- A name on one line, without quotes.
function name_text(value)
  return value.text and line_of(value.text) or render(value)
end

-- Messages ----------------------------------------------------------------------------------------------------------

--[[
A message is a table: `map`, its only value; `fields`, its values by key, and `order`, the keys as received; or
`reason`, why it is invalid.
]]

local function read_message(tvb, at, stop)
  local cursor = { tvb = tvb, at = at, stop = stop }
  local ok, map = pcall(read_value, cursor, 1)
  -- An error that the payload did not cause is a bug in this file: show it.
  if not ok and type(map) ~= "table" then error(map, 0) end
  local message = { fields = {}, order = {} }
  if not ok then
    message.reason = map.reason
  elseif not map.parts or not map.is_map and #map.parts > 0 then -- Lua's empty map is an empty array
    message.reason = "it is not a map"
  elseif cursor.at < stop then
    message.reason = "bytes are left over"
  else
    message.map = map
    for index = 1, #map.parts - 1, 2 do
      local key = name_text(map.parts[index])
      message.fields[key] = map.parts[index + 1]
      table.insert(message.order, key)
    end
  end
  return message
end

local names

local function name_of(cmd)
  if not cmd then return "no command" end
  return cmd.is_string and name_text(cmd) or COMMANDS[cmd.text] or names[cmd.text] or "command " .. render(cmd)
end

local function seq_of(message)
  local seq = message.fields.seq
  return seq and seq.text and not seq.is_string and seq.text:match("^%d+$")
end

local function control_kind(fields)
  if fields.max or fields.alive or fields.notice then return "settings" end
  if fields.cancel then return "cancel" end
  if fields.credit then return "credit" end
  if fields.item then return "request item" end
  return fields["end"] and "request end" or "unknown control"
end

local function notice_kind(fields)
  if fields.seq then return fields.credit and "request credit" or "unknown notice" end
  return fields.going and "going" or "unknown notice"
end

local function is_answer(kind)
  return kind == "item" or kind == "reply" or kind == "error"
end

-- A message with neither res nor err is a notice if it has a field that no reply has.
local function is_notice(message)
  for _, name in ipairs(message.order) do
    if not (FIELDS.item[name] or FIELDS.reply[name] or FIELDS.error[name]) then return true end
  end
  return false
end

-- A message with a command is from the client. If it has none and is not a reply, the port shows its direction.
local function kind_of(message, to_server)
  local fields = message.fields
  if fields.cmd then return render(fields.cmd) == "0" and control_kind(fields) or "request" end
  if fields.err then return "error" end
  if fields.res then return fields.more and render(fields.more) == "true" and "item" or "reply" end
  if to_server then return "request" end
  return is_notice(message) and notice_kind(fields) or "reply"
end

-- The fields that are not listed at the end of the column's text.
local UNSAID = { cmd = true, seq = true, meta = true, err = true, more = true }

-- The fields that only mark the kind of a message.
local MARKS = { ["cancel"] = "cancel", ["request end"] = "end" }

local function summary(record, message)
  if message.reason then return "no message: " .. message.reason end
  local fields = message.fields
  local text = record.kind
  if record.kind == "request" then text = name_of(fields.cmd) end
  if record.exchange and record.exchange ~= record.opened then text = text .. " to " .. record.exchange.name end
  if fields.seq then text = text .. " seq=" .. render(fields.seq) end
  if record.kind == "error" then text = text .. " " .. name_text(fields.err) end
  for _, key in ipairs(message.order) do
    local is_said = UNSAID[key] or MARKS[record.kind] == key
    if not is_said and #text < 200 then text = text .. " " .. key .. "=" .. render(fields[key]) end
  end
  return text
end

-- Requests and replies ----------------------------------------------------------------------------------------------

local connections -- by their two ends: open requests, by seq, and in order for requests without seq
local connection -- the current one
local records -- the results of the first pass over each frame, by its position

function packline.init()
  connections, records, names = {}, {}, {}
  for number, name in packline.prefs.names:gmatch("(%d+)=(%S+)") do names[number] = name end
end

-- The connection of a segment, on the first pass.
local function connection_of(pinfo)
  local from, to = tostring(pinfo.src) .. " " .. pinfo.src_port, tostring(pinfo.dst) .. " " .. pinfo.dst_port
  local key = from < to and from .. " " .. to or to .. " " .. from
  -- Wireshark uses the port table only for the first segment of a connection, so a match means a new connection: it
  -- must not inherit open requests of an earlier one on the same ports.
  if not connections[key] or pinfo.match_uint == pinfo.src_port or pinfo.match_uint == pinfo.dst_port then
    pinfo.conversation = packline
    connections[key] = { server = pinfo.match_uint, by_seq = {}, in_order = {} }
  end
  return connections[key]
end

-- The first pass over a frame, in the order of the capture: its message, and the request of a reply.
local function judge(pinfo, message, sound)
  local record = { kind = kind_of(message, pinfo.dst_port == connection.server) }
  -- An invalid frame is answered without a seq.
  local seq = sound and seq_of(message)
  if record.kind == "request" then
    local name = not sound and "a broken frame" or message.reason and "no message" or name_of(message.fields.cmd)
    record.opened = { packet = pinfo.number, time = pinfo.rel_ts, name = name }
    record.exchange = record.opened
    if seq then connection.by_seq[seq] = record.opened else table.insert(connection.in_order, record.opened) end
  elseif is_answer(record.kind) then
    record.exchange = seq and connection.by_seq[seq] or not seq and connection.in_order[1] or nil
    if record.exchange and record.kind ~= "item" then
      record.exchange.reply = pinfo.number
      if seq then connection.by_seq[seq] = nil else table.remove(connection.in_order, 1) end
    end
  end
  return record
end

-- The tree and the columns ------------------------------------------------------------------------------------------

local function column(pinfo, text)
  local info = pinfo.cols.info
  -- Several frames share a line, even if Wireshark calls several times for a packet; the fence keeps earlier text.
  info:clear()
  local before = tostring(info)
  -- The column may hold the text of TCP, which ends with a space. Without columns, it is a name in parentheses.
  info:append(before ~= "" and not before:find(" $") and before ~= "(info)" and " | " .. text or text)
  info:fence()
end

-- A value and its content. `left` counts the values that may still be shown.
local function show_value(tree, tvb, value, label, left)
  left.values = left.values - 1
  if left.values < 0 then return end
  local text = value.text or render(value)
  local item = tree:add(field.value, tvb(value.at, value.stop - value.at), text):set_text(label .. render(value))
  for index, part in ipairs(value.parts or {}) do
    if not value.is_map then
      show_value(item, tvb, part, "[" .. index - 1 .. "]: ", left)
    elseif index % 2 == 0 then
      show_value(item, tvb, part, name_text(value.parts[index - 1]) .. ": ", left)
    end
  end
end

local function show_links(tree, pinfo, record)
  local exchange = record.exchange
  if not exchange then return end
  if exchange == record.opened then
    if exchange.reply then tree:add(field.reply_in, exchange.reply):set_generated() end
    return
  end
  tree:add(field.reply_to, exchange.name):set_generated()
  tree:add(field.request_in, exchange.packet):set_generated()
  local nanoseconds = math.floor((pinfo.rel_ts - exchange.time) * 1e9 + 0.5)
  tree:add(field.time, NSTime.new(math.floor(nanoseconds / 1e9), nanoseconds % 1e9)):set_generated()
end

-- Shows the bytes that cannot be read, up to the end of the packet, and the reason.
local function show_unread(tvb, pinfo, root, at, what, why)
  local tree = root:add(packline, tvb(at)):append_text(", " .. what)
  tree:add_proto_expert_info(what == "no frame" and problem.header or problem.cut, why)
  column(pinfo, what .. ": " .. why)
  return tvb:len() - at
end

local function text_value(value)
  return value.text or render(value)
end

local function count_value(value)
  local digits = value.text and not value.is_string and value.text:match("^%d+$")
  return digits and UInt64.new(digits) or nil
end

local function number_value(value)
  return value.text and not value.is_string and tonumber(value.text) or nil
end

local function flag_value(value)
  if value.is_string or value.text ~= "true" and value.text ~= "false" then return nil end
  return value.text == "true"
end

-- The fields of messages that can be filtered, and their values. A value of a wrong type is shown only in the tree.
local VALUES = {
  { "seq", count_value },
  { "ttl", number_value },
  { "meta", text_value },
  { "credit", count_value },
  { "max", count_value },
  { "alive", count_value },
  { "notice", flag_value },
  { "cancel", flag_value },
  { "item", text_value },
  { "end", flag_value },
  { "res", text_value },
  { "more", flag_value },
  { "err", text_value },
  { "msg", text_value },
  { "data", text_value },
  { "going", number_value },
}

-- Returns the number of bytes used: all bytes if frame boundaries are lost.
local function show_frame(tvb, pinfo, root, at, header)
  local start, stop = at + header.size, at + header.whole - 1
  local terminator = tvb(stop, 1):uint()
  local message = read_message(tvb, start, stop)
  local key = pinfo.number .. " " .. tvb:offset() + at
  if not pinfo.visited and not records[key] then records[key] = judge(pinfo, message, terminator == 0x0a) end
  local record = records[key]
  local text = summary(record, message)
  if terminator ~= 0x0a then text = string.format("wrong terminator 0x%02x: ", terminator) .. text end
  column(pinfo, text)

  local tree = root:add(packline, tvb(at, header.whole)):append_text(", " .. text)
  tree:add(field.length, tvb(at, header.size), header.length)
  tree:add(field.kind, record.kind):set_generated()
  local fields = message.fields
  local function range_of(value) return tvb(value.at, value.stop - value.at) end
  if fields.cmd then tree:add(field.cmd, range_of(fields.cmd), name_of(fields.cmd)) end
  for _, known in ipairs(VALUES) do
    local name, value_of = known[1], known[2]
    local value
    if fields[name] and FIELDS[record.kind][name] then value = value_of(fields[name]) end
    if value ~= nil then tree:add(field[name], range_of(fields[name]), value) end
  end
  if message.map then show_value(tree, tvb, message.map, "Message: ", { values = MAX_SHOWN }) end
  local last = tree:add(field.terminator, tvb(stop, 1))
  if terminator ~= 0x0a then last:add_proto_expert_info(problem.terminator) end
  if message.reason then
    tree:add_proto_expert_info(problem.message, "The payload is not a message: " .. message.reason)
  end
  if record.kind == "error" then tree:add_proto_expert_info(problem.failed) end
  show_links(tree, pinfo, record)
  if terminator == 0x0a or stop + 1 == tvb:len() then return header.whole end
  return header.whole + show_unread(tvb, pinfo, root, stop + 1, "no frame", "a peer stops reading before this")
end

-- Frames ------------------------------------------------------------------------------------------------------------

local function refuse(length, why)
  return { reason = string.format("%d bytes are declared, %s", length, why) }
end

-- The header of a frame: the declared `length`, the `size` of the header, and `whole`, the size of the frame; or
-- `reason`, why it is invalid; or nil, if it is incomplete.
local function read_header(tvb, at)
  local there = tvb:len() - at
  if there < 2 then return nil end
  local length, size = (tvb(at, 1):uint() - 32) % 256 * 256 + (tvb(at + 1, 1):uint() - 32) % 256, 2
  if length == 0xffff then
    if there < 6 then return nil end
    length, size = tvb(at + 2, 4):uint(), 6
    if length < SHORT_END then return refuse(length, "which belong in a short frame") end
    if length > LONGEST then return refuse(length, "more than any server takes") end
  elseif length >= SHORT_END then
    return refuse(length, "and a short frame holds at most " .. SHORT_END - 1)
  end
  local whole = size + length + 1
  -- If a capture begins inside a frame, a wrong guess would make Wireshark wait forever. So an incomplete frame must
  -- begin like a message, although a peer would accept any content.
  if whole > there and there > size then
    local tag = tvb(at + size, 1):uint()
    if tag < 0x80 or tag > 0x90 and tag < 0xdc or tag > 0xdf then
      return { reason = "the capture misses what came before, or this is another protocol" }
    end
  end
  return { length = length, size = size, whole = whole }
end

-- Shows the frame at `at`. Returns the number of bytes used, or nil after asking Wireshark for more.
local function dissect_at(tvb, pinfo, root, at)
  local header, there = read_header(tvb, at), tvb:len() - at
  if header and header.reason then return show_unread(tvb, pinfo, root, at, "no frame", header.reason) end
  if header and header.whole <= there then
    return show_frame(tvb, pinfo, root, at, header)
  end
  if pinfo.can_desegment > 0 then
    pinfo.desegment_offset = at
    pinfo.desegment_len = header and header.whole - there or DESEGMENT_ONE_MORE_SEGMENT
    return nil
  end
  local of = header and string.format(" of %d", header.whole) or ""
  return show_unread(tvb, pinfo, root, at, "part of a frame", string.format("%d%s bytes", there, of))
end

function packline.dissector(tvb, pinfo, root)
  pinfo.cols.protocol = "packline"
  if not pinfo.visited then connection = connection_of(pinfo) end
  local at = 0
  while at < tvb:len() do
    local taken = dissect_at(tvb, pinfo, root, at)
    if not taken then break end
    at = at + taken
  end
  return tvb:len()
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

packline.prefs_changed = listen
listen()
