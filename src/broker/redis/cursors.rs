//! Cursors of durable subscriptions in Redis, the same for every node.
//!
//! All cursors are in one bucket, so that a script sees their number: a hash with the positions, a
//! sorted set with the order of user, name and channel, and one with the times of use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redis::{Cmd, Value};

use super::RedisBus;
use super::value;
use crate::broker::cursors::move_in_background;
use crate::broker::{Cursor, CursorBounds, CursorKey, CursorQuery, CursorStore};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Epoch, Position, Timestamp};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;

/// Cursors that one script reads.
const PAGE: usize = 500;
/// Every node removes expired cursors after so many sweeps, which come once per second.
const SWEEPS: u32 = 30;

/// Moves or creates a cursor, and returns how many there are. A position is the epoch and the offset,
/// each as 16 hexadecimal digits, so that positions of one epoch compare as texts.
/// KEYS: positions, order, times. ARGV: member, the user's range, position, the most of the user, the
/// most.
const SET: &str = "local had = redis.call('HGET', KEYS[1], ARGV[1]) \
    local count = redis.call('HLEN', KEYS[1]) \
    if not had then \
      if redis.call('ZLEXCOUNT', KEYS[2], ARGV[2], ARGV[3]) >= tonumber(ARGV[5]) then return -1 end \
      if count >= tonumber(ARGV[6]) then return -2 end \
      redis.call('ZADD', KEYS[2], 0, ARGV[1]) count = count + 1 end \
    if not had or string.sub(had, 1, 16) ~= string.sub(ARGV[4], 1, 16) or had < ARGV[4] then \
      redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) end \
    local now = redis.call('TIME') \
    redis.call('ZADD', KEYS[3], now[1], ARGV[1]) return count";
/// Returns a cursor's position and its time. KEYS as above. ARGV: member.
const GET: &str = "return {redis.call('HGET', KEYS[1], ARGV[1]), \
    redis.call('ZSCORE', KEYS[3], ARGV[1])}";
/// Returns some cursors, each as member, position and time. KEYS as above. ARGV: first, last, count.
const LIST: &str = "local found = {} \
    for _, m in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do \
      found[#found + 1] = m \
      found[#found + 1] = redis.call('HGET', KEYS[1], m) or '' \
      found[#found + 1] = redis.call('ZSCORE', KEYS[3], m) or '0' end \
    return found";
/// Removes cursors, and returns how many there were. KEYS as above. ARGV: members.
const REMOVE: &str = "local gone = 0 for _, m in ipairs(ARGV) do \
      gone = gone + redis.call('HDEL', KEYS[1], m) \
      redis.call('ZREM', KEYS[2], m) redis.call('ZREM', KEYS[3], m) end return gone";
/// Removes some cursors that were not used for too long, and returns how many are left. KEYS as above.
/// ARGV: seconds.
const PRUNE: &str = "local now = redis.call('TIME') \
    for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now[1] - ARGV[1], 'LIMIT', 0, 1000)) do \
      redis.call('HDEL', KEYS[1], m) redis.call('ZREM', KEYS[2], m) redis.call('ZREM', KEYS[3], m) end \
    return redis.call('HLEN', KEYS[1])";

/// The cursors of a cluster.
pub struct RedisCursors {
    bus: Arc<RedisBus>,
    bounds: CursorBounds,
    metrics: Arc<Metrics>,
    sweeps: AtomicU32,
    runtime: tokio::runtime::Handle,
}

impl RedisCursors {
    /// The cursors of the cluster that this bus belongs to. The bounds hold for all nodes together.
    #[must_use]
    pub fn new(bus: Arc<RedisBus>, bounds: CursorBounds, metrics: Arc<Metrics>) -> Self {
        RedisCursors {
            bus,
            bounds,
            metrics,
            sweeps: AtomicU32::new(0),
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

/// The command that runs a script on the cursors.
fn script(bus: &RedisBus, code: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(code).arg(3).arg(&bus.cursor_keys());
    command
}

/// A cursor's member: its parts contain no control characters.
fn member(key: &CursorKey) -> String {
    format!("{}\0{}\0{}", key.user, key.name, key.channel)
}

fn key_of(member: &[u8]) -> Option<CursorKey> {
    let mut parts = std::str::from_utf8(member).ok()?.split('\0');
    Some(CursorKey {
        user: parts.next()?.into(),
        name: parts.next()?.into(),
        channel: ChannelName::new(parts.next()?).ok()?,
    })
}

fn position(text: &[u8]) -> Option<Position> {
    let (epoch, offset) = std::str::from_utf8(text).ok()?.split_at_checked(16)?;
    Some(Position {
        epoch: Epoch::from_bits(u64::from_str_radix(epoch, 16).ok()?),
        offset: u64::from_str_radix(offset, 16).ok()?,
    })
}

fn cursor(place: Value, used: Value) -> Option<Cursor> {
    let seconds: i64 = value::text(used)?.parse().ok()?;
    Some(Cursor {
        position: position(&value::bytes(place)?)?,
        used_at: Timestamp::from_micros(seconds.saturating_mul(1_000_000)),
    })
}

async fn list(bus: &RedisBus, query: CursorQuery) -> Result<Vec<(CursorKey, Cursor)>> {
    let mut first = match (&query.after, &query.user) {
        (Some(after), _) => format!("({}", member(after)),
        (None, Some(user)) => format!("[{user}\0"),
        (None, None) => "-".to_owned(),
    };
    let last = match &query.user {
        Some(user) => format!("({user}\u{1}"),
        None => "+".to_owned(),
    };
    let mut found = Vec::new();
    loop {
        let mut command = script(bus, LIST);
        let answer = bus.run(command.arg(&first).arg(&last).arg(PAGE)).await?;
        let mut values = answer.into_sequence().unwrap_or_default().into_iter();
        let mut read = 0;
        while let (Some(name), Some(place), Some(used)) =
            (values.next(), values.next(), values.next())
        {
            read += 1;
            let name = value::bytes(name).unwrap_or_default();
            first = format!("({}", String::from_utf8_lossy(&name));
            let (Some(key), Some(cursor)) = (key_of(&name), cursor(place, used)) else {
                continue;
            };
            if query.takes(&key) {
                found.push((key, cursor));
            }
            if found.len() == query.limit {
                return Ok(found);
            }
        }
        if read < PAGE {
            return Ok(found);
        }
    }
}

impl CursorStore for RedisCursors {
    fn get(&self, key: &CursorKey) -> MaybeReady<Option<Cursor>> {
        let (bus, member) = (Arc::clone(&self.bus), member(key));
        MaybeReady::later(async move {
            let mut command = script(&bus, GET);
            let answer = bus.run(command.arg(member)).await?;
            let mut values = answer.into_sequence().unwrap_or_default().into_iter();
            Ok(values
                .next()
                .zip(values.next())
                .and_then(|(place, used)| cursor(place, used)))
        })
    }

    fn set(&self, key: &CursorKey, position: Position) -> MaybeReady<()> {
        let (bus, member, bounds) = (Arc::clone(&self.bus), member(key), self.bounds);
        let metrics = Arc::clone(&self.metrics);
        let user = Arc::clone(&key.user);
        MaybeReady::later(async move {
            let mut command = script(&bus, SET);
            command.arg(member);
            command
                .arg(format!("[{user}\0"))
                .arg(format!("({user}\u{1}"));
            let (epoch, offset) = (position.epoch.to_bits(), position.offset);
            command.arg(format!("{epoch:016x}{offset:016x}"));
            command.arg(bounds.per_user).arg(bounds.total);
            let answer = bus.run(&command).await?;
            if answer == Value::Int(-1) {
                return Err(bounds.user_is_full(&metrics));
            }
            if answer == Value::Int(-2) {
                return Err(bounds.is_full(&metrics));
            }
            metrics.cursors(value::count(&answer).unwrap_or(0));
            Ok(())
        })
    }

    fn set_later(&self, key: &CursorKey, position: Position) {
        move_in_background(&self.runtime, self.set(key, position));
    }

    fn list(&self, query: &CursorQuery) -> MaybeReady<Vec<(CursorKey, Cursor)>> {
        let (bus, query) = (Arc::clone(&self.bus), query.clone());
        MaybeReady::later(async move { list(&bus, query).await })
    }

    fn forget(&self, user: &str, channel: Option<&ChannelName>) -> MaybeReady<u64> {
        let bus = Arc::clone(&self.bus);
        let query = CursorQuery {
            user: Some(user.into()),
            channel: channel.cloned(),
            limit: usize::MAX,
            ..CursorQuery::default()
        };
        MaybeReady::later(async move {
            let found = list(&bus, query).await?;
            let mut gone = 0;
            for part in found.chunks(PAGE) {
                let mut command = script(&bus, REMOVE);
                for (key, _) in part {
                    command.arg(member(key));
                }
                let removed = value::count(&bus.run(&command).await?).unwrap_or(0);
                gone += u64::try_from(removed).unwrap_or(u64::MAX);
            }
            Ok(gone)
        })
    }

    fn sweep(&self) {
        if !self
            .sweeps
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SWEEPS)
        {
            return;
        }
        let (bus, ttl) = (Arc::clone(&self.bus), self.bounds.ttl.as_secs().max(1));
        let metrics = Arc::clone(&self.metrics);
        self.runtime.spawn(async move {
            let mut command = script(&bus, PRUNE);
            // What stays is removed by a later sweep.
            let left: Result<Value, Error> = bus.run(command.arg(ttl)).await;
            if let Ok(left) = left {
                metrics.cursors(value::count(&left).unwrap_or(0));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::contract::cursors::{BOUNDS, cursors_are_kept};
    use crate::broker::redis::tests::TestServer;

    #[tokio::test]
    async fn cursors_are_kept_in_redis() {
        let url = TestServer::shared().url();
        let name = format!("c{:x}", fastrand::u64(..));
        let open = async || {
            let bus = RedisBus::open(&[&url], &name, 0).await.unwrap();
            RedisCursors::new(bus, BOUNDS, Metrics::new("test"))
        };
        cursors_are_kept(&open().await, &open().await).await;
    }
}
