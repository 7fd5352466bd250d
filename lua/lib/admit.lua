-- Reads all that a new spending is decided on: shard, record, head, key and groups.
-- Straight code. Needs `call`, `unpack`, `spread`, `key_meta`, `key_account`, `key_record`, `fields` (head, key,
-- groups), `call_version`, `valid_from`, `valid_until` and what lib/open and lib/gauges need. Defines what
-- those and lib/head do, `record`, `stored` and the key's numbers. Returns STALE (3) from the script when
-- the call's policy is older than the account's, WINDOW (6) when now is outside the call's windows.
local got = call('MGET', key_meta, key_record)
local meta, record = got[1], got[2]
-- include lib/open
local stored = call('HMGET', key_account, spread(fields))
local head, key = stored[1], stored[2]
-- include lib/head
if call_version < version then
  return {3, now, head, key or '', record or '', ''}
end
if now < valid_from or now >= valid_until then
  return {6, now, head, key or '', record or '', ''}
end
-- include lib/gauges
local key_used, key_held, key_requests = 0, 0, 0
if key then
  key_used, key_held, key_requests = unpack('<i7i7i7', key)
end
