-- Appends the entry `payload` to the shard's stream and moves the meta behind it.
-- Straight code, the first write of a script: XADD is the only command that can fail, and nothing
-- is written when it does. Needs `call`, `pack`, `payload`, `generation`, `seq`, `digest`, `now`,
-- `key_meta`, `key_stream`.
digest = redis.sha1hex(digest .. payload)
call('XADD', key_stream, string.format('%d-%d', generation, seq + 1), 'p', payload, 'd', digest)
call('SET', key_meta, pack('<c1I4I7c40I6', 'O', generation, seq + 1, digest, now))
