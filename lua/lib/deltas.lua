-- Adds the usage of a ledger entry to the account's key and window counters, or takes it away again.
-- Straight code. Needs what lib/entry defines, `changed`, `call`, `pack`, `unpack`, `sub`, `key_account`, `sign` (1: the
-- entry is done again, -1: it is undone) and `blobs` (field → value, of the fields that have changed already).
-- Puts what changes into `blobs`; defines `deltas` and `delta_count`: what the windows changed by, packed for an
-- entry, and `highest`, the largest usage written. A window that is no longer the entry's is left alone, but
-- one that is older than the entry's begins anew when the entry is done again. Usage never falls below 0.
local deltas, delta_count, highest = '', 0, 0
if entry_key ~= '' then
  local field = 'k\31' .. entry_key
  local key = blobs[field] or call('HGET', key_account, field)
  local key_used, key_held, key_requests = 0, 0, 0
  if key then
    key_used, key_held, key_requests = unpack('<i7i7i7', key)
  end
  blobs[field] = pack('<i7i7i7', key_used + sign * by_used, key_held, key_requests + sign * by_requests)
end
for _ = 1, entry_count do
  local field, n, names = unpack('<I2c0B', payload, entry_deltas)
  local blob, changes = blobs[field] or call('HGET', key_account, field) or '', {}
  for i = 1, n do
    local code, start, at, m = sub(payload, names + 7 * i - 7, names + 7 * i - 5), unpack('<I4', payload, names + 7 * i - 4), 1, #blob / 21
    local by = sign * unpack('<i7', payload, names + 7 * n + 7 * i - 7)
    while at <= m and sub(blob, 7 * at - 6, 7 * at - 4) ~= code do
      at = at + 1
    end
    local since, use, hold = 0, 0, 0
    if at <= m then
      since, use, hold = unpack('<I4', blob, 7 * at - 3), unpack('<i7i7', blob, 7 * m + 14 * at - 13)
    end
    local is_own = at <= m and since == start
    if is_own then
      by = by < -use and -use or by
    elseif sign > 0 and since < start then
      by, use, hold, is_own = by < 0 and 0 or by, 0, 0, true
    end
    if is_own then
      highest = use + by > highest and use + by or highest
      local numbers = sub(blob, 7 * m + 1)
      blob = sub(blob, 1, 7 * at - 7) .. code .. pack('<I4', start) .. sub(blob, 7 * at + 1, 7 * m)
        .. sub(numbers, 1, 14 * at - 14) .. pack('<i7i7', use + by, hold) .. sub(numbers, 14 * at + 1)
    else
      by = 0
    end
    changes[i] = by
  end
  blobs[field] = blob ~= '' and blob or nil
  local moved = changed(field, sub(payload, names, names + 7 * n - 1), changes)
  if moved ~= '' then
    deltas, delta_count = deltas .. moved, delta_count + 1
  end
  entry_deltas = names + 14 * n
end
