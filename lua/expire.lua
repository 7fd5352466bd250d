#!lua flags=allow-oom
-- Expire: end a hold whose deadline has passed. It is given back, or charged when the reserve said
-- `on_expiry: charge`.
--
-- KEYS  1 meta · 2 account · 3 record · 4 deadlines · 5 stream
-- ARGV  1 header `<I4` generation · 2 account · 3 reservation · 4 tombstone time to live ms
-- returns the answer with head, key of the record, record
if #KEYS ~= 5 or #ARGV ~= 4 then
  error({err = 'BADARG expire wants 5 keys and 4 arguments'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
local key_meta, key_account, key_record, key_deadlines, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local generation, account, id, tombstone_ms = unpack('<I4', ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local got = call('MGET', key_meta, key_record)
local meta, record = got[1], got[2]
-- include lib/open
if not record then
  local head = call('HGET', key_account, 'h')
  call('ZREM', key_deadlines, key_record)
  return answer(head and 19 or 4, now, head)
end
-- include lib/record
-- include lib/refs
local stored = call('HMGET', key_account, spread(fields))
local head, key = stored[1], stored[2]
-- include lib/head
if state ~= 'H' then
  call('ZREM', key_deadlines, key_record)
  return answer(19, now, head, key, record)
end
if now < expires then
  -- A clock that went back can leave the place of an earlier hold of the same id, which would be due for ever.
  local place = call('ZSCORE', key_deadlines, key_record)
  if place and place + 0 < expires then
    call('ZADD', key_deadlines, expires, key_record)
  end
  return answer(19, now, head, key, record)
end
local charge = record_flags % 2 == 1
local rest = hold > charged and hold - charged or 0
local delta = charge and rest or 0
local cost_used, cost_held, tokens_used, tokens_held = delta, -rest, 0, -record_tokens
local requests_used, requests_held, concurrency_held = 0, -1, -1
if charge then
  tokens_used, requests_used = record_tokens, 1
end
-- include lib/touch
local key_used, key_held, key_requests = 0, 0, 0
if key then
  key_used, key_held, key_requests = unpack('<i7i7i7', key)
end
balance, used, held, requests = balance - delta, used + delta, held - rest, requests + requests_used
key_used, key_held, key_requests = key_used + delta, key_held - rest, key_requests + requests_used
if balance < -4503599627370496 or used > 4503599627370496 or key_used > 4503599627370496
  or highest > 4503599627370496 then
  return answer(17, now, head, key, record)
end
if held < 0 then
  error({err = 'INVARIANT an account holds less than its reservation'})
end
if charge then
  overdraft = balance < 0 and -balance or 0
end
record = pack('<c1I6I6i7Bc18i7i7i7i7i7I2c0', 'E', created, expires, hold, record_flags, record_print, record_tokens,
  prompt_cost, charged + delta, refunded, overdraft, parts, tail)
head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
writes[#writes + 1] = 'h'
writes[#writes + 1] = head
if record_key ~= '' then
  key = pack('<i7i7i7', key_used, key_held, key_requests)
  writes[#writes + 1] = fields[2]
  writes[#writes + 1] = key
end

if charge then
  local payload = pack('<BI6i7i7i7i7Bc0Bc0I2c0Bc0', 101, now, -delta, delta, 1, record_tokens,
    #account, account, #id, id, #record, record, delta_count, deltas)
  -- include lib/append
end
call('HSET', key_account, spread(writes))
call('SET', key_record, record, 'PX', tombstone_ms)
call('ZREM', key_deadlines, key_record)
return answer(1, now, head, key, record)
