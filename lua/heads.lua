#!lua flags=no-writes
-- Heads: those of some accounts.
--
-- KEYS  1 meta · then the accounts
-- ARGV  1 header `<I4` generation
-- returns the answer, then the head of each account (empty when it is not loaded)
if #KEYS < 1 or #ARGV ~= 1 then
  error({err = 'BADARG heads wants at least 1 key and 1 argument'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local generation = unpack('<I4', ARGV[1])

local meta = call('GET', KEYS[1])
-- include lib/open
local reply = {answer(1, now)}
for i = 2, #KEYS do
  reply[i] = call('HGET', KEYS[i], 'h') or ''
end
return reply
