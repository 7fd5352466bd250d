#!lua flags=allow-oom
-- Raise version: from now on calls decided with an older policy are answered STALE.
--
-- KEYS  1 meta · 2 account
-- ARGV  1 header `<I4 I4` generation, policy version
-- returns the answer with head
if #KEYS ~= 2 or #ARGV ~= 1 then
  error({err = 'BADARG policy wants 2 keys and 1 argument'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_account = KEYS[1], KEYS[2]
local generation, call_version = unpack('<I4I4', ARGV[1])

local meta = call('GET', key_meta)
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
if call_version > version then
  head = pack('<I4i7i7i7i7I6', call_version, balance, held, used, requests, now)

  call('HSET', key_account, 'h', head)
end
return answer(1, now, head)
