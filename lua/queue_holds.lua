#!lua flags=no-writes
-- Queue holds: live holds of an account among some places of a queue. Places count from its end, -1 is the last: what is
-- appended or taken from the front meanwhile is seen twice rather than never.
--
-- KEYS  1 meta · 2 queue
-- ARGV  1 header `<I4` generation · 2 what the names of the account's records begin with · 3 first place · 4 last place
-- returns the answer (DONE, or IDLE when the queue begins after the first place), then the record key of each hold
if #KEYS ~= 2 or #ARGV ~= 4 then
  error({err = 'BADARG queue_holds wants 2 keys and 4 arguments'})
end
local call, pack, unpack, sub = redis.call, struct.pack, struct.unpack, string.sub
-- include lib/answer
-- include lib/queued
local key_meta, key_queue = KEYS[1], KEYS[2]
local generation, prefix, first, last = unpack('<I4', ARGV[1]), ARGV[2], ARGV[3] + 0, ARGV[4] + 0

local meta = call('GET', key_meta)
-- include lib/open
local names = call('LRANGE', key_queue, first, last)
local reply = {answer(#names > last - first and 1 or 19, now)}
for i = 1, #names do
  if sub(names[i], 1, #prefix) == prefix and queued(call('GET', names[i]), key_queue) then
    reply[#reply + 1] = names[i]
  end
end
return reply
