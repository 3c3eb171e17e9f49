-- Announces an event of a channel without history. Ends the channel's epoch if it had one: from now
-- on a position would miss this event.
-- KEYS: generation, channel, stream, index, and the idempotency key where there is one.
-- ARGV: as read below.
local run, fresh, record, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key_ttl, only_repeat, name, source = ARGV[5], ARGV[6] == '1', ARGV[7], ARGV[8]
local topics = { ARGV[9], ARGV[10], ARGV[11] }

local life = ''
if KEYS[5] then
  life = generation(KEYS[1], run, fresh)
  local first = redis.call('GET', KEYS[5])
  if first then return { life, 'repeat', first } end
  if only_repeat then return { life, 'full' } end
  redis.call('SET', KEYS[5], '- 0 ' .. id, 'PX', key_ttl)
end
if redis.call('UNLINK', KEYS[2], KEYS[3]) > 0 then redis.call('ZREM', KEYS[4], name) end
announce(topics, '2 ' .. source .. ' ' .. name .. '\n' .. record)
return { life, 'new', '- 0 ' .. id }
