-- Adds the usage of a ledger entry to the account's key and window counters, or takes it away again.
-- Straight code. Needs what lib/entry defines, `call`, `pack`, `unpack`, `sub`, `key_account`, `sign` (1: the
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
  local field, code, start, by
  field, code, start, by, entry_deltas = unpack('<I2c0I3I4i7', payload, entry_deltas)
  local blob = blobs[field] or call('HGET', key_account, field) or ''
  local at, name, counter = 1, pack('<I3', code), nil
  while at < #blob and sub(blob, at, at + 2) ~= name do
    at = at + 21
  end
  local since, use, hold = 0, 0, 0
  if at < #blob then
    since, use, hold = unpack('<I4i7i7', blob, at + 3)
  end
  by = sign * by
  if at < #blob and since == start then
    by = by < -use and -use or by
    counter = pack('<I3I4i7i7', code, start, use + by, hold)
  elseif sign > 0 and since < start then
    by = by < 0 and 0 or by
    use, counter = 0, pack('<I3I4i7i7', code, start, by, 0)
  end
  if counter then
    highest = use + by > highest and use + by or highest
    blobs[field] = sub(blob, 1, at - 1) .. counter .. sub(blob, at + 21)
    if by ~= 0 then
      deltas = deltas .. pack('<I2c0I3I4i7', #field, field, code, start, by)
      delta_count = delta_count + 1
    end
  end
end
