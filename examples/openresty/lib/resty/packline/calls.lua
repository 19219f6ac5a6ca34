--[[
The calls of packline.lua: each from its request to its final reply, with the items in both directions.

In: a client, a command, its parameters and options. Out, refused: see packline.lua.
]]

local Link = require "resty.packline.links"
local messages = require "resty.packline.messages"
local servers = require "resty.packline.servers"
local sockets = require "resty.packline.sockets"

local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local fail, to_frame, REFUSED = messages.fail, messages.to_frame, messages.REFUSED

local TIMER_MS_MAX = 2147483647 -- the longest time that nginx can wait
local STEP_MS = 50 -- how long it takes to notice that a call was closed
local REST_MS = 100 -- after this rest, check whether a shared connection has ended, which costs a millisecond
local DIAL_MS_MAX = 10000
local FRESH_TRIES = 2 -- the maximum of new connections for a call; if no server was reached, the number of servers

local function fail_to(action, reason, retryable)
  fail(reason == "timeout" and "TIMEOUT" or "CONNECTION_LOST", "cannot " .. action .. ": " .. reason, retryable)
end

-- Returns the items of a list, as it is now, one by one. Refuses a list with a hole, which would look like its end.
local function each_of(list)
  local copy, size, position = {}, 0, 0
  for key, item in pairs(list) do
    copy[key], size = item, size + 1
  end
  for i = 1, size do
    if copy[i] == nil then fail("INVALID_PARAMS", "items must be a list without holes; packline.null is a null") end
  end
  return function()
    position = position + 1
    return copy[position]
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

-- `credit`: how many items may be on their way; nil if the command should answer once.
function Call.new(client, cmd, params, options, credit)
  client.budget:called()
  local streams = credit or options.items ~= nil
  local timeout = options.timeout or (streams and math.huge) or client.timeout
  local call = setmetatable({
    client = client,
    cmd = cmd,
    options = options,
    credit = credit,
    taken = 0, -- items for which no credit has been granted again
    deadline = sockets.now() + (tonumber(timeout) or 0), -- prepare() refuses what is no number
    avoided = {}, -- servers that have failed or refused this call
    refusals = 0,
  }, Call)
  local sound, reason = pcall(call.prepare, call, params)
  if not sound and not messages.is_failure(reason) then error(reason, 0) end
  if not sound then call.failure = reason end
  return call
end

-- Takes what the caller hands over, as it is now.
function Call:prepare(params)
  local options, credit = self.options, self.credit
  if credit and not (messages.count(credit) and credit == floor(credit)) then
    fail("INVALID_PARAMS", "credit must be an integer above 0, and is " .. tostring(credit))
  end
  local timeout = tonumber(options.timeout or 0)
  if timeout ~= timeout or not timeout then
    fail("INVALID_PARAMS", "timeout must be a number of milliseconds, and is " .. tostring(options.timeout))
  end
  self.request = messages.to_request(self.cmd, options, params)
  if options.items == nil then return end
  if options.idempotent then
    fail("INVALID_PARAMS", "a call with items cannot be idempotent: they are sent once")
  end
  self.source = to_source(options.items)
end

-- How long to wait until the server takes or sends something.
function Call:patience()
  local ms = self.deadline < math.huge and ceil(self.deadline - sockets.now()) or self.client.timeout
  return min(max(1, ms), TIMER_MS_MAX)
end

-- A task: sends items as long as there is credit. If the source fails, or its item cannot be sent, it cancels the call.
-- `upload`: the state of the stream on one link.
function Call:send_items(upload)
  local source, link = self.source, self.link
  upload.running = true
  while upload.granted > 0 and not upload.ended do
    upload.taking = true
    local sound, frame = pcall(function() return to_frame(take_from(source, self.seq), self.client.bytes_max) end)
    upload.taking = false
    if upload.ended then return end
    if not sound then
      self.started = true -- the failure may be that of another call
      self:fail(frame)
      return link:give_up(self)
    end
    upload.granted, upload.ended = upload.granted - 1, source.ended
    if source.granted then source.held = nil end
    link:push(frame, self:patience())
  end
  upload.running = false
end

function Call:start_items()
  local upload = self.upload
  upload.task = sockets.spawn(self.link, function() self:send_items(upload) end)
end

-- Sets the failure for the caller. `reason` is a failure, or an error of the caller's function, which is raised again.
-- If a server may have started the call, it is not retryable, whatever the last server says.
function Call:fail(reason)
  local failure = messages.is_failure(reason) and reason or messages.failure("CANCELLED", tostring(reason))
  if failure ~= reason then self.raised = { reason } end
  if failure.retryable and (self.started or self.begun or (self.source and self.source.granted)) then
    failure = messages.failure(failure.code, failure.msg, false, failure.data, failure.after)
  end
  self.failure = failure
  if self.upload then self.upload.ended = true end
end

-- Connects to one of the servers. If there are several, it takes at most half of the time, to leave time for another.
function Call:dial()
  local client = self.client
  local made, obstacle = sockets.make()
  if not made then fail_to("reach " .. client.servers[1].address, obstacle, true) end
  local server, tries = servers.choose(client.servers, self.avoided)
  self.server, self.tries = server, tries
  local ms = min(self:patience(), DIAL_MS_MAX)
  if #client.servers > 1 then ms = ceil(ms / 2) end
  self.stop_counting = servers.count(server)
  local socket, reused = sockets.connect(made, client, server, ms)
  if socket then
    local endless = self.deadline == math.huge
    local silence_ms = endless and min(client.timeout, TIMER_MS_MAX) or math.huge
    return Link.new({ client = client, server = server, socket = socket, reused = reused }, silence_ms)
  end
  self.stop_counting()
  if reused == "timeout" and self:patience() > 1 then reused = "no connection within " .. ms .. " ms" end
  fail_to("reach " .. server.address, reused, true)
end

-- The shared connection of the client, if it can take one more call.
function Call:find_shared()
  local client = self.client
  while Link.is_active(client.dialing) do
    client.waiting[self] = true
    sockets.wait(client, self, min(self:patience(), DIAL_MS_MAX))
    if self.deadline <= sockets.now() then fail("TIMEOUT", "no connection in time; the request was not sent", true) end
  end
  local link = client.links[#client.links]
  if not link or link.leaving then return nil end
  sockets.check_owner(link)
  if link.open == 0 and sockets.now() - link.heard_at > REST_MS then link:step({}, sockets.now()) end
  if not link.failure and not link.leaving then return link end
end

-- The connection for this call: the shared connection of its client, or a connection from the pool.
function Call:connect()
  local client = self.client
  if not client.links then return self:dial() end
  local link = self:find_shared()
  if link then
    self.server, self.tries = link.server, false
    self.stop_counting = servers.count(link.server)
    return link
  end
  client.dialing = coroutine.running() or true
  local done, outcome = pcall(self.dial, self)
  client.dialing = nil
  for waiter in pairs(client.waiting) do sockets.wake(waiter) end
  client.waiting = {}
  if not done then error(outcome, 0) end
  return outcome
end

-- Sends the request, over one connection; raises a failure.
function Call:open()
  local client = self.client
  if self.failure then error(self.failure, 0) end -- closed meanwhile
  self.server, self.reused, self.answered, self.began = nil, false, false, sockets.now()
  self.inbox = {} -- received messages that were not taken yet
  self.room = self.credit or 0 -- how many items may still come
  if self.deadline <= self.began then fail("TIMEOUT", "no time is left; the request was not sent", true) end
  self.seq = Link.next_seq()
  local ttl = self.deadline < math.huge and self:patience() or nil
  local fields = { cmd = self.cmd, seq = self.seq, ttl = ttl, credit = self.credit, ["$items"] = self.source and true }
  local frame = to_frame(fields, client.bytes_max, self.request)
  local link = self:connect()
  self.link, self.reused = link, link.reused and not link.heard
  if self.failure then error(self.failure, 0) end -- closed while it was connecting
  link:request(self, frame, self:patience())
  if self.source then
    self.upload = { granted = 1 } -- the server takes one item without a grant
    self:start_items()
  end
end

-- Sends the request. If this fails, the caller gets the failure when it waits.
function Call:send()
  local done, outcome = pcall(self.open, self)
  if not done then self.obstacle = outcome end
  if self.failure then self:release() end -- closed, or without items, before it could wait
  return self
end

-- The next message about this call that is not a notice.
function Call:receive_reply()
  local link, upload = self.link, self.upload
  while true do
    local message, is_reply = link:receive(self)
    if link.heard and self.tries then
      servers.returned(self.server)
      self.tries = false
    end
    self.answered = link.heard
    if is_reply then return message end
    if self.failure then error(self.failure, 0) end
    if not message then
      local failure = link.failure
      if not failure then fail("TIMEOUT", "cannot receive the reply: timeout") end
      -- A server starts a request only after its last byte, which was not sent.
      if self.position > link.written and not failure.retryable then fail(failure.code, failure.msg, true) end
      error(failure, 0)
    elseif self.source and messages.count(message.credit) then
      upload.granted = upload.granted + floor(message.credit)
      self.source.granted, self.source.held = true, nil
      if not upload.running and not upload.ended then self:start_items() end
    end
  end
end

-- Leaves the connection. An unanswered call is cancelled. A connection that is not shared returns to the pool.
function Call:release()
  local link, upload = self.link, self.upload
  if not link then return end
  self.link, self.upload = nil, nil
  self.stop_counting()
  if upload then
    upload.ended = true
    if upload.taking then sockets.stop(link, upload.task) end -- it waits for its source
  end
  link:give_up(self)
  if self.client.links then return end
  link:drain()
  link:rest()
end

-- Returns an item or the final reply, over one connection; raises a failure.
function Call:take()
  local obstacle = self.obstacle
  self.obstacle = nil
  if obstacle then error(obstacle, 0) end
  if not self.link then self:open() end
  local reply = self:receive_reply()
  if reply.more then
    self.begun = true
    return reply
  end
  self:release()
  if reply.err == "DEADLINE_EXCEEDED" and self:patience() == 1 then reply.err = "TIMEOUT" end
  if reply.err then error(messages.failure_of(reply), 0) end
  if self.credit and not self.begun and reply.res ~= nil and not reply["$items"] then
    fail("BAD_REPLY", "the command does not answer with a stream")
  end
  reply.seq, reply["$items"] = nil, nil
  return reply
end

-- Whether the call may be sent again after this failure, and how long to wait before, in milliseconds.
function Call:may_repeat(failure, fresh)
  if self.begun or (self.source and self.source.granted) then return false end
  local refused, lost = REFUSED[failure.code], failure.code == "CONNECTION_LOST"
  if not (refused or (lost and (failure.retryable or self.options.idempotent))) then return false end
  local most = lost and failure.retryable and max(FRESH_TRIES, #self.client.servers) or FRESH_TRIES
  if fresh >= most and failure.code ~= "OVERLOADED" then return false end
  local wait_ms = refused and servers.wait_ms(failure, self.refusals) or 0
  if wait_ms >= self.deadline - sockets.now() then return false end
  -- A request that was not sent costs the servers nothing, so it is not counted as a retry.
  return (lost and failure.retryable) or self.client.budget:take(), wait_ms
end

-- Waits in steps, because the call may be closed meanwhile.
function Call:pause(ms)
  local deadline = sockets.now() + ms
  while not self.failure and sockets.now() < deadline do
    local ms = min(deadline - sockets.now(), STEP_MS)
    if self.client.links then self.client:poll(ms) else sockets.sleep(ms) end
  end
end

-- Remembers a failure: for all calls if the server is at fault, and for this call, which should use another server.
function Call:note(failure)
  if not self.reused or REFUSED[failure.code] then self.avoided[self.server] = true end
  if REFUSED[failure.code] then self.refusals = self.refusals + 1 end
  -- A connection from the pool may be stale, which says nothing about the server.
  local at_fault = failure.code == "CONNECTION_LOST" and (not self.reused or self.answered)
  if at_fault and not self.failure then servers.failed(self.server, self.began, self.answered) end
end

-- Returns an item or the final reply; or nil and the failure.
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
      self:release()
      local again, wait_ms = false, 0
      if messages.is_failure(outcome) then
        if not self.reused then fresh = fresh + 1 end
        again, wait_ms = self:may_repeat(outcome, fresh)
        if self.server then self:note(outcome) end
      end
      self.started = self.started or (again and not outcome.retryable)
      if again then self:pause(wait_ms) else self:fail(outcome) end
    else
      self:release()
    end
  until self.failure
  self.receiving = false
  return nil, self.failure
end

-- Returns the next item; or nil at the end, with the failure if there is one.
function Call:__call()
  if self.reply or self.failure then return nil, self.failure end
  local message, failure = self:receive()
  if self.raised then error(self.raised[1], 0) end
  if not message then return nil, failure end
  if not message.more then
    self.reply = message
    return nil
  end
  if message["$id"] ~= nil then self.id = message["$id"] end
  self.taken = self.taken + 1
  if self.taken * 2 >= self.credit then
    local credit = self.taken
    self.room, self.taken = self.room + credit, 0 -- first: another light thread may read its items meanwhile
    self.link:say({ cmd = 0, seq = self.seq, credit = credit }, self:patience())
  end
  if message.res == nil then return messages.null end
  return message.res
end

-- The reply to a call; or nil and the failure.
function Call:wait()
  if not self.reply and not self.failure then self.reply = self:receive() end
  if self.raised then error(self.raised[1], 0) end
  return self.reply, self.failure
end

-- Cancels the call if it has not ended. Who waits for it gets this failure.
function Call:cancel(code, msg)
  if self.reply or self.failure then return end
  self:fail(messages.failure(code, msg))
  if not self.link then return end
  self.link:give_up(self)
  if not self.receiving then self:release() end
end

function Call:close() self:cancel("CANCELLED", "it was closed here") end

-- An item has come for which there was no credit. If the link kept them, a server could fill the memory.
function Call:refuse_item()
  self:cancel("BAD_REPLY", self.credit and "more items than the credit" or "the command answers with a stream")
end

return Call
