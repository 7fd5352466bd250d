#!lua
-- Extend: hold more, longer. The extra is checked like a reserve; nothing extra, nothing to check.
--
-- KEYS  1 meta · 2 account · 3 record · 4 deadlines
-- ARGV  1 header `<I4 I4 B i7 I4 i7 i7` generation, policy version, flags (2 denied by policy, 4 a time to live
--         is given), the new whole hold (-1 as it is), time to live ms, credit limit, key allowance (-1 unlimited)
--       then per group of the reservation: field, gauges `<I3 I4 I4 i7` each (cost only)
-- returns status, now, head, key of the record, record, '', window blob per group
if #KEYS ~= 4 or #ARGV < 1 or #ARGV % 2 == 0 then
  error({err = 'BADARG extend wants 4 keys and an odd number of arguments'})
end
local call, pack, unpack, sub, rep, spread = redis.call, struct.pack, struct.unpack, string.sub, string.rep, unpack
-- include lib/align
local key_meta, key_account, key_record, key_deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, call_version, flags, amount, ttl_ms, credit_limit, allowance = unpack('<I4I4Bi7I4i7i7', ARGV[1])

local got = call('MGET', key_meta, key_record)
local meta, record = got[1], got[2]
-- include lib/open
if not record then
  local head = call('HGET', key_account, 'h')
  local version = head and unpack('<I4', head) or 0
  return {not head and 4 or call_version < version and 3 or 14, now, head or '', '', '', ''}
end
-- include lib/record
-- include lib/refs
local record_fields = #fields
for at = 2, #ARGV, 2 do
  fields[#fields + 1] = ARGV[at]
end
local whole = call('HMGET', key_account, spread(fields))
local head, key = whole[1], whole[2]
-- include lib/head
if call_version < version then
  return {3, now, head, key or '', record, ''}
end
local rest = hold > charged and hold - charged or 0
if amount < 0 then
  amount = hold
end
local extra = amount > charged and amount - charged - rest or 0

-- The call's groups, rolled: what the answer shows, and the caps of windows that are still the record's.
local stored = {head, key}
for at = record_fields + 1, #fields do
  stored[at - record_fields + 2] = whole[at]
end
local first, counted, least, tokens = 2, 3, extra, 0
-- include lib/gauges
-- The extra goes to the record's windows, so only a window that is still one of those may deny it.
local own = {}
for group = 1, #refs_from do
  for i = 0, refs_count[group] - 1 do
    local code, start = unpack('<I3I4', record, refs_from[group] + 7 * i)
    own[fields[group + 2] .. pack('<I3', code)] = start
  end
end
exceeded = false
for group = 1, #groups do
  local counters, gauges = groups[group], ARGV[2 * group + 1]
  for i = 1, 4 * sizes[group], 4 do
    local cap = unpack('<i7', gauges, (i - 1) / 4 * 18 + 12)
    local start = own[ARGV[2 * group] .. pack('<I3', counters[i])]
    if counters[i] < 4194304 and cap >= 0 and start == counters[i + 1]
      and cap - counters[i + 2] - counters[i + 3] < extra then
      exceeded = true
    end
  end
end
local key_used, key_held, key_requests = 0, 0, 0
if key then
  key_used, key_held, key_requests = unpack('<i7i7i7', key)
end

local status = 1
if state ~= 'H' then
  status = (state == 'S' or state == 'E' and (charged > 0 or record_flags % 2 == 1)) and 8 or 9
elseif now >= expires then
  status = 9
elseif amount < hold then
  status = 18
elseif flags % 4 >= 2 then
  status = 10
elseif extra > 0 then
  if balance + credit_limit - held < extra then
    status = 11
  elseif record_key ~= '' and allowance >= 0 and allowance - key_used - key_held < extra then
    status = 12
  elseif exceeded then
    status = 13
  elseif held + extra > 4503599627370496 or key_held + extra > 4503599627370496
    or top_cost + extra > 4503599627370496 then
    status = 17
  end
end
local reply = {status, now, head, key or '', record, ''}
if status ~= 1 then
  for i = 1, #groups do
    reply[i + 6] = pack(formats[i], spread(groups[i]))
  end
  return reply
end

stored = whole
local cost_used, cost_held, tokens_used, tokens_held = 0, extra, 0, 0
local requests_used, requests_held, concurrency_held = 0, 0, 0
-- include lib/touch
for group = 1, #groups do
  local counters, field = groups[group], ARGV[2 * group]
  for i = 1, #counters - 3, 4 do
    if counters[i] < 4194304 and own[field .. pack('<I3', counters[i])] == counters[i + 1] then
      counters[i + 3] = counters[i + 3] + extra
    end
  end
  reply[group + 6] = pack(formats[group], spread(counters))
end
if flags >= 4 then
  expires = now + ttl_ms
end
head = pack('<I4i7i7i7i7I6', call_version, balance, held + extra, used, requests, now)
writes[#writes + 1] = 'h'
writes[#writes + 1] = head
if record_key ~= '' then
  key = pack('<i7i7i7', key_used, key_held + extra, key_requests)
  writes[#writes + 1] = fields[2]
  writes[#writes + 1] = key
end
record = pack('<c1Bc18I6I6i7i7i7i7i7i7I2c0', state, record_flags, record_print, created, expires, amount, record_tokens,
  prompt_cost, charged, refunded, overdraft, parts, tail)
reply[3], reply[4], reply[5] = head, key or '', record

call('HSET', key_account, spread(writes))
call('SET', key_record, record)
call('ZADD', key_deadlines, expires, key_record)
return reply
