-- changed(field, names, changes) → packed group of an entry, '' when nothing changed
-- How much each counter of a group changed, as an entry says it: `<I2c0 B` field and count, codes and starts, the
-- changes. `names` has code and start of each counter. An entry names only what changed. Needs the
-- aliases `pack`, `sub`, `rep`, `spread`.
local function changed(field, names, changes)
  local n, kept = #changes, 0
  for i = 1, n do
    if changes[i] ~= 0 then
      kept = kept + 1
    end
  end
  if kept == 0 then
    return ''
  end
  if kept < n then
    local some_names, some = '', {}
    for i = 1, n do
      if changes[i] ~= 0 then
        some_names, some[#some + 1] = some_names .. sub(names, 7 * i - 6, 7 * i), changes[i]
      end
    end
    names, changes = some_names, some
  end
  local layout = kept == 3 and '<I2c0Bc0i7i7i7' or kept == 1 and '<I2c0Bc0i7' or '<I2c0Bc0' .. rep('i7', kept)
  return pack(layout, #field, field, kept, names, spread(changes))
end
