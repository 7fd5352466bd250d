#!lua flags=no-writes
-- Due: reservations whose deadline has passed, oldest first.
--
-- KEYS  1 meta · 2 deadlines
-- ARGV  1 header `<I4` generation · 2 how many at most
-- returns the answer, then the record key of each reservation
if #KEYS ~= 2 or #ARGV ~= 2 then
  error({err = 'BADARG due wants 2 keys and 2 arguments'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_deadlines = KEYS[1], KEYS[2]
local generation, most = unpack('<I4', ARGV[1]), ARGV[2]

local meta = call('GET', key_meta)
-- include lib/open
local reply = {answer(1, now)}
for i, member in ipairs(call('ZRANGE', key_deadlines, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)) do
  reply[i + 1] = member
end
return reply
