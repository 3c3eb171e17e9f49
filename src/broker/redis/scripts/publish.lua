-- Appends an event to its channel and announces it.
-- KEYS: generation, channel, stream, index, and the idempotency key where there is one.
-- ARGV: as read below.
local run, fresh, epoch_if_new, record, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local size, ttl, bytes, weight = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local keep, skew, hold, key_ttl = ARGV[10], tonumber(ARGV[11]), ARGV[12] == '1', ARGV[13]
local only_repeat, name = ARGV[14] == '1', ARGV[15]
local topics = { ARGV[16], ARGV[17], ARGV[18] }

local life = generation(KEYS[1], run, fresh)
if KEYS[5] then
  local first = redis.call('GET', KEYS[5])
  if first then return { life, 'repeat', first } end
  if only_repeat then return { life, 'full' } end
end
local kept = redis.call('HMGET', KEYS[2], 'epoch', 'last', 'total', 'at', 'held')
local epoch, last, total, at = kept[1], tonumber(kept[2] or 0), tonumber(kept[3] or 0), tonumber(kept[4] or 0)
if not epoch then
  epoch, last, total = epoch_if_new, 0, 0
  redis.call('UNLINK', KEYS[3])
  redis.call('ZADD', KEYS[4], 0, name)
end
local now = math.max(at, clock(skew))
local offset = text(last + 1)
redis.call('HSET', KEYS[2], 'epoch', epoch, 'last', offset, 'total', text(total + weight), 'at', text(now))
if hold then
  -- Readers see the channel up to what the replicas have confirmed.
  if not kept[5] then redis.call('HSET', KEYS[2], 'held', text(last)) end
elseif kept[5] then
  redis.call('HDEL', KEYS[2], 'held')
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], offset .. '-0', 't', text(now), 'b', text(total), 'e', record)
if last % 16 == 15 then retain(KEYS[3], last + 1, total + weight, now, size, ttl, bytes) end
redis.call('PEXPIRE', KEYS[3], ARGV[7])
redis.call('PEXPIRE', KEYS[2], keep)
if KEYS[5] then
  redis.call('SET', KEYS[5], epoch .. ' ' .. offset .. ' ' .. id, 'PX', key_ttl)
end
if not hold then
  announce(topics, '1 ' .. life .. ' ' .. epoch .. ' ' .. offset .. ' ' .. name .. '\n' .. record)
end
return { life, 'new', epoch .. ' ' .. offset .. ' ' .. id }
