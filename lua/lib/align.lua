-- align(blob, gauges) → blob
-- A group's stored counters (`<I3 I4 i7 i7` each, or false) put in the call's order: first one
-- for each gauge (`<I3 I4 I4 i7`), all zero when it is new, then those of limits that the call does
-- not name. Called when codes or order differ, that is once after a change of limits.
local function align(blob, gauges)
  local stored, rest = {}, {}
  for at = 1, blob and #blob or 0, 21 do
    local code = sub(blob, at, at + 2)
    rest[#rest + 1] = code
    stored[code] = sub(blob, at, at + 20)
  end
  local aligned = {}
  for at = 1, #gauges, 18 do
    local code = sub(gauges, at, at + 2)
    aligned[#aligned + 1] = stored[code] or code .. string.rep('\0', 18)
    stored[code] = nil
  end
  for i = 1, #rest do
    aligned[#aligned + 1] = stored[rest[i]]
  end
  return table.concat(aligned)
end
