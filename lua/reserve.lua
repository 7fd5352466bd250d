#!lua
-- Reserve: hold an amount, tokens and one request, when balance, key and every limit allow it.
--
-- KEYS  1 meta · 2 account · 3 record · 4 deadlines
-- ARGV  1 header `<I4 I4 B i7 i7 i7 i7 I4 i7 i7 I6 I6 c18` generation, policy version, flags (1 check
--         only, 2 denied by policy, 4 charge on expiry), amount, least amount, tokens, prompt cost,
--         time to live ms, credit limit, key allowance (-1 unlimited), valid from, valid until, fingerprint
--       2 key field or empty · 3 price tag · then per group: field, gauges `<I3 I4 I4 i7` each
-- returns status, now, head, key, record, '', window blob per group
if #KEYS ~= 4 or #ARGV < 3 or #ARGV % 2 == 0 then
  error({err = 'BADARG reserve wants 4 keys and an odd number of arguments, at least 3'})
end
local call, pack, unpack, sub, rep, spread = redis.call, struct.pack, struct.unpack, string.sub, string.rep, unpack
-- include lib/align
local key_meta, key_account, key_record, key_deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, call_version, flags, amount, least, tokens, prompt_cost, ttl_ms, credit_limit, allowance,
  valid_from, valid_until, fingerprint = unpack('<I4I4Bi7i7i7i7I4i7i7I6I6c18', ARGV[1])
local key_field, price_tag, first, counted = ARGV[2], ARGV[3], 4, 3
local fields = {'h', key_field, ARGV[4]}
for at = 6, #ARGV, 2 do
  fields[at / 2 + 1] = ARGV[at]
end

-- include lib/admit
local available = balance + credit_limit - held
local key_left = key_field ~= '' and allowance >= 0 and allowance - key_used - key_held or amount

local status = 1
if record then
  local state, record_flags, record_print = unpack('<c1Bc18', record)
  if state == 'H' then
    status = record_print == fingerprint and 2 or 7
  elseif state == 'S' or state == 'E' and (record_flags % 2 == 1 or unpack('<i7', record, 54) > 0) then
    status = 8
  else
    status = 9
  end
elseif flags % 4 >= 2 then
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

if status ~= 1 or flags % 2 == 1 then
  local reply = {status, now, head, key or '', record or '', ''}
  for i = 1, #groups do
    reply[i + 6] = pack(formats[i], spread(groups[i]))
  end
  return reply
end

head = pack('<I4i7i7i7i7I6', call_version, balance, held + amount, used, requests, now)
local writes, refs, key_id = {'h', head}, '', ''
if key_field ~= '' then
  key, key_id = pack('<i7i7i7', key_used, key_held + amount, key_requests), sub(key_field, 3)
  writes[3], writes[4] = key_field, key
end
local reply = {1, now, head, key or '', '', ''}
for i = 1, #groups do
  local counters, n, field = groups[i], sizes[i], fields[i + 2]
  for at = 1, 4 * n, 4 do
    local code = counters[at]
    counters[at + 3] = counters[at + 3] + (code < 4194304 and amount or code < 8388608 and tokens or 1)
  end
  local group = pack(formats[i], spread(counters))
  reply[i + 6], writes[#writes + 1], writes[#writes + 2] = group, field, group
  local marks = n > 0 and sub(group, 1, 7) or ''
  for at = 22, 21 * n, 21 do
    marks = marks .. sub(group, at, at + 6)
  end
  refs = refs .. pack('<I2c0Bc0', #field, field, n, marks)
end
record = pack('<c1Bc18I6I6i7i7i7i7i7i7I2Bc0Bc0c0', 'H', flags >= 4 and 1 or 0, fingerprint, now, now + ttl_ms, amount,
  tokens, prompt_cost, 0, 0, 0, 0, #key_id, key_id, #price_tag, price_tag, refs)
reply[5] = record
call('HSET', key_account, spread(writes))
call('SET', key_record, record)
call('ZADD', key_deadlines, string.format('%d', now + ttl_ms), key_record)
return reply
