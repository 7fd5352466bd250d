-- Takes the record of a reservation apart.
-- Straight code. Needs `unpack`, `sub` and `record` (a string). Defines its numbers; `tail` (key,
-- price tag and window references as they are stored) and `refs_at`, where the references begin.
local state, created, expires, hold, record_flags, record_print, record_tokens, prompt_cost, charged, refunded,
  overdraft, parts, record_key, record_tag, refs_at = unpack('<c1I6I6i7Bc18i7i7i7i7i7I2Bc0Bc0', record)
local tail = sub(record, 77)
