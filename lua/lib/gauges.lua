-- Rolls the counters of the call's groups to its windows and checks them against its caps.
-- Straight code. Needs `stored` (HMGET of head, key, then the groups), `first` (place in ARGV of the
-- first group; per group its field, then its gauges), `now`, `amount`, `least`, `tokens`, `align` and
-- the aliases `unpack`, `rep`. Defines `most` (what the cost caps leave of `amount`), `exceeded`
-- (some gauge does not even fit `least`), `top_cost` and `top_tokens` (highest value, of those that
-- `counted` points to: 3 held, 2 used), and `groups`: per group a flat table of four numbers per counter (code, start, used, held), the
-- call's first. `formats` holds its layout and `sizes` the number of the call's gauges.
local now_s = (now - now % 1000) / 1000
local most, exceeded, top_cost, top_tokens = amount, false, 0, 0
local groups, formats, sizes = {}, {}, {}
for at = first, #ARGV, 2 do
  local gauges, blob = ARGV[at + 1], stored[(at - first) / 2 + 3]
  local n = #gauges / 18
  local place, wide, ask, counters, caps
  repeat
    local m = blob and #blob / 21 or 0
    wide = m == 3 and '<I3I4i7i7I3I4i7i7I3I4i7i7' or m == 1 and '<I3I4i7i7' or '<' .. rep('I3I4i7i7', m)
    counters = blob and {unpack(wide, blob)} or {}
    ask = n == 3 and '<I3I4I4i7I3I4I4i7I3I4I4i7' or n == 1 and '<I3I4I4i7' or '<' .. rep('I3I4I4i7', n)
    caps = {unpack(ask, gauges)}
    place = m < n and 0 or 1
    while place > 0 and place < 4 * n and counters[place] == caps[place] do
      place = place + 4
    end
    if place < 4 * n then
      blob = align(blob, gauges)
    end
  until place > 4 * n
  for i = 1, 4 * n, 4 do
    local code, start, used, held, period, cap =
      caps[i], counters[i + 1], counters[i + 2], counters[i + 3], caps[i + 2], caps[i + 3]
    if period > 0 then
      if start == 0 then
        counters[i + 1] = now_s
      elseif now_s >= start + period then
        counters[i + 1], counters[i + 2], counters[i + 3], used, held = now_s - (now_s - start) % period, 0, 0, 0, 0
      end
    elseif start < caps[i + 1] then
      counters[i + 1], counters[i + 2], counters[i + 3], used, held = caps[i + 1], 0, 0, 0, 0
    end
    local value = counters[i + counted]
    if code < 4194304 then
      if value > top_cost then
        top_cost = value
      end
    elseif code < 8388608 and value > top_tokens then
      top_tokens = value
    end
    if cap >= 0 then
      local left = cap - used - held
      if code < 4194304 then
        if left < least then
          exceeded = true
        elseif left < most then
          most = left
        end
      elseif left < (code < 8388608 and tokens or 1) then
        exceeded = true
      end
    end
  end
  local group = #groups + 1
  groups[group], formats[group], sizes[group] = counters, wide, n
end
