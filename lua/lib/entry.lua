-- Takes a ledger entry apart.
-- Straight code. Needs `unpack` and `payload`. Defines its numbers, names, record (or '') and the key of that
-- (or ''); `entry_deltas`, where its `entry_count` groups of window deltas begin: per group `<I2c0 B` field and count, the codes and starts, the changes.
local entry_kind, entry_at, by_balance, by_used, by_requests, by_tokens, account, entry_id, entry_record, entry_count,
  entry_deltas = unpack('<BI6i7i7i7i7Bc0Bc0I2c0B', payload)
local entry_key = entry_record ~= '' and unpack('<Bc0', entry_record, 77) or ''
