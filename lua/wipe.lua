#!lua flags=allow-oom
-- Wipe: remove some keys of a fenced shard.
--
-- KEYS  1 meta · then the keys
-- ARGV  1 meta of the fence
-- returns 1, or 0 when the meta was not the fence
if #ARGV ~= 1 or #KEYS < 1 or #ARGV[1] ~= 58 then
  error({err = 'BADARG wipe wants at least 1 key and a fence of 58 bytes'})
end
local call, fence = redis.call, ARGV[1]

if call('GET', KEYS[1]) ~= fence then
  return 0
end

-- As many as the caller found in one step.
for i = 2, #KEYS do
  call('UNLINK', KEYS[i])
end
return 1
