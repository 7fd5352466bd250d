-- Reads the account's head.
-- Straight code. Needs `unpack`, `now`, `answer` and `head` (the field `h` or false). Defines `version`,
-- `balance`, `held`, `used`, `requests`; moves `now` up to the account's last. Returns ABSENT (4)
-- from the script when the account is not loaded.
if not head then
  return answer(4, now)
end
local version, balance, held, used, requests, head_now = unpack('<I4i7i7i7i7I6', head)
if head_now > now then
  now = head_now
end
