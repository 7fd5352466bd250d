#!lua flags=allow-oom
-- Settle: charge what a reserved call cost, and give the rest of its hold back.
--
-- KEYS  of each call: 1 meta · 2 record · 3 account · 4 deadlines · 5 stream
-- ARGV  of each call: `<I4 B B i7 i7 c18 I6 Bc0 I2c0 I2c0` generation, cost (0 as given, 1 the prompt's, 2 the hold,
--         3 none), flags (1 final, 2 clamped, 4 price tag given), cost in units, tokens (-1 as reserved), fingerprint,
--         tombstone time to live ms, price tag, account and reservation (`Bc0` each), log
-- returns an answer for each call, with head, key of the record, record
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
-- include lib/calls
local function settle(keys, arg)
  local key_meta, key_record, key_account, key_deadlines, key_stream =
    KEYS[keys + 1], KEYS[keys + 2], KEYS[keys + 3], KEYS[keys + 4], KEYS[keys + 5]
  local meta, record = found[key_meta], found[key_record]
  local generation, cost_kind, flags, cost, tokens, fingerprint, tombstone_ms, price_tag, names, log =
    unpack('<I4BBi7i7c18I6Bc0I2c0I2c0', ARGV[arg])
  local final = flags % 2 == 1
  -- include lib/open
  if not record then
    local head = call('HGET', key_account, 'h')
    return answer(head and 14 or 4, now, head)
  end
  -- include lib/record
  -- include lib/refs
  local stored = call('HMGET', key_account, spread(fields))
  local head, key = stored[1], stored[2]
  -- include lib/head

  if cost_kind > 0 then
    cost = cost_kind == 1 and prompt_cost or cost_kind == 2 and hold or 0
    -- A cost that nobody said is never less than what was charged on the way.
    if state == 'H' and cost < charged then
      cost = charged
    end
  end
  local status = 1
  if state == 'S' then
    status = record_print == fingerprint and 2 or record_flags % 16 >= 8 and 8 or 7
  elseif state == 'R' then
    status = 9
  elseif flags >= 4 and price_tag ~= record_tag then
    status = 15
  elseif not final and cost == charged then
    status = 2
  elseif cost < charged and (not final or state == 'H') or cost < refunded or not final and parts == 65535 then
    status = 18
  end
  if status ~= 1 then
    return answer(status, now, head, key, record)
  end

  -- What an expiry charged is replaced, so the changes are differences to it.
  local counted = state == 'E' and record_flags % 2 == 1
  local live = state == 'H'
  local delta = cost - charged
  local cost_used, cost_held, tokens_used, tokens_held = delta, 0, 0, 0
  local requests_used, requests_held, concurrency_held = 0, 0, 0
  if tokens < 0 then
    tokens = record_tokens
  end
  if live then
    local rest = hold > charged and hold - charged or 0
    cost_held = -((final or delta > rest) and rest or delta)
  end
  if final then
    tokens_used, requests_used = tokens, 1
    if counted then
      tokens_used, requests_used = tokens - record_tokens, 0
    end
    if live then
      tokens_held, requests_held, concurrency_held = -record_tokens, -1, -1
    end
  end
  -- include lib/touch
  local key_used, key_held, key_requests = 0, 0, 0
  if key then
    key_used, key_held, key_requests = unpack('<i7i7i7', key)
  end
  balance, used, held, requests = balance - delta, used + delta, held + cost_held, requests + requests_used
  key_used, key_held, key_requests = key_used + delta, key_held + cost_held, key_requests + requests_used
  if balance < -4503599627370496 or used > 4503599627370496 or key_used > 4503599627370496
    or highest > 4503599627370496 then
    return answer(17, now, head, key, record)
  end
  if held < 0 then
    error({err = 'INVARIANT an account holds less than its reservation'})
  end
  overdraft = balance < 0 and -balance or 0
  if now >= expires and record_flags % 4 < 2 then
    record_flags = record_flags + 2
  end
  if flags % 4 >= 2 and record_flags < 16 then
    record_flags = record_flags + 16
  end
  if final then
    state, record_print, record_tokens = 'S', fingerprint, tokens
  else
    parts = parts + 1
  end
  record = pack('<c1I6I6i7Bc18i7i7i7i7i7I2c0', state, created, expires, hold, record_flags, record_print, record_tokens,
    prompt_cost, cost, refunded, overdraft, parts, tail)
  head = pack('<I4i7i7i7i7I6', version, balance, held, used, requests, now)
  writes[#writes + 1] = 'h'
  writes[#writes + 1] = head
  if record_key ~= '' then
    key = pack('<i7i7i7', key_used, key_held, key_requests)
    writes[#writes + 1] = fields[2]
    writes[#writes + 1] = key
  end
  local payload = pack('<BI6i7i7i7i7c0I2c0Bc0c0', final and 115 or 112, now, -delta, delta, requests_used, tokens_used,
    names, #record, record, delta_count, deltas, log)

  -- include lib/append
  call('HSET', key_account, spread(writes))
  found[key_meta], found[key_record] = meta, record
  if state == 'H' then
    call('SET', key_record, record)
  else
    call('SET', key_record, record, 'PX', tombstone_ms)
    if live then
      -- include lib/ended
    end
  end
  return answer(1, now, head, key, record)
end
return calls(settle, 5, 2)
