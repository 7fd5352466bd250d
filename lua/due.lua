#!lua flags=no-writes
-- Due: reservations whose deadline has passed, the oldest of each set first.
--
-- KEYS  1 meta · 2… deadlines
-- ARGV  1 header `<I4` generation · 2 how many at most
-- returns the answer, then the record key of each reservation
if #KEYS < 2 or #ARGV ~= 2 then
  error({err = 'BADARG due wants 2 keys at least and 2 arguments'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta = KEYS[1]
local generation, most = unpack('<I4', ARGV[1]), ARGV[2] + 0

local meta = call('GET', key_meta)
-- include lib/open
local reply = {answer(1, now)}
for i = 2, #KEYS do
  local left = most + 1 - #reply
  if left > 0 then
    for _, member in ipairs(call('ZRANGE', KEYS[i], '-inf', now, 'BYSCORE', 'LIMIT', 0, left)) do
      reply[#reply + 1] = member
    end
  end
end
return reply
