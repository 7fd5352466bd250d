#!lua flags=allow-oom
-- Lease: take a lease that is free, or renew one's own.
--
-- KEYS  1 lease
-- ARGV  1 holder · 2 time to live ms
-- returns 1 while the holder has it, 0 when another one does
if #KEYS ~= 1 or #ARGV ~= 2 then
  error({err = 'BADARG lease wants 1 key and 2 arguments'})
end
local key_lease, holder, ttl_ms = KEYS[1], ARGV[1], ARGV[2]

local present = redis.call('GET', key_lease)
if present and present ~= holder then
  return 0
end

redis.call('SET', key_lease, holder, 'PX', ttl_ms)
return 1
