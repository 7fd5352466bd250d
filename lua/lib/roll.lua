-- roll(blob, gauges, now_s) → blob
-- A group's stored counters put in the call's order and windows: first one for each gauge, all zero when it is
-- new, then those of limits that the call does not name. Called when what is stored does not
-- begin with the call's own codes and starts: after a change of limits, when a window is over, and
-- for rolling windows, whose start the call cannot know. Needs the aliases `pack`, `unpack`, `sub`, `rep`.
local function roll(blob, gauges, now_s)
  local n, m = #gauges / 18, #blob / 21
  local order, stored = {}, {}
  for i = 0, m - 1 do
    local code = sub(blob, 7 * i + 1, 7 * i + 3)
    order[i + 1] = code
    stored[code] = sub(blob, 7 * i + 4, 7 * i + 7) .. sub(blob, 7 * m + 14 * i + 1, 7 * m + 14 * i + 14)
  end
  local names, numbers = {}, {}
  for i = 0, n - 1 do
    local code, asked = sub(gauges, 7 * i + 1, 7 * i + 3), unpack('<I4', gauges, 7 * i + 4)
    local period = unpack('<I4', gauges, 14 * n + 4 * i + 1)
    local start, used, held = unpack('<I4i7i7', stored[code] or rep('\0', 18))
    if period > 0 then
      if start == 0 then
        start = now_s
      elseif now_s >= start + period then
        start, used, held = now_s - (now_s - start) % period, 0, 0
      end
    elseif start < asked then
      start, used, held = asked, 0, 0
    end
    stored[code], names[i + 1], numbers[i + 1] = nil, code .. pack('<I4', start), pack('<i7i7', used, held)
  end
  for i = 1, m do
    local rest = stored[order[i]]
    if rest then
      names[#names + 1], numbers[#numbers + 1] = order[i] .. sub(rest, 1, 4), sub(rest, 5)
    end
  end
  return table.concat(names) .. table.concat(numbers)
end
