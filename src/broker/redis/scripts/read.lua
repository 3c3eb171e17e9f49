-- Reads a part of a channel's history. Begins the channel's epoch if it has none.
-- KEYS: generation, channel, stream, index. ARGV: as read below.
local run, fresh, epoch_if_new, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, ttl, bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local keep_new, skew, hold = ARGV[8], tonumber(ARGV[9]), ARGV[10] == '1'
local after, till, limit = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local reverse, most = ARGV[14] == '1', tonumber(ARGV[15])

local life = generation(KEYS[1], run, fresh)
local kept = redis.call('HMGET', KEYS[2], 'epoch', 'last', 'total', 'at', 'held')
local epoch, last, total = kept[1], tonumber(kept[2] or 0), tonumber(kept[3] or 0)
if not epoch then
  epoch, last = epoch_if_new, 0
  redis.call('UNLINK', KEYS[3])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'last', 0, 'total', 0, 'at', 0)
  redis.call('PEXPIRE', KEYS[2], keep_new)
  redis.call('ZADD', KEYS[4], 0, name)
end
local now = math.max(tonumber(kept[4] or 0), clock(skew))
local oldest = last + 1
if last > 0 then oldest = retain(KEYS[3], last, total, now, size, ttl, bytes) end
if hold and kept[5] then
  last = math.min(last, tonumber(kept[5]))
  oldest = math.min(oldest, last + 1)
end
local from, to = math.max(after + 1, oldest), math.min(till, last)
local found, held = {}, 0
while from <= to and limit > 0 and held <= most do
  local count = math.min(64, limit)
  local part
  if reverse then
    part = redis.call('XREVRANGE', KEYS[3], text(to), text(from), 'COUNT', count)
  else
    part = redis.call('XRANGE', KEYS[3], text(from), text(to), 'COUNT', count)
  end
  if #part == 0 then
    from = to + 1
    break
  end
  for _, entry in ipairs(part) do
    local offset = string.match(entry[1], '^%d+')
    found[#found + 1] = offset
    found[#found + 1] = entry[2][2]
    found[#found + 1] = entry[2][6]
    held = held + #entry[2][6]
    limit = limit - 1
    if reverse then to = tonumber(offset) - 1 else from = tonumber(offset) + 1 end
    if held > most then break end
  end
end
return { life, epoch, text(last), text(oldest), from <= to and 1 or 0, found }
