#!lua flags=allow-oom
-- Refund: give back part of what a settled reservation was charged, never more than that in sum.
--
-- KEYS  1 meta · 2 account · 3 record · 4 operation · 5 stream
-- ARGV  1 header `<I4 i7 c18` generation, amount, fingerprint
--       2 account · 3 operation id · 4 log · 5 tombstone time to live ms
-- returns the answer with head, key of the record, record, operation
if #KEYS ~= 5 or #ARGV ~= 5 then
  error({err = 'BADARG refund wants 5 keys and 5 arguments'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
local key_meta, key_account, key_record, key_operation, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local generation, amount, fingerprint = unpack('<I4i7c18', ARGV[1])
local account, op_id, log, tombstone_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local got = call('MGET', key_meta, key_record, key_operation)
local meta, record, operation = got[1], got[2], got[3]
-- include lib/open
if operation or not record then
  local head, status = call('HGET', key_account, 'h'), 14
  if operation then
    -- include lib/known
    status = known
  end
  return answer(head and status or 4, now, head, '', record, operation)
end
-- include lib/record
-- include lib/refs
local stored = call('HMGET', key_account, spread(fields))
local head, key = stored[1], stored[2]
-- include lib/head
local status = 1
if state ~= 'S' and not (state == 'E' and (charged > 0 or record_flags % 2 == 1)) or refunded + amount > charged then
  status = 16
elseif balance + amount > 4503599627370496 then
  status = 17
end
if status ~= 1 then
  return answer(status, now, head, key, record)
end
local cost_used, cost_held, tokens_used, tokens_held = -amount, 0, 0, 0
local requests_used, requests_held, concurrency_held = 0, 0, 0
-- include lib/touch
balance, used, refunded = balance + amount, used - amount, refunded + amount
head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
writes[#writes + 1] = 'h'
writes[#writes + 1] = head
if key then
  local key_used, key_held, key_requests = unpack('<i7i7i7', key)
  key = pack('<i7i7i7', key_used - amount, key_held, key_requests)
  writes[#writes + 1] = fields[2]
  writes[#writes + 1] = key
end
record = pack('<c1I6I6i7Bc18i7i7i7i7i7I2c0', state, created, expires, hold, record_flags, record_print, record_tokens,
  prompt_cost, charged, refunded, overdraft, parts, tail)
operation = pack('<i7i7i7I6c18', amount, balance, charged - refunded, now, fingerprint)
local payload = pack('<BI6i7i7i7i7Bc0Bc0I2c0Bc0c0', 102, now, amount, -amount, 0, 0,
  #account, account, #op_id, op_id, #record, record, delta_count, deltas, log)

-- include lib/append
call('HSET', key_account, spread(writes))
call('SET', key_record, record, 'PX', tombstone_ms)
call('SET', key_operation, operation, 'PX', tombstone_ms)
return answer(1, now, head, key, record, operation)
