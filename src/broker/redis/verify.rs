//! Comparing where channels stand with Redis: after each reconnect, and periodically.
//!
//! It finds the loss of a channel's last event, which no later offset shows, and new epochs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redis::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::interest::Followed;
use super::keys::bucket;
use super::read::{self, Entry};
use super::receive::{PAGE, Stand, deliver_entry, fill, handle, lagged};
use super::value::text;
use super::{Shared, fresh, list, message, millis};
use crate::broker::Range;
use crate::error::Result;
use crate::event::{ChannelName, Position};

/// Channels compared at once.
const COMPARED: usize = 128;
/// How far the clocks of two Redis servers may be apart, in milliseconds.
const CLOCKS_APART: u64 = 5_000;

/// Compares positions periodically. Never returns.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(shared.sweep);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.receiver.verify(false);
    }
}

/// Delivers what has arrived, so that a comparison finds only what is missing.
async fn drain(shared: &Shared) {
    let taken = shared.inbox.take_now();
    if taken.overflowed {
        shared.receiver.verify(false);
    }
    for message in taken.messages {
        handle(shared, &message).await;
    }
}

/// Compares all positions with Redis, fills what is missing, and renews the time for which Redis
/// keeps the channels.
pub(super) async fn positions(shared: &Shared) -> Result<()> {
    let after_outage = shared.receiver.after_outage.swap(false, Ordering::AcqRel);
    let compared = compare_all(shared, after_outage).await;
    if compared.is_err() {
        shared
            .receiver
            .after_outage
            .fetch_or(after_outage, Ordering::AcqRel);
    }
    compared
}

async fn compare_all(shared: &Shared, after_outage: bool) -> Result<()> {
    let mut channels: Vec<ChannelName> = {
        let positions = shared.receiver.positions();
        positions.keys().cloned().collect()
    };
    if let Some(sink) = shared.sink() {
        channels.extend(shared.known.followed(|channel| sink.is_followed(channel)));
    }
    channels.sort_unstable_by(|a, b| (bucket(a), a).cmp(&(bucket(b), b)));
    channels.dedup();
    for group in channels.chunk_by(|a, b| bucket(a) == bucket(b)) {
        for part in group.chunks(COMPARED) {
            compare(shared, part).await?;
        }
    }
    if after_outage && let Some(since) = shared.servers.take_outage() {
        let patterns = shared.interest.patterns();
        if !patterns.is_empty() {
            unseen(shared, &patterns, since.saturating_sub(CLOCKS_APART)).await?;
        }
    }
    Ok(())
}

/// Compares the positions of some channels of one bucket.
async fn compare(shared: &Shared, channels: &[ChannelName]) -> Result<()> {
    let Some(bucket) = channels.first().map(bucket) else {
        return Ok(());
    };
    // Only a channel that is followed by its name is kept for that.
    let sink = shared.sink();
    let keep = |channel: &ChannelName| {
        let is_followed = sink.as_ref().is_some_and(|sink| sink.is_followed(channel));
        let keep = shared.keep(channel).max(shared.keep_new(channel));
        is_followed.then(|| millis(keep))
    };
    let mut keys = vec![shared.keys.generation(bucket)];
    let mut args = vec![fresh(), shared.hold().to_owned()];
    for channel in channels {
        keys.push(shared.keys.channel(channel));
        args.push(keep(channel).unwrap_or(0).to_string());
    }
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let script = &shared.servers.scripts.look;
    let answer = shared.read_script(bucket, script, &keys, &args).await?;
    let Some(tops) = parse_tops(answer) else {
        return Ok(());
    };
    drain(shared).await;
    for (channel, top) in channels.iter().zip(tops) {
        let Some(top) = top else { continue };
        if let Some(keep) = keep(channel) {
            shared.known.touch(channel, shared.clock.now() + keep);
        }
        let stand = shared.receiver.positions().get(channel).copied();
        match stand {
            Some(stand) if stand.epoch == top.epoch && stand.top < top.offset => {
                shared.metrics.cluster().late();
                fill(shared, channel, top.epoch, stand.top, top.offset).await?;
                if shared.receiver.skip_to(channel, top) {
                    // History has no more what is missing.
                    lagged(shared, channel);
                }
            }
            Some(stand) if stand.epoch != top.epoch && stand.former != Some(top.epoch) => {
                renumbered(shared, channel, stand, top).await?;
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// The positions in an answer of the script `look`.
fn parse_tops(answer: Value) -> Option<Vec<Option<Position>>> {
    let mut words = answer.into_sequence().ok()?.into_iter();
    let generation = text(words.next()?)?;
    let mut tops = Vec::new();
    while let (Some(own), Some(offset)) = (words.next(), words.next()) {
        let (own, offset) = (text(own)?, text(offset)?);
        tops.push(offset.parse().ok().map(|offset| Position {
            epoch: message::epoch(&generation, &own),
            offset,
        }));
    }
    Some(tops)
}

/// A channel has a new epoch. Delivers the events after the last one that this node has delivered,
/// if Redis still has that one. The hub tells subscribers of the epoch.
async fn renumbered(
    shared: &Shared,
    channel: &ChannelName,
    stand: Stand,
    top: Position,
) -> Result<()> {
    let range = Range {
        reverse: true,
        ..Range::all(PAGE)
    };
    let part = read::part(shared, channel, range).await?;
    if part.top.epoch != top.epoch {
        return Ok(());
    }
    let is_last = |entry: &Entry| {
        let position = Position {
            offset: entry.offset,
            ..top
        };
        read::event(channel, position, &entry.record)
            .is_ok_and(|event| Some(event.id) == stand.last)
    };
    let known = part.entries.iter().find(|entry| is_last(entry));
    let after = known.map_or(part.top.offset, |entry| entry.offset);
    {
        let mut positions = shared.receiver.positions();
        if let Some(known) = positions.get_mut(channel) {
            *known = Stand {
                epoch: top.epoch,
                former: Some(stand.epoch),
                top: after,
                last: stand.last,
            };
        }
    }
    for entry in part.entries.into_iter().rev() {
        if entry.offset > after {
            deliver_entry(shared, channel, top.epoch, entry, true).await;
        }
    }
    lagged(shared, channel);
    Ok(())
}

/// Delivers the events of an outage in channels that only patterns follow, and of which this node
/// has not seen an event before.
async fn unseen(shared: &Shared, patterns: &[Followed], since: u64) -> Result<()> {
    for pattern in patterns {
        let prefix = match pattern {
            Followed::Namespace(name) => name.as_ref(),
            Followed::All | Followed::Channel(_) | Followed::Direct => "",
        };
        for bucket in 0..=u8::MAX {
            let listed = list::in_bucket(shared, bucket, prefix, "", shared.receiver.most).await?;
            for listed in listed {
                let channel = listed.kept.channel;
                if listed.at < since
                    || !pattern.includes(&channel)
                    || shared.receiver.positions().contains_key(&channel)
                {
                    continue;
                }
                deliver_since(shared, &channel, since).await?;
            }
        }
    }
    Ok(())
}

/// Delivers the events of a channel that were stored from this time on.
async fn deliver_since(shared: &Shared, channel: &ChannelName, since: u64) -> Result<()> {
    let mut after = 0;
    loop {
        let range = Range {
            after,
            ..Range::all(PAGE)
        };
        let part = read::part(shared, channel, range).await?;
        let last = part.entries.last().map(|entry| entry.offset);
        for entry in part.entries {
            if entry.at >= since {
                deliver_entry(shared, channel, part.top.epoch, entry, true).await;
            }
        }
        match last {
            Some(last) if part.more => after = last,
            Some(_) | None => return Ok(()),
        }
    }
}
