-- Reads all that a new spending is decided on: head, key and groups.
-- Straight code. Needs `call`, `unpack`, `key_account`, `key_field`, what lib/groups defines, `call_version`,
-- `valid_from`, `valid_until`, `answer` and what lib/gauges needs. Defines what that and lib/head do, `stored` and the
-- key's numbers. Returns STALE (3) from the script when the call's policy is older than the
-- account's, WINDOW (6) when now is outside the call's windows.
local stored = call('HMGET', key_account, 'h', key_field, spread(group_fields))
local head, key = stored[1], stored[2]
-- include lib/head
if call_version < version then
  return answer(3, now, head, key)
end
if now < valid_from or now >= valid_until then
  return answer(6, now, head, key)
end
-- include lib/gauges
local key_used, key_held, key_requests = 0, 0, 0
if key then
  key_used, key_held, key_requests = unpack('<i7i7i7', key)
end
