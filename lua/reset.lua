#!lua flags=allow-oom
-- Reset: set the usage of some counters of a group to 0. Their windows and holds stay. The
-- operation id keeps a repeated call from resetting what was used since.
--
-- KEYS  1 meta · 2 account · 3 operation · 4 stream
-- ARGV  1 header `<I4` generation
--       2 account · 3 operation id · 4 log · 5 tombstone time to live ms · 6 group field · 7 codes `<I3` each
-- returns status, now, head, '', '', operation, window blob (the call's codes first)
if #KEYS ~= 4 or #ARGV ~= 7 or #ARGV[7] % 3 ~= 0 then
  error({err = 'BADARG reset wants 4 keys, 7 arguments and whole codes'})
end
local call, pack, unpack, sub, rep, spread = redis.call, struct.pack, struct.unpack, string.sub, string.rep, unpack
-- include lib/align
local key_meta, key_account, key_operation, key_stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, account, op_id, log, tombstone_ms = unpack('<I4', ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local field, codes = ARGV[6], ARGV[7]

local got = call('MGET', key_meta, key_operation)
local meta, operation = got[1], got[2]
-- include lib/open
local stored = call('HMGET', key_account, 'h', field)
local head, blob = stored[1], stored[2]
-- include lib/head
local gauges = ''
for at = 1, #codes, 3 do
  gauges = gauges .. sub(codes, at, at + 2) .. rep('\0', 15)
end
local aligned = align(blob, gauges)
if operation then
  return {2, now, head, '', '', operation, aligned}
end
local counters, deltas, delta_count = {}, '', 0
for at = 1, #aligned, 21 do
  local code, start, use, hold = unpack('<I3I4i7i7', aligned, at)
  if at <= #codes * 7 and use ~= 0 then
    deltas = deltas .. pack('<I2c0I3I4i7', #field, field, code, start, -use)
    delta_count, use = delta_count + 1, 0
  end
  counters[#counters + 1] = pack('<I3I4i7i7', code, start, use, hold)
end
aligned = table.concat(counters)
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
return {1, now, head, '', '', operation, aligned}
