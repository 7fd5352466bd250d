#!lua flags=allow-oom
-- Set meta: replace the shard's meta, if it is what the caller saw.
--
-- KEYS  1 meta
-- ARGV  1 the meta seen, empty when there was none · 2 the new meta, `<c1 I4 I6 I7 c40`
-- returns 1 when it was replaced, 0 when it was not
if #KEYS ~= 1 or #ARGV ~= 2 or #ARGV[2] ~= 58 then
  error({err = 'BADARG set_meta wants 1 key and 2 arguments, the second of 58 bytes'})
end
local key_meta, seen, meta = KEYS[1], ARGV[1], ARGV[2]

if (redis.call('GET', key_meta) or '') ~= seen then
  return 0
end

redis.call('SET', key_meta, meta)
return 1
