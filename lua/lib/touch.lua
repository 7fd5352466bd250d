-- Moves the counters of the record's windows that are still the record's.
-- Straight code. Needs `stored` (HMGET of `fields`), what lib/refs defines, `pack`, `unpack`, `rep`,
-- `spread` and the changes: `cost_held`, `cost_used`, `tokens_held`, `tokens_used`, `requests_held`,
-- `requests_used`, `concurrency_held`. Defines `writes` (field, value … for HSET, groups only),
-- `deltas` (packed usage changes for the entry) and `delta_count`. A window that began anew since is
-- left alone. One that is missing or older than the record's was lost or unloaded after the reserve began
-- it, for nothing was used in it: it begins anew. `highest` is the largest counter written. Usage never
-- falls below 0: a reset may have taken it there before.
local writes, deltas, delta_count, highest = {}, '', 0, 0
for group = 1, #refs_from do
  local blob, n = stored[group + 2] or '', refs_count[group]
  if n > 0 then
    local field, m, touched = fields[group + 2], #blob / 21, false
    local wide = m == 3 and '<I3I4i7i7I3I4i7i7I3I4i7i7' or m == 1 and '<I3I4i7i7' or '<' .. rep('I3I4i7i7', m)
    local counters = {unpack(wide, blob)}
    local narrow = n == 3 and '<I3I4I3I4I3I4' or n == 1 and '<I3I4' or '<' .. rep('I3I4', n)
    local refs = {unpack(narrow, record, refs_from[group])}
    local at = 1
    for i = 1, 2 * n, 2 do
      local code = refs[i]
      if at > 4 * m or counters[at] ~= code then
        at = 1
        while at < 4 * m and counters[at] ~= code do
          at = at + 4
        end
      end
      local by_held, by_used
      if code < 4194304 then
        by_held, by_used = cost_held, cost_used
      elseif code < 8388608 then
        by_held, by_used = tokens_held, tokens_used
      elseif code < 12582912 then
        by_held, by_used = requests_held, requests_used
      else
        by_held, by_used = concurrency_held, 0
      end
      if by_used > 0 and (at > 4 * m or counters[at + 1] < refs[i + 1]) then
        if at > 4 * m then
          m = m + 1
          wide = wide .. 'I3I4i7i7'
        end
        counters[at], counters[at + 1], counters[at + 2], counters[at + 3], by_held = code, refs[i + 1], 0, 0, 0
      end
      if at < 4 * m and counters[at + 1] == refs[i + 1] then
        local use = counters[at + 2]
        if by_used < -use then
          by_used = use > 0 and -use or 0
        end
        if by_held ~= 0 or by_used ~= 0 then
          touched = true
          counters[at + 2], counters[at + 3] = use + by_used, counters[at + 3] + by_held
          if use + by_used > highest then
            highest = use + by_used
          end
        end
        if by_used ~= 0 then
          deltas = deltas .. pack('<I2c0I3I4i7', #field, field, code, refs[i + 1], by_used)
          delta_count = delta_count + 1
        end
      end
      at = at + 4
    end
    if touched then
      writes[#writes + 1] = field
      writes[#writes + 1] = pack(wide, spread(counters))
    end
  end
end
