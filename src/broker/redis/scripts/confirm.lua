-- Shows an event that enough replicas have, and everything before it, to readers and subscribers.
-- KEYS: generation, channel, stream. ARGV: as read below.
local run, epoch, offset, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local topics = { ARGV[5], ARGV[6], ARGV[7] }

local life = redis.call('HMGET', KEYS[1], 'run', 'id')
local kept = redis.call('HMGET', KEYS[2], 'epoch', 'held')
if life[1] ~= run or kept[1] ~= epoch then return 0 end
if tonumber(kept[2] or 0) < tonumber(offset) then redis.call('HSET', KEYS[2], 'held', offset) end
local found = redis.call('XRANGE', KEYS[3], offset, offset)[1]
if found then
  announce(topics, '1 ' .. life[2] .. ' ' .. epoch .. ' ' .. offset .. ' ' .. name .. '\n' .. found[2][6])
end
return 1
