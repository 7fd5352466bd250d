#!lua
-- Charge: reserve and settle in one step. Also the settle of a call that nobody reserved
-- (`unreserved`): that money is spent, so nothing but its own record can refuse it.
--
-- KEYS  of each call: 1 meta · 2 record · 3 account · 4 stream
-- ARGV  of each call: `<I4 I4 B i7 i7 i7 i7 I6 I6 c18 I6 Bc0 Bc0 I2c0 I2c0` generation, policy version, flags (1 force,
--         2 denied by policy, 4 unreserved, 8 clamped), amount, tokens, credit limit, key allowance (-1 unlimited), valid
--         from, valid until, fingerprint, tombstone time to live ms, key field or empty, price tag, account and
--         reservation (`Bc0` each), log; then its groups (lib/groups)
-- returns an answer for each call, with head, key, record, windows
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/changed
-- include lib/roll
-- include lib/shown
-- include lib/calls
local function charge(keys, arg)
  local key_meta, key_record, key_account, key_stream = KEYS[keys + 1], KEYS[keys + 2], KEYS[keys + 3], KEYS[keys + 4]
  local asked, meta, record, counted = ARGV[arg], found[key_meta], found[key_record], 1
  local generation, call_version, flags, amount, tokens, credit_limit, allowance, valid_from, valid_until, fingerprint,
    tombstone_ms, key_field, price_tag, names, log, groups_at = unpack('<I4I4Bi7i7i7i7I6I6c18I6Bc0Bc0I2c0I2c0', asked)
  local least, unreserved = amount, flags % 8 >= 4
  local force = unreserved or flags % 2 == 1
  -- include lib/open
  -- include lib/groups
  -- include lib/admit

  local status = 1
  if record then
    local state, record_flags, record_print = sub(record, 1, 1), byte(record, 21), sub(record, 22, 39)
    if record_print == fingerprint then
      status = 2
    elseif state == 'S' then
      status = not unreserved and record_flags % 16 >= 8 and 7 or 8
    elseif unreserved then
      status = state == 'R' and 9 or 19
    elseif state == 'H' then
      status = 7
    else
      status = state == 'E' and (record_flags % 2 == 1 or unpack('<i7', record, 54) > 0) and 8 or 9
    end
  elseif flags % 4 >= 2 and not unreserved then
    status = 10
  elseif not force and balance + credit_limit - held < amount then
    status = 11
  elseif not force and key_field ~= '' and allowance >= 0 and allowance - key_used - key_held < amount then
    status = 12
  elseif not force and exceeded then
    status = 13
  elseif balance - amount < -4503599627370496 or used + amount > 4503599627370496
    or key_used + amount > 4503599627370496 or top_cost + amount > 4503599627370496
    or top_tokens + tokens > 4503599627370496 then
    status = 17
  end
  if status ~= 1 then
    return answer(status, now, head, key, record, '', shown(groups, starts, formats))
  end

  balance = balance - amount
  head = pack('<I4i7i7i7i7I6', call_version, balance, held, used + amount, requests + 1, now)
  local writes, refs, key_id = {'h', head}, '', ''
  if key_field ~= '' then
    key, key_id = pack('<i7i7i7', key_used + amount, key_held, key_requests + 1), sub(key_field, 3)
    writes[3], writes[4] = key_field, key
  end
  local windows, deltas, delta_count = '', '', 0
  for i = 1, group_count do
    local numbers, n, field, changes = groups[i], sizes[i], group_fields[i], {}
    local own = sub(starts[i], 1, 7 * n)
    for at = 1, n do
      local metric = byte(own, 7 * at - 4)
      local by = metric < 64 and amount or metric < 128 and tokens or metric < 192 and 1 or 0
      numbers[2 * at - 1] = numbers[2 * at - 1] + by
      changes[at] = by
    end
    refs = refs .. pack('<I2c0Bc0', #field, field, n, own)
    local moved = changed(field, own, changes)
    if moved ~= '' then
      deltas, delta_count = deltas .. moved, delta_count + 1
    end
    local blob = starts[i] .. pack(formats[i], spread(numbers))
    windows, writes[#writes + 1], writes[#writes + 2] = windows .. pack('<I2c0', #blob, blob), field, blob
  end
  record = pack('<c1I6I6i7Bc18i7i7i7i7i7I2Bc0Bc0c0', 'S', now, now, unreserved and 0 or amount,
    (unreserved and 4 or 8) + (flags >= 8 and 16 or 0), fingerprint, tokens, 0, amount, 0, balance < 0 and -balance or 0, 0,
    #key_id, key_id, #price_tag, price_tag, refs)
  local payload = pack('<BI6i7i7i7i7c0I2c0Bc0c0', unreserved and 115 or 99, now, -amount, amount, 1, tokens, names,
    #record, record, delta_count, deltas, log)

  -- include lib/append
  found[key_meta], found[key_record] = meta, record
  call('HSET', key_account, spread(writes))
  call('SET', key_record, record, 'PX', tombstone_ms)
  return answer(1, now, head, key, record, '', windows)
end
return calls(charge, 4, 2)
