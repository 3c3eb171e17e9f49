//! The channels that Redis keeps, by name.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::value::text;
use super::{Shared, fresh, message};
use crate::broker::Kept;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Position};
use crate::maybe_ready::MaybeReady;

/// Channels read at once from one bucket.
const PAGE: usize = 1000;
/// Channels of the index looked at, each second, in one bucket.
const TIDIED: &str = "50";
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// A channel in a bucket's index.
pub(super) struct Listed {
    pub(super) kept: Kept,
    /// When its newest event was stored, in milliseconds of Redis' clock.
    pub(super) at: u64,
}

/// Up to `limit` channels by name.
pub(super) fn list(
    shared: &Arc<Shared>,
    prefix: &str,
    after: &str,
    limit: usize,
) -> MaybeReady<Vec<Kept>> {
    let (shared, prefix, after) = (Arc::clone(shared), prefix.to_owned(), after.to_owned());
    MaybeReady::later(async move {
        // Each bucket may hold all of the first ones.
        let mut reading = JoinSet::new();
        for bucket in 0..=u8::MAX {
            let (shared, prefix, after) = (Arc::clone(&shared), prefix.clone(), after.clone());
            reading.spawn(async move { in_bucket(&shared, bucket, &prefix, &after, limit).await });
        }
        let mut found: Vec<Kept> = Vec::new();
        while let Some(part) = reading.join_next().await {
            let part = part.map_err(|_| Error::unavailable("the server stops"))??;
            found.extend(part.into_iter().map(|listed| listed.kept));
            if found.len() > limit.saturating_mul(4) {
                found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
                found.truncate(limit);
            }
        }
        found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        found.truncate(limit);
        Ok(found)
    })
}

/// Up to `limit` channels of a bucket by name.
pub(super) async fn in_bucket(
    shared: &Shared,
    bucket: u8,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Listed>> {
    let from = if after >= prefix && !after.is_empty() {
        format!("({after}")
    } else if prefix.is_empty() {
        "-".to_owned()
    } else {
        format!("[{prefix}")
    };
    // No name holds `\x7f`, and every name that starts with the prefix comes before this.
    let to = if prefix.is_empty() {
        "+".to_owned()
    } else {
        format!("({prefix}\x7f")
    };
    let (mut found, mut from) = (Vec::new(), from);
    while found.len() < limit {
        let count = (limit - found.len()).min(PAGE);
        let keys = [shared.keys.generation(bucket), shared.keys.index(bucket)];
        let args = [
            fresh(),
            shared.keys.channels(bucket),
            from.clone(),
            to.clone(),
            count.to_string(),
            shared.hold().to_owned(),
        ];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let script = &shared.servers.scripts.list;
        let answer = shared.read_script(bucket, script, &keys, &args).await?;
        let (part, last, seen) =
            parse(answer).ok_or_else(|| Error::internal("Redis answered something else"))?;
        found.extend(part);
        if seen < count {
            break;
        }
        from = format!("({last}");
    }
    Ok(found)
}

/// The channels in an answer, the last name in the index, and how many names were looked at.
fn parse(answer: Value) -> Option<(Vec<Listed>, String, usize)> {
    let parts = answer.into_sequence().ok()?;
    let [generation, last, seen, found] = <[Value; 4]>::try_from(parts).ok()?;
    let generation = text(generation)?;
    let mut words = found.into_sequence().ok()?.into_iter();
    let mut listed = Vec::with_capacity(words.len() / 4);
    while let (Some(name), Some(own), Some(offset), Some(at)) =
        (words.next(), words.next(), words.next(), words.next())
    {
        let top = Position {
            epoch: message::epoch(&generation, &text(own)?),
            offset: text(offset)?.parse().ok()?,
        };
        let channel = ChannelName::new(text(name)?).ok()?;
        listed.push(Listed {
            kept: Kept { channel, top },
            at: text(at)?.parse().ok()?,
        });
    }
    Some((listed, text(last)?, text(seen)?.parse().ok()?))
}

/// Removes expired channels from the index, one bucket each second. Reads of the index do so too.
pub(super) async fn tidy(shared: Arc<Shared>) {
    let mut ticks = interval(TIDY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let bucket = fastrand::u8(..);
        let Some(map) = shared.servers.map() else {
            continue;
        };
        let Some(server) = map.of(bucket) else {
            continue;
        };
        let keys = [shared.keys.index(bucket)];
        let channels = shared.keys.channels(bucket);
        let args = [channels.as_bytes(), TIDIED.as_bytes()];
        let command = shared.servers.scripts.tidy.command(&keys, &args);
        // The next round tries again.
        server.command(&command).await.map(drop).unwrap_or_default();
    }
}
