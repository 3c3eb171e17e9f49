-- Removes channels that have expired from a bucket's index, of a few that are taken at random.
-- KEYS: index. ARGV: prefix of the channels' keys, how many.
local names = redis.call('ZRANDMEMBER', KEYS[1], ARGV[2])
local gone = {}
for _, name in ipairs(names) do
  if redis.call('EXISTS', ARGV[1] .. name) == 0 then gone[#gone + 1] = name end
end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return #gone
