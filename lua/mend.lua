#!lua flags=allow-oom
-- Mend: replace fields of an account that were proven wrong, if every one of them still is what was seen. There is no
-- entry: the ledger is what they are mended after.
--
-- KEYS  1 meta · 2 account
-- ARGV  1 header `<I4` generation · then per field: its name, the value seen, the new value (empty: the field is not there)
-- returns the answer with head
if #KEYS ~= 2 or #ARGV < 4 or #ARGV % 3 ~= 1 then
  error({err = 'BADARG mend wants 2 keys, and three arguments per field after the first'})
end
local call, pack, unpack = redis.call, struct.pack, struct.unpack
-- include lib/answer
local key_meta, key_account = KEYS[1], KEYS[2]
local generation = unpack('<I4', ARGV[1])
for at = 2, #ARGV, 3 do
  if ARGV[at] == 'h' and #ARGV[at + 2] ~= 38 then
    error({err = 'BADARG a head has 38 bytes'})
  end
end

local meta = call('GET', key_meta)
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
for at = 2, #ARGV, 3 do
  if (call('HGET', key_account, ARGV[at]) or '') ~= ARGV[at + 1] then
    return answer(19, now, head)
  end
end

for at = 2, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    call('HDEL', key_account, ARGV[at])
  else
    call('HSET', key_account, ARGV[at], ARGV[at + 2])
  end
end
return answer(1, now, call('HGET', key_account, 'h'))
