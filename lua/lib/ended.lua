-- Takes a hold that has ended out of the deadlines, where it is when its deadline is near, or was once far away. In a queue its
-- name may stay: lib/queued tells it from others.
-- Straight code. Needs `call`, `now`, `created`, `expires`, `key_deadlines`, `key_record`.
if expires - expires % 15000 - 15000 <= now or expires - created > 3600000 then
  call('ZREM', key_deadlines, key_record)
end
