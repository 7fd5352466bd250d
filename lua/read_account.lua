#!lua flags=no-writes
-- Read account: all its counters.
--
-- KEYS  1 meta · 2 account
-- ARGV  1 header `<I4` generation
-- returns the answer with head, then field, value for every field of the account
if #KEYS ~= 2 or #ARGV ~= 1 then
  error({err = 'BADARG read_account wants 2 keys and 1 argument'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_account = KEYS[1], KEYS[2]
local generation = unpack('<I4', ARGV[1])

local meta = call('GET', key_meta)
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
local reply = {answer(1, now, head)}
for i, item in ipairs(call('HGETALL', key_account)) do
  reply[i + 1] = item
end
return reply
