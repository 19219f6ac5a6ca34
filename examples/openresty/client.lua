--[[
Calls a command from a shell, like the article's client: `luajit client.lua DELAY 2`, or `resty client.lua PING`.

In: a command, the seconds for DELAY, and PACKLINE_PORT in the environment if the port is not 1235. Out: the reply as
JSON and exit code 0, or 1 for a failure.
]]

package.path = (arg[0]:match("^.*/") or "") .. "lib/?.lua;" .. package.path
local client = require("resty.packline").new { port = tonumber(os.getenv("PACKLINE_PORT")) }

local reply, failure = client:call(arg[1] or "PING", { sleep = tonumber(arg[2]) })
print("you said " .. require("cjson").encode(reply or { err = failure.code, msg = failure.msg }))
os.exit(reply and 0 or 1)
