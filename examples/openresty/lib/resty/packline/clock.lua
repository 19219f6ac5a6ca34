--[[
The monotonic clock of packline.lua. The wall clock can jump, and the time that nginx caches stands still while Lua
computes.

In: nothing. Out: milliseconds since the machine started, the same in all processes. Refused: nothing.
]]

local ffi = require "ffi"

local MONOTONIC = ({ OSX = 6, BSD = 4 })[ffi.os] or 1 -- its number; 1 is Linux

ffi.cdef 'int packline_clock_gettime(int, long *) __asm__("clock_gettime");'
local time = ffi.new("long[2]") -- seconds, nanoseconds

local clock = {}

function clock.now()
  ffi.C.packline_clock_gettime(MONOTONIC, time)
  return tonumber(time[0]) * 1000 + tonumber(time[1]) / 1000000
end

function clock.nanoseconds()
  ffi.C.packline_clock_gettime(MONOTONIC, time)
  return tonumber(time[1])
end

-- Returns a function that runs `action` once: when it is called, or when it is garbage-collected.
function clock.when_forgotten(action)
  local token = ffi.gc(ffi.new("char[1]"), action)
  return function()
    if not token then return end
    ffi.gc(token, nil)
    token = nil
    action()
  end
end

return clock
