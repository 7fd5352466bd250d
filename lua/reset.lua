#!lua flags=allow-oom
-- Reset: set the usage of some counters of a group to 0. Their windows and holds stay. The
-- operation id keeps a repeated call from resetting what was used since.
--
-- KEYS  1 meta · 2 account · 3 operation · 4 stream
-- ARGV  1 header `<I4` generation
--       2 account · 3 operation id · 4 log · 5 tombstone time to live ms · 6 group field · 7 codes `<I3` each
-- returns the answer with head, operation, window blob (the call's codes first)
if #KEYS ~= 4 or #ARGV ~= 7 or #ARGV[7] % 3 ~= 0 then
  error({err = 'BADARG reset wants 4 keys, 7 arguments and whole codes'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
-- include lib/roll
local key_meta, key_account, key_operation, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, account, op_id, log, tombstone_ms = unpack('<I4', ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local field, codes = ARGV[6], ARGV[7]

local got = call('MGET', key_meta, key_operation)
local meta, operation = got[1], got[2]
-- include lib/open
local stored = call('HMGET', key_account, 'h', field)
local head, blob = stored[1], stored[2]
-- include lib/head
-- The call's counters first, in whatever windows they are.
local n, gauges = #codes / 3, ''
for at = 1, #codes, 3 do
  gauges = gauges .. sub(codes, at, at + 2) .. rep('\0', 4)
end
local aligned = roll(blob or '', gauges .. rep('\0', 11 * n), 0)
if operation then
  return answer(2, now, head, '', '', operation, pack('<I2c0', #aligned, aligned))
end
local m, numbers, changes = #aligned / 21, {}, {}
for i = 1, m do
  local use, hold = unpack('<i7i7', aligned, 7 * m + 14 * i - 13)
  if i <= n then
    changes[i], use = -use, 0
  end
  numbers[i] = pack('<i7i7', use, hold)
end
local deltas = changed(field, sub(aligned, 1, 7 * n), changes)
local delta_count = deltas ~= '' and 1 or 0
aligned = sub(aligned, 1, 7 * m) .. table.concat(numbers)
head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
operation = pack('<i7i7i7I6c18', 0, balance, 0, now, rep('\0', 18))
local payload = pack('<BI6i7i7i7i7Bc0Bc0I2Bc0c0', 114, now, 0, 0, 0, 0,
  #account, account, #op_id, op_id, 0, delta_count, deltas, log)

-- include lib/append
call('HSET', key_account, 'h', head)
if blob then
  call('HSET', key_account, field, aligned)
end
call('SET', key_operation, operation, 'PX', tombstone_ms)
return answer(1, now, head, '', '', operation, pack('<I2c0', #aligned, aligned))
