#!lua
-- Charge: reserve and settle in one step. Also the settle of a call that nobody reserved
-- (`unreserved`): that money is spent, so nothing but its own record can refuse it.
--
-- KEYS  1 meta · 2 account · 3 record · 4 stream
-- ARGV  1 header `<I4 I4 B i7 i7 i7 i7 I6 I6 c18` generation, policy version, flags (1 force, 2 denied by policy,
--         4 unreserved, 8 clamped), amount, tokens, credit limit, key allowance (-1 unlimited), valid from,
--         valid until, fingerprint
--       2 key field or empty · 3 price tag · 4 account · 5 reservation · 6 log · 7 tombstone time to live ms
--       then per group: field, gauges `<I3 I4 I4 i7` each
-- returns status, now, head, key, record, '', window blob per group
if #KEYS ~= 4 or #ARGV < 7 or #ARGV % 2 == 0 then
  error({err = 'BADARG charge wants 4 keys and an odd number of arguments, at least 7'})
end
local call, pack, unpack, sub, rep, spread = redis.call, struct.pack, struct.unpack, string.sub, string.rep, unpack
-- include lib/align
local key_meta, key_account, key_record, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, call_version, flags, amount, tokens, credit_limit, allowance, valid_from, valid_until, fingerprint =
  unpack('<I4I4Bi7i7i7i7I6I6c18', ARGV[1])
local key_field, price_tag, account, id, log, tombstone_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local first, counted, least = 8, 2, amount
local unreserved = flags % 8 >= 4
local force = unreserved or flags % 2 == 1
local fields = {'h', key_field}
for at = first, #ARGV, 2 do
  fields[#fields + 1] = ARGV[at]
end

-- include lib/admit

local status = 1
if record then
  local state, record_flags, record_print = unpack('<c1Bc18', record)
  if record_print == fingerprint then
    status = 2
  elseif state == 'S' then
    status = not unreserved and record_flags % 16 >= 8 and 7 or 8
  elseif unreserved then
    status = state == 'R' and 9 or 19
  elseif state == 'H' then
    status = 7
  else
    status = state == 'E' and (record_flags % 2 == 1 or unpack('<i7', record, 54) > 0) and 8 or 9
  end
elseif flags % 4 >= 2 and not unreserved then
  status = 10
elseif not force and balance + credit_limit - held < amount then
  status = 11
elseif not force and key_field ~= '' and allowance >= 0 and allowance - key_used - key_held < amount then
  status = 12
elseif not force and exceeded then
  status = 13
elseif balance - amount < -4503599627370496 or used + amount > 4503599627370496
  or key_used + amount > 4503599627370496 or top_cost + amount > 4503599627370496
  or top_tokens + tokens > 4503599627370496 then
  status = 17
end
if status ~= 1 then
  local reply = {status, now, head, key or '', record or '', ''}
  for i = 1, #groups do
    reply[i + 6] = pack(formats[i], spread(groups[i]))
  end
  return reply
end

balance = balance - amount
head = pack('<I4i7i7i7i7I6', call_version, balance, held, used + amount, requests + 1, now)
local writes, refs, key_id = {'h', head}, '', ''
if key_field ~= '' then
  key, key_id = pack('<i7i7i7', key_used + amount, key_held, key_requests + 1), sub(key_field, 3)
  writes[3], writes[4] = key_field, key
end
local reply = {1, now, head, key or '', '', ''}
local deltas, delta_count = '', 0
for i = 1, #groups do
  local counters, n, field = groups[i], sizes[i], fields[i + 2]
  refs = refs .. pack('<I2c0B', #field, field, n)
  for at = 1, 4 * n, 4 do
    local code = counters[at]
    local by = code < 4194304 and amount or code < 8388608 and tokens or code < 12582912 and 1 or 0
    counters[at + 2] = counters[at + 2] + by
    refs = refs .. pack('<I3I4', code, counters[at + 1])
    if by > 0 then
      deltas = deltas .. pack('<I2c0I3I4i7', #field, field, code, counters[at + 1], by)
      delta_count = delta_count + 1
    end
  end
  local group = pack(formats[i], spread(counters))
  reply[i + 6], writes[#writes + 1], writes[#writes + 2] = group, field, group
end
record = pack('<c1Bc18I6I6i7i7i7i7i7i7I2Bc0Bc0c0', 'S', (unreserved and 4 or 8) + (flags >= 8 and 16 or 0), fingerprint,
  now, now, unreserved and 0 or amount, tokens, 0, amount, 0, balance < 0 and -balance or 0, 0,
  #key_id, key_id, #price_tag, price_tag, refs)
reply[5] = record
local payload = pack('<BI6i7i7i7i7Bc0Bc0I2c0Bc0c0', unreserved and 115 or 99, now, -amount, amount, 1, tokens,
  #account, account, #id, id, #record, record, delta_count, deltas, log)

-- include lib/append
call('HSET', key_account, spread(writes))
call('SET', key_record, record, 'PX', tombstone_ms)
return reply
