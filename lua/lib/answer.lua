-- answer(status, now, head, key, record, operation, windows) → packed answer
-- What a script says: `<B I6 Bc0 Bc0 I2c0 Bc0`, then the window blobs (`I2c0` each, put together by the
-- caller). False or '' where there is nothing. One string, because every value of a table costs Redis more than all
-- of this packing. Needs the alias `pack`.
local function answer(status, now, head, key, record, operation, windows)
  head, key, record, operation = head or '', key or '', record or '', operation or ''
  return pack('<BI6Bc0Bc0I2c0Bc0c0', status, now, #head, head, #key, key, #record, record, #operation, operation, windows or '')
end
