-- Takes a ledger entry apart.
-- Straight code. Needs `unpack` and `payload`. Defines its numbers, names, record (or '') and the key of that
-- (or ''); `entry_deltas`, where its `entry_count` window deltas (`<I2c0 I3 I4 i7` each) begin.
local entry_kind, entry_at, by_balance, by_used, by_requests, by_tokens, account, entry_id, entry_record, entry_count,
  entry_deltas = unpack('<BI6i7i7i7i7Bc0Bc0I2c0B', payload)
local entry_key = entry_record ~= '' and unpack('<Bc0', entry_record, 77) or ''
