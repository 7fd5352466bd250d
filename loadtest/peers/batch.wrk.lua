-- Batches of SIZE reserves, each for another account, the ids new every time. Environment: ACCOUNTS, FIRST, SIZE
local accounts, n, size = tonumber(os.getenv("ACCOUNTS")), tonumber(os.getenv("FIRST")), tonumber(os.getenv("SIZE"))

-- A group of accounts is a list of pieces of text; every second piece is the id.
local groups = {}
for start = 0, accounts - size, size do
  local ops = {}
  for i = 1, size do
    ops[i] = '{"op":"reserve","account":"a' .. 1000000 + start + i - 1 ..
      '","key":"k1","id":"#########","platform":"openai","amount":5,"ttl_ms":60000}'
  end
  local body = '{"ops":[' .. table.concat(ops, ",") .. "]}"
  local all = "POST /v1/batch HTTP/1.1\r\nHost: quotad\r\nContent-Type: application/json\r\nContent-Length: " .. #body ..
    "\r\n\r\n" .. body
  local group = {}
  for piece in (all .. "#########"):gmatch("(.-)#########") do
    group[#group + 1] = piece
    group[#group + 1] = ""
  end
  group[#group] = nil
  groups[#groups + 1] = group
end

function request()
  n = n + 1
  local group, id = groups[n % #groups + 1], tostring(n)
  for i = 2, #group, 2 do group[i] = id end
  return table.concat(group)
end
