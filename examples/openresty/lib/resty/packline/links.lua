--[[
The links of packline.lua: a link is one connection, for one call or for several calls at a time.

In: a socket; frames; the calls, by `seq`. Out: the messages of each call, in its `inbox`. Refused: invalid frames, and
replies that no call waits for. They end the connection and its calls. More items than a call has credit for end it.

No connection is read in the background. A waiting call reads it, and passes on the messages of other calls. In nginx
one light thread reads at a time, and the others wait for their semaphores. The reader also keeps the promise `alive`.
]]

local messages = require "resty.packline.messages"
local sockets = require "resty.packline.sockets"

local ceil, floor, huge, max, min = math.ceil, math.floor, math.huge, math.max, math.min
local to_frame, SHORT_BYTES_MAX = messages.to_frame, messages.SHORT_BYTES_MAX

local TIMER_MS_MAX = 2147483647 -- the longest time that nginx can wait
local SILENCE_MS_MIN = 2000 -- PROTOCOL.md, "Signs of life"
local PATIENCE_MS = 50 -- for the answer to a cancel, before the connection is closed
local CANCEL_MS = 10000 -- a server answers a cancel at once: PROTOCOL.md, "Duties of a client"
local PROGRESS_BYTES = 1024 -- less of a message is no sign of life: it may never be complete
local PING = 1

local LATE = {} -- raised if no complete message came in time

local Link = {}
Link.__index = Link

local last_seq = 0

function Link.next_seq()
  last_seq = last_seq + 1
  return last_seq
end

-- `fields`: `client`, `server`, `socket`, and whether it is `reused`. `silence_ms`: after this silence the client sends
-- PING; nil if the connection is shared, because the client has then promised signs of life.
function Link.new(fields, silence_ms)
  local link, shared, now = setmetatable(fields, Link), fields.client.links, sockets.now()
  link.tick_ms = shared and link.client.alive / 3 or silence_ms
  link.limit_ms = shared and max(SILENCE_MS_MIN, link.client.alive) or silence_ms
  link.calls, link.open = {}, 0 -- calls without a final reply, by seq, and their number
  link.queue, link.tasks, link.waiting = { not link.reused and link.client.greeting or nil }, {}, {}
  link.queued, link.written = #link.queue, 0 -- frames
  link.held, link.held_bytes = {}, 0 -- the received part of the next message
  link.spoke_at, link.heard_at = now, now -- `heard_at`: when a message, or PROGRESS_BYTES more of one, had come
  if shared then table.insert(shared, link) end
  return link
end

-- Whether a thread is still at work: it can be killed while it waits.
function Link.is_active(thread)
  return thread and not (type(thread) == "thread" and coroutine.status(thread) == "dead")
end

local is_active = Link.is_active

local function lost(text) return messages.failure("CONNECTION_LOST", text) end

local function ms_until(time) return min(max(1, ceil(time - sockets.now())), TIMER_MS_MAX) end

function Link:wake(waiter)
  if not self.waiting[waiter] then return end
  self.waiting[waiter] = nil
  sockets.wake(waiter)
end

-- The link takes no more calls. Its open calls get this failure.
function Link:fail(failure)
  self.failure = failure
  local shared = self.client.links or {}
  for i = #shared, 1, -1 do
    if shared[i] == self then table.remove(shared, i) end
  end
  for waiter in pairs(self.waiting) do self:wake(waiter) end
end

-- Ends the connection.
function Link:lose(failure)
  if self.failure then return end
  self:fail(failure)
  -- nginx does not close a socket that is in use: the reader closes it when it continues.
  if not is_active(self.reader) then self.socket:close() end
end

function Link:close() self:lose(lost("the connection was closed here")) end

-- The link takes no more calls, and ends with the last open call.
function Link:leave()
  self.leaving = true
  if self.open == 0 then self:close() end
end

-- Gives the connection to the pool, or closes it if anything is outstanding.
function Link:rest()
  if self.failure then return end
  local busy = self.leaving or self.ping or self.writing or is_active(self.reader) or #self.queue + self.held_bytes > 0
  if self.open > 0 or busy or not sockets.keep(self.client, self.server, self.socket) then return self:close() end
  self:fail(lost("the connection is in the pool"))
end

-- Writing ------------------------------------------------------------------------------------------------------------

-- Sends the queued frames. Only one task at a time writes to a socket. It also sends what others queue meanwhile.
function Link:write(ms)
  if self.writing then return end
  self.writing = true
  while #self.queue > 0 and not self.failure do
    local frames = self.queue
    self.queue = {}
    local sent, reason = sockets.send(self, table.concat(frames), ms)
    if not sent then
      local late = reason == "timeout" and not self.client.links -- its only call is out of time
      self:lose(messages.failure(late and "TIMEOUT" or "CONNECTION_LOST", "cannot send the request: " .. reason))
    end
    if self.failure then return self.socket:close() end
    self.written, self.spoke_at = self.written + #frames, sockets.now()
  end
  self.writing = false
end

-- Sends a frame. If there may be other calls or items, a task sends it (sockets.lua says why).
function Link:push(frame, ms)
  if self.failure then return end
  table.insert(self.queue, frame)
  self.queued = self.queued + 1
  local shared = self.client.links
  if shared then ms = self.limit_ms end -- one call without time must not break the frames of others
  if not (shared or self.has_items) or sockets.is_task(self) then return self:write(ms) end
  if not self.writing then sockets.spawn(self, function() self:write(ms) end) end
end

function Link:say(message, ms) self:push(to_frame(message, SHORT_BYTES_MAX), ms) end

-- Sends a request, and registers its call for replies.
function Link:request(call, frame, ms)
  self.calls[call.seq], self.open = call, self.open + 1
  self.has_items = self.has_items or call.source
  call.position = self.queued + 1
  self:push(frame, ms)
end

-- Cancels a call whose reply is no longer needed. It stays open until the server has answered it.
function Link:give_up(call)
  if self.calls[call.seq] ~= call or call.given_up == self then return end
  call.given_up = self
  self.cancelled_at = self.cancelled_at or sockets.now()
  self:say({ cmd = 0, seq = call.seq, cancel = true }, PATIENCE_MS)
  self:wake(call)
end

-- Signs of life ------------------------------------------------------------------------------------------------------

-- The time of the next `look_after()`; only while a call is open.
function Link:due()
  if self.open == 0 then return huge end
  local cancelled = max(self.cancelled_at or huge, self.heard_at) + CANCEL_MS
  if not self.ping then return min(cancelled, min(self.spoke_at, self.heard_at) + self.tick_ms) end
  local promised = self.client.links and self.spoke_at + self.tick_ms or huge
  return min(cancelled, promised, max(self.ping_at, self.heard_at) + self.limit_ms)
end

function Link:look_after()
  local now = sockets.now()
  if now < self:due() then return end
  if self.ping and now - max(self.ping_at, self.heard_at) >= self.limit_ms then
    self:lose(lost("the server has not answered a PING for " .. self.limit_ms .. " ms"))
  elseif self.cancelled_at and now - max(self.cancelled_at, self.heard_at) >= CANCEL_MS then
    self:lose(lost("the server has not answered a cancel for " .. CANCEL_MS .. " ms"))
  elseif self.ping then
    self:push(self.client.greeting, self.limit_ms) -- any byte is a sign of life
  else
    self.ping, self.ping_at = Link.next_seq(), now
    self:say({ cmd = PING, seq = self.ping }, self.limit_ms)
  end
end

-- Reading ------------------------------------------------------------------------------------------------------------

-- Returns the next message. The part received until `time` is kept.
function Link:read(time)
  local position = 0
  local function receive(size)
    position = position + size
    while self.held_bytes < position do
      local bytes, reason = sockets.receive(self, position - self.held_bytes, ms_until(time))
      if bytes then
        table.insert(self.held, bytes)
        local steps = floor(self.held_bytes / PROGRESS_BYTES)
        self.held_bytes = self.held_bytes + #bytes
        if floor(self.held_bytes / PROGRESS_BYTES) > steps then self.heard_at = sockets.now() end
      elseif reason ~= "timeout" then
        messages.fail("CONNECTION_LOST", "cannot receive the reply: " .. reason)
      end
      if self.held_bytes < position and sockets.now() >= time then error(LATE, 0) end
    end
    if #self.held > 1 then self.held = { table.concat(self.held) } end
    return self.held[1]:sub(position - size + 1, position)
  end
  local message, is_reply = messages.read(receive, self.client.bytes_max)
  self.held, self.held_bytes, self.heard_at = {}, 0, sockets.now()
  return message, is_reply
end

-- Passes a message on to its call.
function Link:take(message, is_reply)
  local seq = message.seq
  self.heard, self.cancelled_at = true, nil
  if seq == nil and message.err then -- about the connection
    return self:lose(messages.failure_of(message))
  elseif seq == nil and message.going and not is_reply then
    return self:leave()
  elseif seq ~= nil and seq == self.ping then
    self.ping = nil
    return
  end
  local call = seq ~= nil and self.calls[seq]
  if not call then
    if is_reply then self:lose(messages.failure("BAD_REPLY", "no call waits for this reply")) end
    return
  end
  local is_item = is_reply and message.more
  if call.given_up ~= self then
    if is_item then call.room = call.room - 1 end
    if call.room < 0 then return call:refuse_item() end
    table.insert(call.inbox, { message, is_reply })
    self:wake(call)
  end
  if not is_reply or is_item then return end
  self.calls[seq], self.open = nil, self.open - 1
  if self.leaving or message.err == "SHUTTING_DOWN" then self:leave() end
end

-- Waits until something happens on the connection, but not beyond `time`.
function Link:step(waiter, time)
  local due = min(time, self:due())
  if is_active(self.reader) or not sockets.may_read(self) then
    self.waiting[waiter] = true
    sockets.wait(self, waiter, ms_until(due))
    self.waiting[waiter] = nil
    return self:look_after() -- the reader may have begun when no call was open
  end
  self.reader = coroutine.running() or true
  local done, message, is_reply = pcall(self.read, self, due)
  self.reader = nil
  if self.failure then
    self.socket:close()
  elseif done then
    self:take(message, is_reply)
  elseif message == LATE then
    self:look_after()
  elseif messages.is_failure(message) then
    self:lose(message)
  else
    error(message, 0)
  end
end

-- Returns the next message for a call, and whether it is a reply; nil if the call is closed, late or disconnected.
function Link:receive(call)
  while #call.inbox == 0 and not (self.failure or call.failure or call.deadline <= sockets.now()) do
    self:step(call, call.deadline)
  end
  self:hand_over()
  local first = table.remove(call.inbox, 1)
  if first then return first[1], first[2] end
end

-- The reader has what it needs: wakes another waiter to read.
function Link:hand_over()
  local waiter = next(self.waiting)
  if waiter and not is_active(self.reader) then self:wake(waiter) end
end

-- Waits for the last replies of cancelled calls, but only as long as a server that answers at once needs.
function Link:drain()
  local deadline = sockets.now() + PATIENCE_MS
  while self.open > 0 and not self.failure and sockets.now() < deadline do self:step({}, deadline) end
  self:hand_over()
end

return Link
