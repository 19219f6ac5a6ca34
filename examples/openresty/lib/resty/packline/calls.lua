--[[
The calls of packline.lua: each from its request to its final reply, with the items that go either way.

In: a client, a command, its parameters and options. Out: an object that packline.lua describes. Refused: see there.
]]

local messages = require "resty.packline.messages"
local servers = require "resty.packline.servers"
local sockets = require "resty.packline.sockets"

local ceil, max, min = math.ceil, math.max, math.min
local fail, to_frame, SHORT_BYTES_MAX = messages.fail, messages.to_frame, messages.SHORT_BYTES_MAX

local TIMER_MS_MAX = 2147483647 -- the longest time that nginx can wait
local PATIENCE_MS = 50 -- after the deadline or a cancel: if the server reports it in this time, the connection is kept
local DIAL_MS_MAX = 10000
local FRESH_TRIES = 2 -- new connections for one call, at most; or as many as there are servers, if none could be reached
local PING = 1

local function fail_to(action, reason, retryable)
  fail(reason == "timeout" and "TIMEOUT" or "CONNECTION_LOST", "cannot " .. action .. ": " .. reason, retryable)
end

-- Refusals of calls that were not started.
local REFUSED = { SHUTTING_DOWN = true, OVERLOADED = true }

local last_seq = 0

local function next_seq()
  last_seq = last_seq + 1
  return last_seq
end

-- Sends what is queued. Only one task at a time writes to a socket, and sends what others queue meanwhile.
local function write(link, ms)
  if link.writing then return end
  link.writing = true
  while #link.queue > 0 do
    local bytes = table.concat(link.queue)
    link.queue = {}
    local sent, reason = sockets.send(link, bytes, ms)
    if not sent then return nil, reason end -- and nothing can be sent any more
  end
  link.writing = false
  return true
end

-- Takes the items of a list one by one. A hole in it would be taken for its end.
local function each_of(list)
  local size, position = 0, 0
  for _ in pairs(list) do size = size + 1 end
  for i = 1, size do
    if list[i] == nil then fail("INVALID_PARAMS", "items must be a list without holes; packline.null is a null") end
  end
  return function()
    position = position + 1
    return list[position]
  end
end

-- The caller's stream. It outlives a link: a call may be sent again with the only item that was sent.
local function to_source(items)
  if type(items) == "function" then return { take = items } end
  if type(items) ~= "table" then
    fail("INVALID_PARAMS", "items must be a list, or a function that returns the next item; this is a " .. type(items))
  end
  local callable = (getmetatable(items) or {}).__call
  return { take = callable and items or each_of(items) }
end

-- The next control message of the caller's stream.
local function take_from(source, seq)
  if source.held == nil and not source.ended then
    local item, reason = source.take()
    if item == nil and reason ~= nil then fail("CANCELLED", "the source of items failed: " .. tostring(reason)) end
    source.held, source.ended = item, item == nil
  end
  if source.ended then return { cmd = 0, seq = seq, ["end"] = true } end
  return { cmd = 0, seq = seq, item = source.held }
end

-- A call. If its command answers with a stream, calling this object returns the next item.
local Call = {}
Call.__index = Call

-- `credit`: how many items may be under way; nil if the command is to answer once.
function Call.new(client, cmd, params, options, credit)
  client.budget:called()
  local streams = credit or options.items ~= nil
  local timeout = options.timeout or (streams and math.huge) or client.timeout
  local call = setmetatable({
    client = client,
    cmd = cmd,
    params = params,
    options = options,
    credit = credit,
    taken = 0, -- items for which no credit has been granted again
    deadline = sockets.now() + timeout,
    avoided = {}, -- servers that have failed or refused this call
    refusals = 0,
  }, Call)
  if options.items ~= nil then
    local sound, source = pcall(to_source, options.items)
    if not sound then
      call.failure = source
    elseif options.idempotent then
      call.failure = messages.failure("INVALID_PARAMS", "a call with items cannot be idempotent: they are sent once")
    else
      call.source = source
    end
  end
  return call
end

-- How long to wait for the server to take something, or to say something.
function Call:patience()
  local ms = self.deadline < math.huge and ceil(self.deadline - sockets.now()) or self.client.timeout
  return min(max(1, ms), TIMER_MS_MAX)
end

-- Sends a message. If items are sent as well, a task does it (sockets.lua says why).
function Call:say(message)
  local link = self.link
  table.insert(link.queue, to_frame(message, SHORT_BYTES_MAX))
  local ms = self:patience()
  if self.source then sockets.spawn(link, function() write(link, ms) end) else write(link, ms) end
end

-- A task: sends items as long as there is credit. If the source fails, or its item cannot be sent, it cancels the call.
function Call:send_items(link)
  local source = self.source
  link.taking = true
  while link.granted > 0 and not link.ended do
    local sound, frame = pcall(function() return to_frame(take_from(source, link.seq), self.client.bytes_max) end)
    if link.ended then return end
    if not sound then
      self:fail(frame)
      source.ended = true
      frame = to_frame({ cmd = 0, seq = link.seq, cancel = true }, SHORT_BYTES_MAX)
    end
    link.granted, link.ended = link.granted - 1, source.ended
    if source.granted then source.held = nil end
    table.insert(link.queue, frame)
    write(link, self:patience())
  end
  link.taking = false
end

-- The failure that the caller gets; `reason` is one, or an error of the caller's own function, which is raised again.
function Call:fail(reason)
  self.failure = messages.is_failure(reason) and reason or messages.failure("CANCELLED", tostring(reason))
  if self.failure ~= reason then self.raised = { reason } end
end

-- A connection to one of the servers. If there are others, a server that does not answer leaves time for them.
function Call:connect()
  local client = self.client
  local made, obstacle = sockets.make()
  if not made then fail_to("reach " .. client.servers[1].address, obstacle, true) end
  self.server, self.tries = servers.choose(client.servers, self.avoided)
  local ms = min(self:patience(), DIAL_MS_MAX)
  if #client.servers > 1 then ms = ceil(ms / 2) end
  local stop_counting = servers.count(self.server)
  local socket, reused = sockets.connect(made, client, self.server, ms)
  if socket then return socket, reused, stop_counting end
  stop_counting()
  if reused == "timeout" and self:patience() > 1 then reused = "no connection within " .. ms .. " ms" end
  fail_to("reach " .. self.server.address, reused, true)
end

-- Connects and sends the request.
function Call:open()
  local client, options = self.client, self.options
  if self.failure then error(self.failure, 0) end -- closed meanwhile
  self.server, self.reused, self.answered, self.began = nil, false, false, sockets.now()
  if self.deadline <= self.began then fail("TIMEOUT", "no time is left; the request was not sent", true) end
  local seq = next_seq()
  local request = messages.to_request(self.cmd, seq, nil, options.meta, self.params)
  request.credit, request["$items"] = self.credit, self.source and true
  request.ttl = self.deadline < math.huge and self:patience() or nil
  local frame = to_frame(request, client.bytes_max)
  local socket, reused, stop_counting = self:connect()
  self.reused = reused
  local link = {
    socket = socket,
    seq = seq,
    queue = { reused and frame or client.greeting .. frame },
    tasks = {},
    granted = 1, -- items that the server takes
    stop_counting = stop_counting,
  }
  self.link = link
  if self.failure then error(self.failure, 0) end -- closed while it was connecting
  local sent, reason = write(link, self:patience())
  -- A server starts a request only after its last byte, which was not sent.
  if not sent then fail_to("send the request", reason, true) end
  if self.source then sockets.spawn(link, function() self:send_items(link) end) end
end

-- So many bytes. In a call without a deadline, the client says PING after silence, and gives up after more of it.
function Call:receive_bytes(size)
  local link, got = self.link, ""
  while true do
    local endless = self.deadline == math.huge
    local ms = min(self:patience() + (endless and 0 or PATIENCE_MS), TIMER_MS_MAX)
    local bytes, reason, part = sockets.receive(link, size - #got, ms)
    if bytes then return got .. bytes end
    if reason ~= "timeout" or not endless then fail_to("receive the reply", reason) end
    if link.ping then fail("CONNECTION_LOST", "the server has not answered a PING for " .. ms .. " ms") end
    got = got .. (part or "")
    link.ping = next_seq()
    self:say { cmd = PING, seq = link.ping }
  end
end

-- The next message about this call that is not a notice.
function Call:receive_reply()
  local link = self.link
  while true do
    local message, is_reply = messages.read(function(size) return self:receive_bytes(size) end, self.client.bytes_max)
    if link.ping and message.seq == link.ping then
      link.ping = nil
    elseif is_reply then
      return message
    elseif self.source and message.seq == link.seq and tonumber(message.credit) then
      link.granted = link.granted + message.credit
      self.source.granted, self.source.held = true, nil
      if not link.taking then sockets.spawn(link, function() self:send_items(link) end) end
    end
  end
end

-- Gives the connection back, or closes it if anything is outstanding.
function Call:release(sound)
  local link = self.link
  if not link then return end
  self.link, link.ended = nil, true
  local silent = not link.writing and not link.ping
  sockets.stop(link)
  link.stop_counting()
  if not (sound and silent and sockets.keep(self.client, self.server, link.socket)) then link.socket:close() end
end

-- An item or the final reply, over one connection; raises a failure.
function Call:take()
  if not self.link then self:open() end
  local reply = self:receive_reply()
  local seq, code = self.link.seq, reply.err
  self.answered = reply.seq == seq
  if self.tries then servers.returned(self.server) end
  self.tries = false
  if reply.seq ~= seq and (reply.seq or not code) then fail("BAD_REPLY", "it is another call's") end
  if reply.more then
    if not self.credit then fail("BAD_REPLY", "the command answers with a stream") end
    self.begun = true
    return reply
  end
  -- A failure without seq concerns the connection.
  self:release(reply.seq == seq and code ~= "SHUTTING_DOWN")
  if code == "DEADLINE_EXCEEDED" and self:patience() == 1 then code = "TIMEOUT" end
  if code then fail(code, reply.msg, REFUSED[code], reply.data, reply["$after"]) end
  if self.credit and not self.begun and reply.res ~= nil and not reply["$items"] then
    fail("BAD_REPLY", "the command does not answer with a stream")
  end
  reply.seq, reply["$items"] = nil, nil
  return reply
end

-- Whether the call may be sent again after this failure, and after which wait in milliseconds.
function Call:may_repeat(failure, fresh)
  if self.begun or (self.source and self.source.granted) then return false end
  local refused, lost = REFUSED[failure.code], failure.code == "CONNECTION_LOST"
  if not (refused or (lost and (failure.retryable or self.options.idempotent))) then return false end
  local most = lost and failure.retryable and max(FRESH_TRIES, #self.client.servers) or FRESH_TRIES
  if fresh >= most and failure.code ~= "OVERLOADED" then return false end
  local wait_ms = refused and servers.wait_ms(failure, self.refusals) or 0
  if wait_ms >= self.deadline - sockets.now() then return false end
  -- What was not sent costs no server anything.
  return (lost and failure.retryable) or self.client.budget:take(), wait_ms
end

-- Waits, in steps: the call may be closed meanwhile.
function Call:pause(ms)
  while ms > 0 and not self.failure do
    sockets.sleep(min(ms, PATIENCE_MS))
    ms = ms - PATIENCE_MS
  end
end

-- Takes note of a failure: for all calls if the server is at fault, and for this one, which should go elsewhere.
function Call:note(failure)
  if not self.reused or REFUSED[failure.code] then self.avoided[self.server] = true end
  if REFUSED[failure.code] then self.refusals = self.refusals + 1 end
  -- A connection from the pool may be stale: that says nothing about the server.
  local at_fault = failure.code == "CONNECTION_LOST" and (not self.reused or self.answered)
  if at_fault and not self.failure then servers.failed(self.server, self.began, self.answered) end
end

-- An item or the final reply; or nil and the failure.
function Call:receive()
  local fresh = 0
  self.receiving = true
  repeat
    local done, outcome = pcall(self.take, self)
    if not self.failure then
      if done then
        self.receiving = false
        return outcome
      end
      self:release(false)
      local again, wait_ms = false, 0
      if messages.is_failure(outcome) then
        if not self.reused then fresh = fresh + 1 end
        again, wait_ms = self:may_repeat(outcome, fresh)
        if self.server then self:note(outcome) end
      end
      if again then self:pause(wait_ms) else self:fail(outcome) end
    elseif not (done and outcome.more) then -- what was cancelled has ended
      self:release(false)
    end
  until self.failure and not self.link
  self.receiving = false
  if self.raised then error(self.raised[1], 0) end
  return nil, self.failure
end

-- The next item; nil at the end, and then the failure, if it is one.
function Call:__call()
  if self.reply or self.failure then return nil, self.failure end
  local message, failure = self:receive()
  if not message then return nil, failure end
  if not message.more then
    self.reply = message
    return nil
  end
  if message["$id"] ~= nil then self.id = message["$id"] end
  self.taken = self.taken + 1
  if self.taken * 2 >= self.credit then
    self:say { cmd = 0, seq = self.link.seq, credit = self.taken }
    self.taken = 0
  end
  if message.res == nil then return messages.null end
  return message.res
end

-- The reply to a call; or nil and the failure.
function Call:wait()
  if not self.reply and not self.failure then self.reply = self:receive() end
  return self.reply, self.failure
end

-- Cancels the call if it has not ended. A light thread that waits for it gets CANCELLED.
function Call:close()
  if self.reply or self.failure then return end
  self:fail(messages.failure("CANCELLED", "it was closed here"))
  if not self.link then return end
  self.deadline, self.link.ended = sockets.now(), true
  self:say { cmd = 0, seq = self.link.seq, cancel = true }
  if not self.receiving then self:receive() end -- what is under way, up to the final reply
end

return Call
