#!lua
-- Hydrate: install a cold account, if its load was not overtaken by another.
--
-- KEYS  1 meta · 2 account · 3 load nonce
-- ARGV  1 header `<I4` generation · 2 nonce · then field, value pairs; the first is `h`
-- returns the answer with head
if #KEYS ~= 3 or #ARGV < 4 or #ARGV % 2 ~= 0 or ARGV[3] ~= 'h' or #ARGV[4] ~= 38 then
  error({err = 'BADARG hydrate wants 3 keys and an even number of arguments, the head first'})
end
local call, pack, unpack, spread = redis.call, struct.pack, struct.unpack, unpack
-- include lib/answer
local key_meta, key_account, key_nonce = KEYS[1], KEYS[2], KEYS[3]
local generation, nonce = unpack('<I4', ARGV[1]), ARGV[2]

local got = call('MGET', key_meta, key_nonce)
local meta = got[1]
-- include lib/open
local present = call('HGET', key_account, 'h')
if present or got[2] ~= nonce then
  return answer(19, now, present)
end

-- In runs of 500 pairs: Lua spreads some thousands of values at most. Bounded by the caller's arguments.
for at = 3, #ARGV, 1000 do
  local to = at + 999 < #ARGV and at + 999 or #ARGV
  call('HSET', key_account, spread(ARGV, at, to))
end
call('DEL', key_nonce)
return answer(1, now, ARGV[4])
