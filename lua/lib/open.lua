-- Opens the shard: time and generation.
-- Straight code. Needs `call`, `unpack`, `answer`, `generation` (the call's) and `meta` (the meta string or
-- false). Defines `now` (ms, not behind the shard's last entry). Returns GENERATION (5) from the script when the shard is
-- missing, fenced or of another generation.
local clock = call('TIME')
local micros = clock[2] + 0
local now = clock[1] * 1000 + (micros - micros % 1000) / 1000
if not meta then
  return answer(5, now)
end
local open, shard_generation, last_now = unpack('<c1I4I6', meta)
if last_now > now then
  now = last_now
end
if open ~= 'O' or shard_generation ~= generation then
  return answer(5, now)
end
