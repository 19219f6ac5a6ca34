--[[
The sockets of packline.lua: everything that differs between nginx and LuaSocket.

In: a link (links.lua): its `socket` and its `tasks`, whether a task is `writing`, and which waiters are `waiting` for a
message that another call reads. Tasks send while a call receives: if both ends sent and neither received, both would
wait forever. Out: what sockets return; "timeout" as the reason after the given milliseconds. Refused: nothing.
]]

local clock = require "resty.packline.clock"

local ADVICE = {
  init = "call in a timer that init_worker starts",
  balancer = "call in access_by_lua, and keep the answer in ngx.ctx",
}

local sockets = {}

-- A connection is reused only by clients that have promised the server the same.
local function pool_of(client, server) return server.name .. client.promise end

if ngx then
  local new_semaphore -- only a shared connection needs it, and it needs lua-resty-core

  -- The time for a deadline. nginx counts timers from its cached time, so that time is updated first.
  function sockets.now()
    ngx.update_time()
    return clock.now()
  end

  function sockets.sleep(ms) ngx.sleep(ms / 1000) end

  local function shake_hands(socket, tls, name)
    if tls.cert then
      if not socket.setclientcert then return nil, "a client's certificate needs lua-nginx-module 0.10.23 or later" end
      local set, reason = socket:setclientcert(tls.cert, tls.key)
      if not set then return nil, reason end
    end
    local shaken, reason = socket:sslhandshake(false, name, true)
    -- If a handshake ends at once, lua-nginx-module 0.10.23 closes a connection with an untrusted certificate, but
    -- still returns true.
    if shaken and not socket:getreusedtimes() then
      return nil, "the certificate is not for " .. name .. ", or nginx does not trust it"
    end
    return shaken, reason
  end

  -- Returns a socket to connect; or nil and the reason.
  function sockets.make()
    local made, socket = pcall(ngx.socket.tcp)
    if made then return socket end
    local phase = ngx.get_phase()
    local reason = phase == "init" and "it is init_by_lua*" or socket
    return nil, "this phase of nginx has no sockets (" .. reason .. "); " .. (ADVICE[phase] or "call in a timer")
  end

  -- Returns a connection, and whether it was used before.
  function sockets.connect(socket, client, server, ms)
    socket:settimeout(ms)
    local connected, reason
    if server.path then
      connected, reason = socket:connect("unix:" .. server.path, { pool = pool_of(client, server) })
    else
      connected, reason = socket:connect(server.bracketed, server.port, { pool = pool_of(client, server) })
    end
    if not connected then return nil, reason end
    local reused = socket:getreusedtimes() > 0
    if client.tls and not reused then
      connected, reason = shake_hands(socket, client.tls, server.tls_name)
      if not connected then return socket:close() and nil, "TLS: " .. tostring(reason) end
    end
    return socket, reused
  end

  -- Keeps a connection for a later call, if there is room. For nginx, a pool of 0 is an error, and 0 ms are no limit.
  function sockets.keep(client, _, socket)
    if client.pool_size < 1 or client.keepalive < 1 then return nil end
    return socket:setkeepalive(client.keepalive, client.pool_size)
  end

  -- Refuses a connection of another request that goes on: its socket would raise "bad request", in a task too.
  function sockets.check_owner(link)
    if not pcall(link.socket.receive, link.socket, 0) then
      error("this connection belongs to another request or timer; make one for each by client:connection()", 0)
    end
  end

  function sockets.send(link, bytes, ms)
    link.socket:settimeout(ms)
    return link.socket:send(bytes)
  end

  -- Receives at most this many bytes. receive() would restart its timeout with each byte.
  function sockets.receive(link, size, ms)
    link.socket:settimeout(ms)
    return link.socket:receiveany(size)
  end

  -- Starts a task: a light thread. After its end it takes memory until its parent thread waits for it. If the parent
  -- was killed before, lua-nginx-module 0.10.23 never ends the request.
  function sockets.spawn(link, run)
    local tasks = link.tasks
    link.threads = link.threads or setmetatable({}, { __mode = "k" })
    local task = ngx.thread.spawn(function()
      link.threads[coroutine.running()] = true
      run()
    end)
    table.insert(tasks, task)
    for i = #tasks, 1, -1 do
      if coroutine.status(tasks[i]) == "zombie" and pcall(ngx.thread.wait, tasks[i]) then table.remove(tasks, i) end
    end
    return task
  end

  -- Ends a task that waits for its source of items.
  function sockets.stop(_, task) ngx.thread.kill(task) end

  -- Whether the caller is a task.
  function sockets.is_task(link) return link.threads and link.threads[coroutine.running()] end

  -- A task that is stopped while it reads would end the connection, so tasks wait while others read.
  function sockets.may_read(link) return not sockets.is_task(link) end

  -- Waits until `wake()`.
  function sockets.wait(_, waiter, ms)
    new_semaphore = new_semaphore or require("ngx.semaphore").new
    waiter.semaphore = waiter.semaphore or new_semaphore()
    waiter.semaphore:wait(ms / 1000)
  end

  function sockets.wake(waiter) waiter.semaphore:post() end
else
  local luasocket = require "socket"
  local pools = {} -- by name: connections with the time of their last use, latest last

  sockets.now = clock.now

  function sockets.sleep(ms) luasocket.sleep(ms / 1000) end

  function sockets.make() return true end

  function sockets.connect(_, client, server, ms)
    local pool = pools[pool_of(client, server)] or {}
    while #pool > 0 do
      local kept = table.remove(pool)
      -- Readable means closed, or bytes that match no request.
      local readable = #luasocket.select({ kept.socket }, nil, 0) > 0
      if not readable and sockets.now() - kept.used < client.keepalive then return kept.socket, true end
      kept.socket:close()
    end
    local socket = server.path and require("socket.unix")() or luasocket.tcp()
    socket:settimeout(ms / 1000)
    local connected, reason = socket:connect(server.path or server.host, server.port)
    if not connected then return socket:close() and nil, reason end
    if not server.path then socket:setoption("tcp-nodelay", true) end
    return socket, false
  end

  function sockets.check_owner() end

  -- A shared connection has asked for notices, which are not read in this pool.
  function sockets.keep(client, server, socket)
    if client.links then return nil end
    local name = pool_of(client, server)
    pools[name] = pools[name] or {}
    local pool = pools[name]
    if #pool < client.pool_size then return table.insert(pool, { socket = socket, used = sockets.now() }) or true end
  end

  -- A task is a coroutine. It yields instead of waiting for its socket, and continues while its call waits for the
  -- socket.
  local function resume(link, task)
    local before = link.in_task -- a task may start another
    link.in_task = task
    local sound, reason = coroutine.resume(task)
    link.in_task = before
    if not sound then error(reason, 0) end
    return coroutine.status(task) ~= "dead"
  end

  -- Tries until there is a result or the time is over. `try` returns a result, or nil and the reason.
  local function persist(link, ms, try, reads)
    local deadline = sockets.now() + ms
    local alone = #link.tasks == 0 and not link.in_task -- nothing else can be done while the socket waits
    link.socket:settimeout(alone and ms / 1000 or 0)
    while true do
      local result, reason = try()
      if result or reason ~= "timeout" then return result, reason end
      local left = deadline - sockets.now()
      if left <= 0 then return nil, reason end
      if link.in_task then
        coroutine.yield()
      else
        for i = #link.tasks, 1, -1 do
          if not resume(link, link.tasks[i]) then table.remove(link.tasks, i) end
        end
        local one = { link.socket }
        luasocket.select(reads and one or nil, (link.writing or not reads) and one or nil, left / 1000)
      end
    end
  end

  function sockets.send(link, bytes, ms)
    local last = 0
    return persist(link, ms, function()
      local sent, reason, part = link.socket:send(bytes, last + 1)
      last = part or last
      return sent, reason
    end, false)
  end

  function sockets.receive(link, size, ms)
    return persist(link, ms, function()
      local bytes, reason, part = link.socket:receive(size)
      if not bytes and part ~= "" then return part end
      return bytes, reason
    end, true)
  end

  function sockets.spawn(link, run)
    local task = coroutine.create(run)
    if resume(link, task) then table.insert(link.tasks, task) end
    return task
  end

  function sockets.stop(link, task)
    for i = #link.tasks, 1, -1 do
      if link.tasks[i] == task then table.remove(link.tasks, i) end
    end
  end

  function sockets.is_task(link) return link.in_task and link.in_task == coroutine.running() end

  function sockets.may_read(link) return not link.in_task end

  -- Waits in a task until `wake()`, while its call continues.
  function sockets.wait(link, waiter, ms)
    local function is_awake() return not link.waiting[waiter], "timeout" end
    if not sockets.is_task(link) then
      error("a source of items cannot wait in another coroutine for a call on its own connection", 0)
    end
    persist(link, ms, is_awake, true)
  end

  function sockets.wake() end
end

return sockets
