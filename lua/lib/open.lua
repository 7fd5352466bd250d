-- Opens the shard: time and generation.
-- Straight code. Needs `call`, `unpack`, `answer`, `generation` (the call's) and `meta` (the meta string or
-- false). Defines `now` (ms, not behind the shard's last entry). Returns GENERATION (5) from the script when the shard is
-- missing, fenced or of another generation.
-- include lib/clock
local now = time
if not meta then
  return answer(5, now)
end
local state_byte, shard_generation, last_now = unpack('<BI4I6', meta)
if last_now > now then
  now = last_now
end
-- 79 is the letter O, an open shard.
if state_byte ~= 79 or shard_generation ~= generation then
  return answer(5, now)
end
