-- Reserves for one account after the other. Environment: LETTER their names begin with, ACCOUNTS how many,
-- FIRST the first id's number, TTL_MS, IDS=1 when the client makes the ids (else the server does).
local letter, accounts, n = os.getenv("LETTER"), tonumber(os.getenv("ACCOUNTS")), tonumber(os.getenv("FIRST"))
local ids = os.getenv("IDS") == "1"

-- Every request is as long as the others: what differs has a fixed width, and stands between pieces made once.
local body = '{"account":"' .. letter .. '@@@@@@@","key":"k1",' .. (ids and '"id":"#########",' or "") ..
  '"platform":"openai","amount":5,"ttl_ms":' .. os.getenv("TTL_MS") .. "}"
local all = "POST /v1/reserve HTTP/1.1\r\nHost: quotad\r\nContent-Type: application/json\r\nContent-Length: " .. #body ..
  "\r\n\r\n" .. body
local before, rest = all:match("^(.*)@@@@@@@(.*)$")
local between, after = rest:match("^(.*)#########(.*)$")

function request()
  n = n + 1
  local account = 1000000 + n * 7919 % accounts
  if ids then return before .. account .. between .. n .. after end
  return before .. account .. rest
end
