-- Shared by all scripts. Every script names a bucket's generation first among its keys.

-- The generation of a bucket's data: a new one for each process that serves it. A promoted replica,
-- a restarted server and a server whose data was replaced or erased begin a new one, in which every
-- position of the one before is invalid: offsets of lost events may be given again.
local function generation(key, run, fresh)
  local kept = redis.call('HMGET', key, 'run', 'id')
  if kept[1] == run and kept[2] then return kept[2] end
  redis.call('HSET', key, 'run', run, 'id', fresh)
  return fresh
end

-- Whole numbers as text. Lua would write large ones with an exponent.
local function text(number) return string.format('%.0f', number) end

-- Milliseconds since 1970. The skew is 0 outside of tests.
local function clock(skew)
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000) + skew
end

-- Publishes to those of a channel's topics that have subscribers: the channel's own, its
-- namespace's and the one of all channels. All are in the bucket's slot.
local function announce(topics, message)
  local counts = redis.call('PUBSUB', 'SHARDNUMSUB', unpack(topics))
  for at = 1, #topics do
    if counts[at * 2] > 0 then redis.call('SPUBLISH', topics[at], message) end
  end
end

-- The first kept entry of a stream from an offset on: its offset, its time, and the bytes that the
-- channel had received before it.
local function entry_from(stream, offset)
  local found = redis.call('XRANGE', stream, text(offset), '+', 'COUNT', 1)[1]
  if not found then return nil end
  local values = found[2]
  return tonumber(string.match(found[1], '^%d+')), tonumber(values[2]), tonumber(values[4])
end

-- The offset of the oldest event that retention keeps, `last + 1` if there is none. Deletes the
-- entries before it. Times never go back and bytes only grow, so halving finds it.
local function retain(stream, last, total, now, size, ttl, bytes)
  local bad = math.max(0, last - size)
  local offset, at, before = entry_from(stream, bad + 1)
  local function is_kept() return now - at < ttl and total - before <= bytes end
  if not offset or offset > last then return last + 1 end
  if is_kept() then return offset end
  local good = last + 1
  bad = offset
  while good - bad > 1 do
    local middle = math.floor((good + bad) / 2)
    offset, at, before = entry_from(stream, middle)
    if not offset or is_kept() then good = middle else bad = middle end
  end
  redis.call('XTRIM', stream, 'MINID', text(good))
  return good
end
