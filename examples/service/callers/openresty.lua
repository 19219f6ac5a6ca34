--[[
OpenResty: a location answers GET /record?degrees=4.5 and passes on the token and the trace of its own caller.

    set $weather_port 1235;
    location = /record { content_by_lua_file callers/openresty.lua; }
]]

local packline, cjson = require "resty.packline", require "cjson"

local token = (ngx.var.http_authorization or ""):match("^Bearer (.+)$")
local meta = { token = token, traceparent = ngx.var.http_traceparent }
local client = packline.new { port = tonumber(ngx.var.weather_port) }

local reply, failure = client:call("RECORD", { place = "Oslo", degrees = tonumber(ngx.var.arg_degrees) }, { meta = meta })
if reply then reply, failure = client:call("LIST", { place = "Oslo" }, { meta = meta }) end
if failure then
  ngx.status = failure.code == "UNAUTHENTICATED" and 401 or 502
  return ngx.say(failure.code)
end
local degrees = {}
for index, measurement in ipairs(reply.res) do degrees[index] = measurement.degrees end
ngx.say(cjson.encode(degrees))
