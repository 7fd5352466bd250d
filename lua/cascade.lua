#!lua flags=allow-oom
-- Cascade: holds of a queue whose time is near take their places among the deadlines, those that came first before the others.
-- What has ended, or got another deadline, is left out.
--
-- KEYS  1 meta · 2 deadlines · 3 queue
-- ARGV  1 header `<I4` generation · 2 how many at most
-- returns the answer: DONE when the queue has more, IDLE when it is empty or its time is not near
if #KEYS ~= 3 or #ARGV ~= 2 then
  error({err = 'BADARG cascade wants 3 keys and 2 arguments'})
end
local call, pack, unpack, sub, spread = redis.call, struct.pack, struct.unpack, string.sub, unpack
-- include lib/answer
-- include lib/queued
local key_meta, key_deadlines, key_queue = KEYS[1], KEYS[2], KEYS[3]
local generation, most = unpack('<I4', ARGV[1]), ARGV[2] + 0

local meta = call('GET', key_meta)
-- include lib/open
if string.match(key_queue, '%d+$') * 15000 - 15000 > now then
  return answer(19, now)
end
local names, places = call('LRANGE', key_queue, 0, most), {}
local records = #names > 0 and call('MGET', spread(names)) or {}
for i = 1, #names <= most and #names or most do
  local expires = queued(records[i], key_queue)
  if expires then
    places[#places + 1] = expires
    places[#places + 1] = names[i]
  end
end

if #places > 0 then
  call('ZADD', key_deadlines, spread(places))
end
if #names > most then
  call('LTRIM', key_queue, most, -1)
  return answer(1, now)
end
call('DEL', key_queue)
call('ZREM', key_deadlines .. '/', key_queue)
return answer(19, now)
