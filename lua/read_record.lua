#!lua flags=no-writes
-- Read record: a reservation as it stands.
--
-- KEYS  1 meta · 2 record
-- ARGV  1 header `<I4` generation
-- returns the answer with record
if #KEYS ~= 2 or #ARGV ~= 1 then
  error({err = 'BADARG read_record wants 2 keys and 1 argument'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_record = KEYS[1], KEYS[2]
local generation = unpack('<I4', ARGV[1])

local got = call('MGET', key_meta, key_record)
local meta = got[1]
-- include lib/open
return answer(1, now, '', '', got[2])
