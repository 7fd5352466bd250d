-- The plain reserve through webdis. Environment: RESERVE_SHA
local sha, n = os.getenv("RESERVE_SHA"), 0
request = function()
  n = n + 1
  return wrk.format("GET", "/EVALSHA/" .. sha .. "/3/%7B0%7Da:" .. string.format("%012d", math.random(0, 9999)) .. "/%7B0%7Dr:" .. n .. "-" .. math.random(1, 1e9) .. "/%7B0%7Dh/5/60000/1700000000000/t1")
end
