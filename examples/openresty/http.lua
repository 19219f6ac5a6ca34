--[[
Shared by the locations of nginx.conf.

In: a request with a command's name in its path, and parameters in its query or in a JSON body. Out: a client of
packline, parameters, and answers as JSON with the matching HTTP status. Refused: a body that is not a JSON object
(400), and an upload without a Content-Length (411).
]]

local packline = require "resty.packline"
local cjson = require("cjson").new()
cjson.decode_invalid_numbers(false) -- 0x10 and NaN are text
cjson.encode_sparse_array(true)
cjson.encode_invalid_numbers("null") -- JSON has no infinity and no NaN

local STATUS = {
  INVALID_MESSAGE = 400, INVALID_PARAMS = 400, INVALID_SLEEP = 400, UNAUTHENTICATED = 401, CMD_NOT_FOUND = 404,
  LENGTH_REQUIRED = 411,
  INTERNAL = 500, REPLY_TOO_LARGE = 500, REPLY_NOT_ENCODABLE = 500,
  BAD_REPLY = 502, CONNECTION_LOST = 502, NOT_READY = 503, OVERLOADED = 503, SHUTTING_DOWN = 503,
  TIMEOUT = 504, DEADLINE_EXCEEDED = 504,
}
local UNPROCESSABLE = 422 -- any other code, set by a handler

local http = {}

-- A client for each request costs nothing: the worker owns the connections.
function http.client()
  return packline.new {
    port = tonumber(ngx.var.packline_port),
    timeout = tonumber(ngx.var.packline_timeout),
    bytes_max = 1048576,
  }
end

-- Valid JSON is parsed, anything else is text: sleep=2 is a number, name=Ada is not.
local function parse(text)
  local sound, value = pcall(cjson.decode, text)
  if sound then return value end
  return text
end

-- The parameters in the query.
function http.query()
  local params = {}
  for name, text in pairs(ngx.req.get_uri_args()) do params[name] = parse(text) end
  return params
end

-- The parameters in the body, if there is one, or else in the query; nil and a failure if the body is not an object.
function http.params()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if not body then return http.query() end
  local params = body:find("^%s*{") and parse(body) -- once parsed, an empty array looks like an empty object
  if type(params) == "table" then return params end
  return nil, { code = "INVALID_PARAMS", msg = "the body is not a JSON object" }
end

-- How many bytes an upload has; nil and a failure for a chunked one, which Lua cannot read in parts.
function http.body_size()
  local size = tonumber(ngx.var.content_length)
  if size or not ngx.var.http_transfer_encoding then return size or 0 end
  return nil, { code = "LENGTH_REQUIRED", msg = "send the upload with a Content-Length" }
end

function http.to_json(reply, failure)
  return cjson.encode(failure and { err = failure.code, msg = failure.msg, data = failure.data } or reply)
end

-- Answers with a reply or a failure.
function http.answer(reply, failure)
  if failure then ngx.status = STATUS[failure.code] or UNPROCESSABLE end
  if failure and failure.retryable then ngx.header["Retry-After"] = math.ceil((failure.after or 1000) / 1000) end
  ngx.say(http.to_json(reply, failure))
end

return http
