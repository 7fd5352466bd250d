-- A reserve, and a settle of the one made LAG reserves ago, in turn: wrk does not tell which connection asks, and with
-- fewer connections than LAG that reserve was answered long before. Environment: ACCOUNTS, FIRST
local accounts, n = tonumber(os.getenv("ACCOUNTS")), tonumber(os.getenv("FIRST"))
local LAG = 512
-- wrk asks for one request to look at it, and does not send that.
local first, settling = n + 1, false

local function pieces(path, body)
  local all = "POST " .. path .. " HTTP/1.1\r\nHost: quotad\r\nContent-Type: application/json\r\nContent-Length: " .. #body ..
    "\r\n\r\n" .. body
  return all:match("^(.*)@@@@@@@(.*)#########(.*)$")
end
local r1, r2, r3 = pieces("/v1/reserve", '{"account":"a@@@@@@@","key":"k1","id":"#########","platform":"openai","amount":5,"ttl_ms":60000}')
local s1, s2, s3 = pieces("/v1/settle", '{"account":"a@@@@@@@","id":"#########","amount":4}')

function request()
  if settling then
    settling = false
    local id = n - LAG
    return s1 .. 1000000 + id * 7919 % accounts .. s2 .. id .. s3
  end
  n = n + 1
  settling = n - LAG > first
  return r1 .. 1000000 + n * 7919 % accounts .. r2 .. n .. r3
end
