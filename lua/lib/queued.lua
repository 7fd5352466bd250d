-- queued(record, key_queue) → its deadline, or nil
-- Whether a record that a queue names (false: it is gone) is a live hold, and still ends in that queue's time. If not, it
-- has ended, or is listed under another deadline. Needs the aliases `unpack`, `sub`.
local function queued(record, key_queue)
  if record and sub(record, 1, 1) == 'H' then
    local expires = unpack('<I6', record, 8)
    if string.match(key_queue, '%d+$') * 15000 == expires - expires % 15000 then
      return expires
    end
  end
end
