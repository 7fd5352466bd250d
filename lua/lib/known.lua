-- Tells a repeated operation from another one of the same id.
-- Straight code. Needs `unpack`, `sub`, `operation` (a string), `fingerprint` and `amount` of the call. Defines
-- `known`: REPLAYED (2) or CONFLICT (7). A tombstone that came back from the ledger has no fingerprint, because entries carry
-- none: then the amount decides.
local first_print = sub(operation, 28, 45)
local same = first_print == fingerprint or first_print == string.rep('\0', 18) and unpack('<i7', operation) == amount
local known = same and 2 or 7
