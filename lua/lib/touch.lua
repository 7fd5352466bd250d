-- Moves the counters of the record's windows that are still the record's.
-- Straight code. Needs `stored` (HMGET of `fields`), what lib/refs defines, `changed`, `pack`, `unpack`, `sub`, `byte`, `rep`,
-- `spread` and the changes: `cost_held`, `cost_used`, `tokens_held`, `tokens_used`, `requests_held`,
-- `requests_used`, `concurrency_held`. Defines `writes` (field, value … for HSET, groups only),
-- `deltas` (packed usage changes for the entry) and `delta_count` (groups in it). A window that began anew since is
-- left alone. One that is missing or older than the record's was lost or unloaded after the reserve began
-- it, for nothing was used in it: it begins anew. `highest` is the largest counter written. Usage never
-- falls below 0: a reset may have taken it there before.
local writes, deltas, delta_count, highest = {}, '', 0, 0
for group = 1, #refs_from do
  local blob, n = stored[group + 2] or '', refs_count[group]
  if n > 0 then
    local field, m, refs, touched = fields[group + 2], #blob / 21, refs_from[group], false
    local names, starts = sub(record, refs, refs + 7 * n - 1), sub(blob, 1, 7 * m)
    local whole = names == starts
    local format = m == 3 and '<i7i7i7i7i7i7' or m == 1 and '<i7i7' or '<' .. rep('i7i7', m)
    local numbers, changes = {unpack(format, blob, 7 * m + 1)}, {}
    for i = 1, n do
      local metric, by_held, by_used = byte(names, 7 * i - 4), concurrency_held, 0
      if metric < 64 then
        by_held, by_used = cost_held, cost_used
      elseif metric < 128 then
        by_held, by_used = tokens_held, tokens_used
      elseif metric < 192 then
        by_held, by_used = requests_held, requests_used
      end
      local at = i
      if not whole then
        local name = sub(names, 7 * i - 6, 7 * i)
        at = 1
        while at <= m and sub(starts, 7 * at - 6, 7 * at - 4) ~= sub(name, 1, 3) do
          at = at + 1
        end
        local start = at <= m and unpack('<I4', starts, 7 * at - 3) or -1
        if start ~= unpack('<I4', name, 4) then
          if by_used > 0 and start < unpack('<I4', name, 4) then
            starts = sub(starts, 1, 7 * at - 7) .. name .. sub(starts, 7 * at + 1)
            numbers[2 * at - 1], numbers[2 * at], by_held = 0, 0, 0
            if at > m then
              m, format = at, format .. 'i7i7'
            end
          else
            by_held, by_used, at = 0, 0, 0
          end
        end
      end
      if at > 0 then
        local use = numbers[2 * at - 1]
        if by_used < -use then
          by_used = use > 0 and -use or 0
        end
        if by_held ~= 0 or by_used ~= 0 then
          touched = true
          numbers[2 * at - 1], numbers[2 * at] = use + by_used, numbers[2 * at] + by_held
          if use + by_used > highest then
            highest = use + by_used
          end
        end
      end
      changes[i] = by_used
    end
    local moved = changed(field, names, changes)
    if moved ~= '' then
      deltas, delta_count = deltas .. moved, delta_count + 1
    end
    if touched then
      writes[#writes + 1] = field
      writes[#writes + 1] = starts .. pack(format, spread(numbers))
    end
  end
end
