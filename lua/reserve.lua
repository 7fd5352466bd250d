#!lua
-- Reserve: hold an amount, tokens and one request, when balance, key and every limit allow it.
--
-- KEYS  of each call: 1 meta · 2 account · 3 record · 4 deadlines
-- ARGV  of each call: `<I4 I4 B i7 i7 i7 I4 i7 i7 I6 I6 I2 Bc0 I2c0` generation, policy version, flags (1 check only,
--         2 denied by policy), amount, least amount, tokens, time to live ms, credit limit, key allowance (-1
--         unlimited), valid from, valid until, where the references begin in the last one, key field or empty, what the record
--         says beside times and amount, from its flags on: references as of the call's windows; then its groups (lib/groups)
-- returns an answer for each call, with head, key, record, windows
local call, pack, unpack, sub, byte, rep, spread =
  redis.call, struct.pack, struct.unpack, string.sub, string.byte, string.rep, unpack
-- include lib/answer
-- include lib/roll
-- include lib/shown
-- include lib/calls
local function reserve(keys, arg)
  local key_meta, key_account, key_record, key_deadlines = KEYS[keys + 1], KEYS[keys + 2], KEYS[keys + 3], KEYS[keys + 4]
  local asked, meta, counted = ARGV[arg], found[key_meta], 2
  local generation, call_version, flags, amount, least, tokens, ttl_ms, credit_limit, allowance, valid_from,
    valid_until, refs_at, key_field, rest, groups_at = unpack('<I4I4Bi7i7i7I4i7i7I6I6I2Bc0I2c0', asked)
  -- include lib/open
  -- include lib/groups
  -- include lib/admit
  local available = balance + credit_limit - held
  local key_left = key_field ~= '' and allowance >= 0 and allowance - key_used - key_held or amount

  local status, record = 1, nil
  if flags >= 2 then
    status = 10
  elseif available < least then
    status = 11
  elseif key_left < least then
    status = 12
  elseif exceeded then
    status = 13
  else
    if available < most then
      most = available
    end
    if key_left < most then
      most = key_left
    end
    amount = most
    if held + amount > 4503599627370496 or key_held + amount > 4503599627370496
      or top_cost + amount > 4503599627370496 or top_tokens + tokens > 4503599627370496 then
      status = 17
    end
  end
  if rolled then
    -- The windows are others than the call's: what the record refers to is what is stored.
    rest = sub(rest, 1, refs_at)
    for i = 1, group_count do
      local field = group_fields[i]
      rest = rest .. pack('<I2c0Bc0', #field, field, sizes[i], sub(starts[i], 1, 7 * sizes[i]))
    end
  end
  local expires = now + ttl_ms
  if status == 1 and flags == 0 then
    record = pack('<c1I6I6i7c0', 'H', now, expires, amount, rest)
  end

  -- The record is written when there is none: looking for one first would cost as much as this. What there is decides
  -- before anything else.
  if not record or call('SETNX', key_record, record) == 0 then
    record = call('GET', key_record)
    if record then
      local state, charged = sub(record, 1, 1), unpack('<i7', record, 54)
      if state == 'H' then
        status = sub(record, 22, 39) == sub(rest, 2, 19) and 2 or 7
      elseif state == 'S' or state == 'E' and (byte(record, 21) % 2 == 1 or charged > 0) then
        status = 8
      else
        status = 9
      end
    end
    return answer(status, now, head, key, record, '', shown(groups, starts, formats))
  end

  head = pack('<I4i7i7i7i7I6', call_version, balance, held + amount, used, requests, now)
  local writes, windows = {'h', head}, ''
  if key_field ~= '' then
    key = pack('<i7i7i7', key_used, key_held + amount, key_requests)
    writes[3], writes[4] = key_field, key
  end
  for i = 1, group_count do
    local numbers, names = groups[i], starts[i]
    for at = 1, sizes[i] do
      local metric = byte(names, 7 * at - 4)
      numbers[2 * at] = numbers[2 * at] + (metric < 64 and amount or metric < 128 and tokens or 1)
    end
    local blob = names .. pack(formats[i], spread(numbers))
    writes[#writes + 1], writes[#writes + 2] = group_fields[i], blob
    windows = windows .. pack('<I2c0', #blob, blob)
  end
  call('HSET', key_account, spread(writes))
  -- include lib/deadline
  return answer(1, now, head, key, record, '', windows)
end
return calls(reserve, 4, 1)
