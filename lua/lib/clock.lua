-- Asks for the time, once for all that a script does.
-- Straight code. Needs `call`. Defines `time`, in ms.
local clock = call('TIME')
local micros = clock[2] + 0
local time = clock[1] * 1000 + (micros - micros % 1000) / 1000
