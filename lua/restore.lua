#!lua flags=allow-oom
-- Restore: put records back into a fenced shard, those that are not there.
--
-- KEYS  1 meta · then the records
-- ARGV  1 meta of the fence · 2 tombstone time to live ms · then a record each
-- returns 1, or 0 when the meta was not the fence
if #KEYS ~= #ARGV - 1 or #ARGV < 2 or #ARGV[1] ~= 58 then
  error({err = 'BADARG restore wants a fence of 58 bytes, a time to live, and as many records as keys'})
end
local call, fence, tombstone_ms = redis.call, ARGV[1], ARGV[2]

if call('GET', KEYS[1]) ~= fence then
  return 0
end

-- As many as the caller names.
for i = 2, #KEYS do
  call('SET', KEYS[i], ARGV[i + 1], 'PX', tombstone_ms, 'NX')
end
return 1
