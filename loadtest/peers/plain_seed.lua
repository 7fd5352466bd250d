-- Fills Redis with accounts as the plain scripts expect them. ARGV: how many
for i = 0, ARGV[1] - 1 do
  redis.call('HSET', '{0}a:' .. string.format('%012d', i), 'bal', '9000000000000', 'held', '0', 'st', '1', 't1', '9000000000000',
    'wd', '0', 'ww', '0', 'wm', '0', 'ld', '9000000000000', 'lw', '9000000000000', 'lm', '9000000000000', 'rd', '1', 'rw', '1', 'rm', '1')
end
return ARGV[1]
