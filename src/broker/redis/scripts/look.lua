-- Where channels stand: for each its epoch and newest offset, empty where there is none. Renews the
-- time that they are kept.
-- KEYS: generation, channels. ARGV: run, fresh generation, 1 to see what replicas have confirmed
-- only, then for each channel how long it is kept at least, 0 to leave that as it is.
local life = generation(KEYS[1], ARGV[1], ARGV[2])
local hold = ARGV[3] == '1'
local found = { life }
for at = 2, #KEYS do
  local kept = redis.call('HMGET', KEYS[at], 'epoch', 'last', 'held')
  if kept[1] then
    local left = redis.call('PTTL', KEYS[at])
    if left >= 0 and left * 2 < tonumber(ARGV[at + 2]) then redis.call('PEXPIRE', KEYS[at], ARGV[at + 2]) end
  end
  found[#found + 1] = kept[1] or ''
  found[#found + 1] = (hold and kept[3]) or kept[2] or ''
end
return found
