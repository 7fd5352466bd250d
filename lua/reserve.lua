#!lua
-- Reserve: hold an amount, tokens and one request, when balance, key and every limit allow it.
--
-- KEYS  1 meta · 2 account · 3 record · 4 deadlines
-- ARGV  1 header `<I4 I4 B i7 i7 i7 I4 i7 i7 I6 I6 I2 Bc0` generation, policy version, flags (1 check
--         only, 2 denied by policy), amount, least amount, tokens, time to live ms, credit limit, key
--         allowance (-1 unlimited), valid from, valid until, where the references begin in ARGV 2, key field or empty
--       2 what the record says beside times and amount, from its flags on: references as of the call's windows
--       then per group: field, gauges (codes and starts `<I3 I4` each, caps `i7` each, periods `I4` each)
-- returns the answer with head, key, record, windows
if #KEYS ~= 4 or #ARGV < 2 or #ARGV % 2 == 1 then
  error({err = 'BADARG reserve wants 4 keys and an even number of arguments'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/roll
-- include lib/shown
local key_meta, key_account, key_record, key_deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, call_version, flags, amount, least, tokens, ttl_ms, credit_limit, allowance, valid_from, valid_until,
  refs_at, key_field = unpack('<I4I4Bi7i7i7I4i7i7I6I6I2Bc0', ARGV[1])
local rest, first, counted = ARGV[2], 3, 2
local fields = {'h', key_field, ARGV[3]}
for at = 5, #ARGV, 2 do
  fields[(at + 3) / 2] = ARGV[at]
end

local meta = call('GET', key_meta)
-- include lib/open
-- include lib/admit
local available = balance + credit_limit - held
local key_left = key_field ~= '' and allowance >= 0 and allowance - key_used - key_held or amount

local status, record = 1, nil
if flags >= 2 then
  status = 10
elseif available < least then
  status = 11
elseif key_left < least then
  status = 12
elseif exceeded then
  status = 13
else
  if available < most then
    most = available
  end
  if key_left < most then
    most = key_left
  end
  amount = most
  if held + amount > 4503599627370496 or key_held + amount > 4503599627370496
    or top_cost + amount > 4503599627370496 or top_tokens + tokens > 4503599627370496 then
    status = 17
  end
end
if rolled then
  -- The windows are others than the call's: what the record refers to is what is stored.
  rest = sub(rest, 1, refs_at)
  for i = 1, #groups do
    rest = rest .. pack('<I2c0Bc0', #fields[i + 2], fields[i + 2], sizes[i], sub(starts[i], 1, 7 * sizes[i]))
  end
end
if status == 1 and flags == 0 then
  record = pack('<c1I6I6i7', 'H', now, now + ttl_ms, amount) .. rest
end

-- The record is written when there is none: looking for one first would cost as much as this. What there is decides
-- before anything else.
if not record or call('SETNX', key_record, record) == 0 then
  record = call('GET', key_record)
  if record then
    local state, charged = sub(record, 1, 1), unpack('<i7', record, 54)
    if state == 'H' then
      status = sub(record, 22, 39) == sub(rest, 2, 19) and 2 or 7
    elseif state == 'S' or state == 'E' and (byte(record, 21) % 2 == 1 or charged > 0) then
      status = 8
    else
      status = 9
    end
  end
  return answer(status, now, head, key, record, '', shown(groups, starts, formats))
end

held, key_held = held + amount, key_held + amount
for i = 1, #groups do
  local numbers = groups[i]
  for at = 1, sizes[i] do
    local metric = byte(starts[i], 7 * at - 4)
    numbers[2 * at] = numbers[2 * at] + (metric < 64 and amount or metric < 128 and tokens or 1)
  end
end
head = pack('<I4i7i7i7i7I6', call_version, balance, held, used, requests, now)
local writes, windows = {'h', head}, ''
if key_field ~= '' then
  key = pack('<i7i7i7', key_used, key_held, key_requests)
  writes[3], writes[4] = key_field, key
end
for i = 1, #groups do
  local blob = starts[i] .. pack(formats[i], spread(groups[i]))
  writes[#writes + 1], writes[#writes + 2] = fields[i + 2], blob
  windows = windows .. pack('<I2c0', #blob, blob)
end
call('HSET', key_account, spread(writes))
call('ZADD', key_deadlines, string.format('%d', now + ttl_ms), key_record)
return answer(1, now, head, key, record, '', windows)
