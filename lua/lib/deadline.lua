-- Notes when a live hold ends.
-- Straight code. Needs `call`, `now`, `expires`, `key_deadlines`, `key_record`. A deadline that is neither near nor more than an
-- hour away waits in a queue, the list of all that ends in the same 15 s (`begins`, `key_queue`; nil without one): an append is
-- all that it costs, and most holds end long before and are never looked for in it. Others are among the deadlines at once.
local begins, key_queue = expires - expires % 15000, nil
if begins - 15000 > now and expires - now <= 3600000 then
  key_queue = key_deadlines .. '/' .. begins / 15000
  if call('RPUSH', key_queue, key_record) == 1 then
    call('ZADD', key_deadlines .. '/', begins, key_queue)
  end
else
  call('ZADD', key_deadlines, expires, key_record)
end
