#!lua flags=allow-oom
-- Unload: forget an account that holds nothing and whose entries SQL has. What it was told by the caller is enough to know
-- that: SQL has the shard's last entry, or has one that was made after the account was last written.
-- The nonce of a load under way goes too. Its loader may have read SQL while the account was here and being charged;
-- were the nonce still good, it would install those numbers now, and revive what was spent since.
--
-- KEYS  1 meta · 2 account · 3 load nonce
-- ARGV  1 header `<I4 I4 I7 I6` generation, place of the last entry that SQL has, time of that entry
-- returns the answer with head
if #KEYS ~= 3 or #ARGV ~= 1 then
  error({err = 'BADARG unload wants 3 keys and 1 argument'})
end
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub
-- include lib/answer
local key_meta, key_account, key_nonce = KEYS[1], KEYS[2], KEYS[3]
local generation, posted_generation, posted_seq, posted_at = unpack('<I4I4I7I6', ARGV[1])

local meta = call('GET', key_meta)
-- include lib/open
local head = call('HGET', key_account, 'h')
-- include lib/head
local seq = unpack('<I7', meta, 12)
local posted = posted_generation == generation and posted_seq == seq or head_now < posted_at
local idle = answer(19, now, head)
if held ~= 0 or not posted then
  return idle
end
local items = call('HGETALL', key_account)
for i = 1, #items, 2 do
  local kind, value = sub(items[i], 1, 1), items[i + 1]
  if kind == 'k' then
    local _, key_held = unpack('<i7i7', value)
    if key_held ~= 0 then
      return idle
    end
  elseif kind == 'w' then
    for at = #value / 3 + 8, #value, 14 do
      if unpack('<i7', value, at) ~= 0 then
        return idle
      end
    end
  end
end

call('UNLINK', key_account, key_nonce)
return answer(1, now, head)
