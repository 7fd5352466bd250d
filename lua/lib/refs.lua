-- Lists the hash fields that a record belongs to.
-- Straight code. Needs `unpack`, `record`, `record_key`, `refs_at`. Defines `fields` (head, key field
-- or '', then the groups), and per group `refs_from` and `refs_count`: where its references
-- (`<I3 I4` counter and start of its window) begin in the record, and how many there are.
local fields, refs_from, refs_count = {'h', record_key ~= '' and 'k\31' .. record_key or ''}, {}, {}
while refs_at <= #record do
  local field, count, from = unpack('<I2c0B', record, refs_at)
  local group = #refs_from + 1
  fields[group + 2], refs_from[group], refs_count[group] = field, from, count
  refs_at = from + 7 * count
end
