-- Channels of a bucket by name, each with its epoch, its newest offset and that event's time. Channels that have expired
-- leave the index here.
-- KEYS: generation, index. ARGV: run, fresh generation, prefix of the channels' keys, the range in
-- the form of ZRANGE BYLEX, the most channels, 1 to see what replicas have confirmed only.
local life = generation(KEYS[1], ARGV[1], ARGV[2])
local names = redis.call('ZRANGE', KEYS[2], ARGV[4], ARGV[5], 'BYLEX', 'LIMIT', 0, ARGV[6])
local found, gone = {}, {}
for _, name in ipairs(names) do
  local kept = redis.call('HMGET', ARGV[3] .. name, 'epoch', 'last', 'held', 'at')
  if kept[1] then
    found[#found + 1] = name
    found[#found + 1] = kept[1]
    found[#found + 1] = (ARGV[7] == '1' and kept[3]) or kept[2]
    found[#found + 1] = kept[4]
  else
    gone[#gone + 1] = name
  end
end
if #gone > 0 then redis.call('ZREM', KEYS[2], unpack(gone)) end
return { life, names[#names] or '', #names, found }
