#!lua flags=allow-oom
-- Redo: do the ledger row after a fenced shard's last entry once more, for a Redis that has lost it. Its deltas are
-- applied where the account is loaded; the reservation is left as the row left it, and a live hold keeps what
-- the row left held. A hold that the row left live and that is not here is one that was lost: it becomes expired.
--
-- KEYS  1 meta · 2 account · 3 record · 4 operation · 5 deadlines · 6 stream
-- ARGV  1 meta of the fence · 2 header `<I4 I7 B` generation and seq of the row, 1 when KEYS 3 is its reservation
--       3 payload · 4 digest · 5 tombstone time to live ms
-- returns the new meta, an empty string when the meta was not the fence
if #KEYS ~= 6 or #ARGV ~= 5 or #ARGV[1] ~= 58 then
  error({err = 'BADARG redo wants 6 keys and 5 arguments, the first of 58 bytes'})
end
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/changed
local key_meta, key_account, key_record, key_operation, key_deadlines, key_stream =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local fence, payload, digest, tombstone_ms = ARGV[1], ARGV[3], ARGV[4], ARGV[5]
local generation, seq, reserved = unpack('<I4I7B', ARGV[2])
local open, top_generation, now, top_seq, top_digest = unpack('<c1I4I6I7c40', fence)
if open ~= 'R' or not (generation == top_generation and seq == top_seq + 1 or generation > top_generation and seq == 1) then
  error({err = 'BADARG redo wants a fenced shard and the row after its last entry'})
end

if call('GET', key_meta) ~= fence then
  return ''
end
if redis.sha1hex(top_digest .. payload) ~= digest then
  error({err = 'INVARIANT the digest of a ledger row does not follow from the one before'})
end
-- include lib/entry
if entry_at > now then
  now = entry_at
end
local head = call('HGET', key_account, 'h')
local record = reserved == 1 and entry_record ~= '' and call('GET', key_record)
local was_live = record and sub(record, 1, 1) == 'H'
local stays = head and was_live and sub(entry_record, 1, 1) == 'H' and sub(record, 2, 7) == sub(entry_record, 2, 7)
local blobs, balance = {}, 0
if head then
  local version, held, used, requests, head_now
  version, balance, held, used, requests, head_now = unpack('<I4i7i7i7i7I6', head)
  if was_live then
    -- include lib/record
    -- include lib/refs
    local stored = call('HMGET', key_account, spread(fields))
    local cost_used, tokens_used, requests_used = 0, 0, 0
    local cost_held, tokens_held, requests_held, concurrency_held = charged - hold, -record_tokens, -1, -1
    if cost_held > 0 then
      cost_held = 0
    end
    if stays then
      local left = unpack('<i7', entry_record, 14) - unpack('<i7', entry_record, 54)
      cost_held, requests_held, concurrency_held = cost_held + (left > 0 and left or 0), 0, 0
      -- An extend, which has no entry of its own, may have held more tokens since.
      tokens_held = tokens_held + unpack('<i7', entry_record, 40)
    end
    -- include lib/touch
    for at = 1, #writes, 2 do
      blobs[writes[at]] = writes[at + 1]
    end
    if stored[2] then
      local key_used, key_held, key_requests = unpack('<i7i7i7', stored[2])
      blobs[fields[2]] = pack('<i7i7i7', key_used, key_held + cost_held, key_requests)
    end
    held = held + cost_held
    if held < 0 then
      error({err = 'INVARIANT an account holds less than its reservation'})
    end
  end
  local sign = 1
  -- include lib/deltas
  balance = balance + by_balance
  blobs.h = pack('<I4i7i7i7i7I6', version, balance, held, used + by_used, requests + by_requests,
    head_now > now and head_now or now)
end
local writes = {}
for field, value in pairs(blobs) do
  writes[#writes + 1] = field
  writes[#writes + 1] = value
end
local operation
if entry_kind ~= 115 and entry_kind ~= 112 and entry_kind ~= 99 and entry_kind ~= 101 then
  local left = 0
  if entry_kind == 102 and entry_record ~= '' then
    left = unpack('<i7', entry_record, 54) - unpack('<i7', entry_record, 61)
  end
  local amount = (entry_kind == 100 or entry_kind == 120) and -by_balance or by_balance
  operation = pack('<i7i7i7I6', amount, balance, left, entry_at) .. rep('\0', 18)
end
if not stays and sub(entry_record, 1, 1) == 'H' then
  local flags = byte(entry_record, 21)
  entry_record = 'E' .. sub(entry_record, 2, 20) .. string.char(flags - flags % 2) .. sub(entry_record, 22)
end
local meta = pack('<c1I4I6I7c40', 'R', generation, now, seq, digest)

call('XADD', key_stream, string.format('%d-%d', generation, seq), 'p', payload, 'd', digest)
call('SET', key_meta, meta)
if head then
  call('HSET', key_account, spread(writes))
end
if stays then
  call('SET', key_record, entry_record)
  local expires = unpack('<I6', entry_record, 8)
  call('ZREM', key_deadlines, key_record)
  -- include lib/deadline
elseif reserved == 1 and entry_record ~= '' then
  call('SET', key_record, entry_record, 'PX', tombstone_ms)
  call('ZREM', key_deadlines, key_record)
end
if operation then
  call('SET', key_operation, operation, 'PX', tombstone_ms)
end
return meta
