#!lua
-- Extend: hold more, longer. The extra is checked like a reserve; nothing extra, nothing to check.
--
-- KEYS  1 meta · 2 account · 3 record · 4 deadlines
-- ARGV  1 `<I4 I4 B i7 I4 i7 i7 i7 i7 Bc0 Bc0` generation, policy version, flags (2 denied by policy, 4 a time to live is
--         given, 8 another estimate), the new whole hold (-1 as it is), time to live ms, credit limit, key allowance (-1
--         unlimited); for another estimate: prompt cost, tokens (-1 as they are), the price tag that it replaces, its
--         own; then the groups of the reservation, their gauges of cost and, where tokens are given, of tokens
--         (lib/groups)
-- returns the answer with head, key of the record, record, windows
if #KEYS ~= 4 or #ARGV ~= 1 then
  error({err = 'BADARG extend wants 4 keys and 1 argument'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
-- include lib/roll
-- include lib/shown
local key_meta, key_account, key_record, key_deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local asked = ARGV[1]
local generation, call_version, flags, amount, ttl_ms, credit_limit, allowance, new_prompt_cost, new_tokens, old_tag,
  new_tag, groups_at = unpack('<I4I4Bi7I4i7i7i7i7Bc0Bc0', asked)

local got = call('MGET', key_meta, key_record)
local meta, record = got[1], got[2]
-- include lib/open
if not record then
  local head = call('HGET', key_account, 'h')
  local version = head and unpack('<I4', head) or 0
  return answer(not head and 4 or call_version < version and 3 or 14, now, head)
end
-- include lib/record
-- include lib/refs
-- include lib/groups
local record_fields = #fields
for group = 1, group_count do
  fields[record_fields + group] = group_fields[group]
end
local whole = call('HMGET', key_account, spread(fields))
local head, key = whole[1], whole[2]
-- include lib/head
if call_version < version then
  return answer(3, now, head, key, record)
end
local rest = hold > charged and hold - charged or 0
if amount < 0 then
  amount = hold
end
local extra = amount > charged and amount - charged - rest or 0
local extra_tokens = flags >= 8 and new_tokens > record_tokens and new_tokens - record_tokens or 0

-- The call's groups, rolled: what the answer shows, and the caps of windows that are still the record's.
local stored = {head, key}
for at = record_fields + 1, #fields do
  stored[at - record_fields + 2] = whole[at]
end
local counted, least, tokens = 2, extra, 0
-- include lib/gauges
-- The extra goes to the record's windows, so only a window that is still one of those may deny it.
local own = {}
for group = 1, #refs_from do
  for at = refs_from[group], refs_from[group] + 7 * refs_count[group] - 7, 7 do
    own[fields[group + 2] .. sub(record, at, at + 6)] = true
  end
end
exceeded = false
for group = 1, #groups do
  local field, numbers = group_fields[group], groups[group]
  for i = 1, sizes[group] do
    local cap = unpack('<i7', asked, places[group] + 7 * (sizes[group] + i - 1))
    local more = byte(asked, places[group] + 7 * i - 5) < 64 and extra or extra_tokens
    if cap >= 0 and more > 0 and own[field .. sub(starts[group], 7 * i - 6, 7 * i)]
      and cap - numbers[2 * i - 1] - numbers[2 * i] < more then
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
elseif flags >= 8 and old_tag ~= record_tag then
  status = 15
elseif amount < hold then
  status = 18
elseif flags % 4 >= 2 then
  status = 10
elseif extra > 0 or extra_tokens > 0 then
  if extra > 0 and balance + credit_limit - held < extra then
    status = 11
  elseif extra > 0 and record_key ~= '' and allowance >= 0 and allowance - key_used - key_held < extra then
    status = 12
  elseif exceeded then
    status = 13
  elseif held + extra > 4503599627370496 or key_held + extra > 4503599627370496
    or top_cost + extra > 4503599627370496 or top_tokens + extra_tokens > 4503599627370496 then
    status = 17
  end
end
if status ~= 1 then
  return answer(status, now, head, key, record, '', shown(groups, starts, formats))
end

stored = whole
local cost_used, cost_held, tokens_used, tokens_held = 0, extra, 0, extra_tokens
local requests_used, requests_held, concurrency_held = 0, 0, 0
-- include lib/touch
for group = 1, #groups do
  local numbers, field = groups[group], group_fields[group]
  for i = 1, #starts[group] / 7 do
    local metric = byte(starts[group], 7 * i - 4)
    if metric < 128 and own[field .. sub(starts[group], 7 * i - 6, 7 * i)] then
      numbers[2 * i] = numbers[2 * i] + (metric < 64 and extra or extra_tokens)
    end
  end
end
if flags % 8 >= 4 then
  expires = now + ttl_ms
end
if flags >= 8 then
  prompt_cost, record_tokens = new_prompt_cost, record_tokens + extra_tokens
  tail = pack('Bc0Bc0', #record_key, record_key, #new_tag, new_tag) .. sub(tail, 3 + #record_key + #record_tag)
end
head = pack('<I4i7i7i7i7I6', call_version, balance, held + extra, used, requests, now)
writes[#writes + 1] = 'h'
writes[#writes + 1] = head
if record_key ~= '' then
  key = pack('<i7i7i7', key_used, key_held + extra, key_requests)
  writes[#writes + 1] = fields[2]
  writes[#writes + 1] = key
end
record = pack('<c1I6I6i7Bc18i7i7i7i7i7I2c0', state, created, expires, amount, record_flags, record_print, record_tokens,
  prompt_cost, charged, refunded, overdraft, parts, tail)

call('HSET', key_account, spread(writes))
call('SET', key_record, record)
if flags % 8 >= 4 then
  -- include lib/deadline
  if key_queue then
    call('ZREM', key_deadlines, key_record)
    -- Also when others are in the queue already: a repair gives a lost deadline back by this script.
    call('ZADD', key_deadlines .. '/', begins, key_queue)
  end
end
return answer(1, now, head, key, record, '', shown(groups, starts, formats))
