-- Appends the entry `payload` to the shard's stream and moves `meta` behind it.
-- Straight code, the first write of a script: XADD is the only command that can fail, and nothing
-- is written when it does. Needs `call`, `pack`, `unpack`, `payload`, `generation`, `meta`, `now`,
-- `key_meta`, `key_stream`.
local seq, digest = unpack('<I7c40', meta, 12)
digest = redis.sha1hex(digest .. payload)
call('XADD', key_stream, string.format('%d-%d', generation, seq + 1), 'p', payload, 'd', digest)
meta = pack('<c1I4I6I7c40', 'O', generation, now, seq + 1, digest)
call('SET', key_meta, meta)
