#!lua flags=no-writes
-- Due: holds whose deadline has passed, or queues whose time is near, the oldest first.
--
-- KEYS  1 meta · 2 deadlines, or the queues
-- ARGV  1 header `<I4` generation · 2 how many at most · 3 how many ms ahead
-- returns the answer, then the record key of each hold, or the key of each queue
if #KEYS ~= 2 or #ARGV ~= 3 then
  error({err = 'BADARG due wants 2 keys and 3 arguments'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_places = KEYS[1], KEYS[2]
local generation, most, ahead = unpack('<I4', ARGV[1]), ARGV[2] + 0, ARGV[3] + 0

local meta = call('GET', key_meta)
-- include lib/open
local reply = {answer(1, now)}
for i, member in ipairs(call('ZRANGE', key_places, '-inf', now + ahead, 'BYSCORE', 'LIMIT', 0, most)) do
  reply[i + 1] = member
end
return reply
