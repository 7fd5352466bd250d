#!lua flags=allow-oom
-- Release: give back everything a reservation still holds. For an id never seen it leaves a
-- tombstone, so that a reserve that arrives later is refused.
--
-- KEYS  of each call: 1 meta · 2 record · 3 account · 4 deadlines
-- ARGV  of each call: `<I4 I6` generation, tombstone time to live ms
-- returns an answer for each call, with head, key of the record, record
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
-- include lib/calls
local function release(keys, arg)
  local key_meta, key_record, key_account, key_deadlines = KEYS[keys + 1], KEYS[keys + 2], KEYS[keys + 3], KEYS[keys + 4]
  local meta, record = found[key_meta], found[key_record]
  local generation, tombstone_ms = unpack('<I4I6', ARGV[arg])
  -- include lib/open
  if not record then
    local head = call('HGET', key_account, 'h')
    if not head then
      return answer(4, now)
    end
    record = pack('<c1I6I6', 'R', now, now) .. rep('\0', 65)
    found[key_record] = record
    call('SET', key_record, record, 'PX', tombstone_ms)
    return answer(1, now, head, '', record)
  end
  -- include lib/record
  -- include lib/refs
  local stored = call('HMGET', key_account, spread(fields))
  local head, key = stored[1], stored[2]
  -- include lib/head
  if state ~= 'H' then
    local is_charged = state == 'S' or state == 'E' and (record_flags % 2 == 1 or charged > 0)
    return answer(is_charged and 8 or 2, now, head, key, record)
  end
  local rest = hold > charged and hold - charged or 0
  local cost_used, cost_held, tokens_used, tokens_held = 0, -rest, 0, -record_tokens
  local requests_used, requests_held, concurrency_held = 0, -1, -1
  -- include lib/touch
  held = held - rest
  if held < 0 then
    error({err = 'INVARIANT an account holds less than its reservation'})
  end
  head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
  writes[#writes + 1] = 'h'
  writes[#writes + 1] = head
  if key then
    local key_used, key_held, key_requests = unpack('<i7i7i7', key)
    key = pack('<i7i7i7', key_used, key_held - rest, key_requests)
    writes[#writes + 1] = fields[2]
    writes[#writes + 1] = key
  end
  record = 'R' .. sub(record, 2)

  found[key_record] = record
  call('HSET', key_account, spread(writes))
  call('SET', key_record, record, 'PX', tombstone_ms)
  -- include lib/ended
  return answer(1, now, head, key, record)
end
return calls(release, 4, 2)
