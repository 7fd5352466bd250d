-- Rolls the counters of the call's groups to its windows and checks them against its caps.
-- Straight code. Needs `stored` (HMGET of head, key, then the groups), what lib/groups defines, `now`, `amount`, `least`,
-- `tokens`, `roll` and the aliases `unpack`, `sub`, `byte`, `rep`. Defines `most` (what the cost caps leave of
-- `amount`), `exceeded` (some gauge does not even fit `least`), `top_cost` and `top_tokens` (highest value, of those that
-- `counted` points to: 1 used, 2 held), and per group `groups` (used and held of each counter, the call's first), `starts`
-- (their codes and starts as stored), `formats` (of the numbers); `rolled` when a group is not in the call's own windows.
local most, exceeded, top_cost, top_tokens, rolled = amount, false, 0, 0, false
local groups, starts, formats = {}, {}, {}
for group = 1, group_count do
  local place, n, blob = places[group], sizes[group], stored[group + 2] or ''
  local names, m = sub(asked, place, place + 7 * n - 1), n
  if #blob ~= 21 * n or sub(blob, 1, 7 * n) ~= names then
    blob, rolled = roll(blob, sub(asked, place, place + 18 * n - 1), (now - now % 1000) / 1000), true
    m = #blob / 21
    names = sub(blob, 1, 7 * m)
  end
  local format = m == 3 and '<i7i7i7i7i7i7' or m == 1 and '<i7i7' or '<' .. rep('i7i7', m)
  local numbers = {unpack(format, blob, 7 * m + 1)}
  for i = 1, n do
    -- The highest byte of the code tells the metric: below 64 cost, 128 tokens, 192 requests.
    local metric, value = byte(asked, place + 7 * i - 5), numbers[2 * i - 2 + counted]
    if metric < 64 then
      if value > top_cost then
        top_cost = value
      end
    elseif metric < 128 and value > top_tokens then
      top_tokens = value
    end
    local cap = unpack('<i7', asked, place + 7 * (n + i - 1))
    if cap >= 0 then
      local left = cap - numbers[2 * i - 1] - numbers[2 * i]
      if metric < 64 then
        if left < least then
          exceeded = true
        elseif left < most then
          most = left
        end
      elseif left < (metric < 128 and tokens or 1) then
        exceeded = true
      end
    end
  end
  groups[group], starts[group], formats[group] = numbers, names, format
end
