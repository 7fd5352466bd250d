-- shown(groups, starts, formats) → window blobs of an answer
-- The groups of lib/gauges as an answer carries them. Needs the aliases `pack`, `spread`.
local function shown(groups, starts, formats)
  local windows = ''
  for i = 1, #groups do
    local blob = starts[i] .. pack(formats[i], spread(groups[i]))
    windows = windows .. pack('<I2c0', #blob, blob)
  end
  return windows
end
