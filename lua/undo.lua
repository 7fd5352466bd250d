#!lua flags=allow-oom
-- Undo: take every effect of a ledger entry back, for that was done twice. Written as a credit or debit of its own name,
-- whose entry carries what was really taken back. The record stays: it is that of the first time too.
--
-- KEYS  1 meta · 2 account · 3 operation · 4 stream
-- ARGV  1 header `<I4 c1 c18` generation, kind (`t` credit when the entry took from the balance, else `d` debit), fingerprint
--       2 operation id · 3 the entry's payload · 4 log · 5 tombstone time to live ms
-- returns the answer with head, key of the entry's record, operation
if #KEYS ~= 4 or #ARGV ~= 5 then
  error({err = 'BADARG undo wants 4 keys and 5 arguments'})
end
local call, pack, unpack, sub, rep, spread = redis.call, struct.pack, struct.unpack, string.sub, string.rep, unpack
-- include lib/answer
-- include lib/changed
local key_meta, key_account, key_operation, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, kind, fingerprint = unpack('<I4c1c18', ARGV[1])
local op_id, payload, log, tombstone_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
-- include lib/entry
if kind ~= (by_balance < 0 and 't' or 'd') then
  error({err = 'BADARG undo is a credit of what was taken, else a debit'})
end

local got = call('MGET', key_meta, key_operation)
local meta, operation = got[1], got[2]
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
local amount = by_balance < 0 and -by_balance or by_balance
if operation then
  -- include lib/known
  return answer(known, now, head, '', '', operation)
end
local blobs, sign = {}, -1
-- include lib/deltas
balance, used, requests = balance - by_balance, used - by_used, requests - by_requests
if balance > 4503599627370496 or balance < -4503599627370496 or used > 4503599627370496 or highest > 4503599627370496 then
  return answer(17, now, head)
end
head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
blobs.h = head
local writes = {}
for field, value in pairs(blobs) do
  writes[#writes + 1] = field
  writes[#writes + 1] = value
end
operation = pack('<i7i7i7I6c18', amount, balance, 0, now, fingerprint)
-- SQL finds the key whose usage is taken back in the record.
local keyed = entry_key ~= '' and entry_record or ''
payload = pack('<c1I6i7i7i7i7Bc0Bc0I2', kind, now, -by_balance, -by_used, -by_requests, -by_tokens,
  #account, account, #op_id, op_id, #keyed) .. keyed .. pack('<B', delta_count) .. deltas .. log

-- include lib/append
call('HSET', key_account, spread(writes))
call('SET', key_operation, operation, 'PX', tombstone_ms)
return answer(1, now, head, blobs['k\31' .. entry_key], '', operation)
