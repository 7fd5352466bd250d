#!lua
-- Adjust: credit, debit, initial balance, close. One operation id, one effect.
--
-- KEYS  1 meta · 2 account · 3 operation · 4 stream
-- ARGV  1 header `<I4 c1 B i7 c18` generation, kind (`t` credit, `d` debit, `i` initial, `x` close), 1 to force a
--         debit, amount, fingerprint
--       2 account · 3 operation id · 4 log · 5 tombstone time to live ms
-- returns the answer with head, operation
if #KEYS ~= 4 or #ARGV ~= 5 then
  error({err = 'BADARG adjust wants 4 keys and 5 arguments'})
end
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub
-- include lib/answer
local key_meta, key_account, key_operation, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, kind, force, amount, fingerprint = unpack('<I4c1Bi7c18', ARGV[1])
local account, op_id, log, tombstone_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if kind ~= 't' and kind ~= 'd' and kind ~= 'i' and kind ~= 'x' then
  error({err = 'BADARG adjust knows the kinds t, d, i and x'})
end

local got = call('MGET', key_meta, key_operation)
local meta, operation = got[1], got[2]
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
local delta = amount
if kind == 'd' then
  delta = -amount
elseif kind == 'x' then
  delta, amount = -balance, balance
end
local status = 1
if operation then
  if kind == 'x' then
    amount = unpack('<i7', operation) -- a close takes what there is: its amount tells nothing
  end
  -- include lib/known
  status = known
elseif kind == 'd' and force ~= 1 and balance - held < amount then
  status = 11
elseif kind == 'x' and held ~= 0 then
  status = 19
elseif balance + delta > 4503599627370496 or balance + delta < -4503599627370496 then
  status = 17
end
if status ~= 1 then
  return answer(status, now, head, '', '', operation)
end
balance = balance + delta
head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
operation = pack('<i7i7i7I6c18', amount, balance, 0, now, fingerprint)
local payload = pack('<c1I6i7i7i7i7Bc0Bc0I2Bc0', kind, now, delta, 0, 0, 0, #account, account, #op_id, op_id, 0, 0, log)

-- include lib/append
call('HSET', key_account, 'h', head)
call('SET', key_operation, operation, 'PX', tombstone_ms)
return answer(1, now, head, '', '', operation)
