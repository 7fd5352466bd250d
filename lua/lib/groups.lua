-- Takes the groups of a call apart.
-- Straight code. Needs `unpack`, `asked` (the call's argument) and `groups_at`, where they begin in it: per group
-- `<I2c0 B` field and number of gauges, then codes and starts `<I3 I4` of each, caps `i7`, periods `I4`. Defines `group_count`, and
-- of each group `group_fields`, `sizes` (number of gauges) and `places` (where they begin in `asked`).
local group_fields, sizes, places, group_count = {}, {}, {}, 0
while groups_at <= #asked do
  local field, size, place = unpack('<I2c0B', asked, groups_at)
  group_count, groups_at = group_count + 1, place + 18 * size
  group_fields[group_count], sizes[group_count], places[group_count] = field, size, place
end
