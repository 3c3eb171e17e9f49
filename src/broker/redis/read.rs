//! Reading history.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::keys::bucket;
use super::publish::too_many_channels;
use super::value::{bytes, text};
use super::{MAX_NUMBER, Shared, fresh, message, millis, number};
use crate::broker::record::{EventRecord, Unreadable, unseal};
use crate::broker::{Page, Range, Share};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Event, Position};
use crate::maybe_ready::MaybeReady;

/// The most bytes of one answer. A page may be shorter than its limit.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// An event as the stream holds it.
pub(super) struct Entry {
    pub(super) offset: u64,
    /// When it was stored, in milliseconds of Redis' clock.
    pub(super) at: u64,
    pub(super) record: Bytes,
}

/// A part of a channel's history.
pub(super) struct Part {
    pub(super) top: Position,
    pub(super) oldest: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) more: bool,
}

/// Reads a page for a caller.
pub(super) fn page(
    shared: &Arc<Shared>,
    share: Share,
    channel: &ChannelName,
    range: Range,
) -> MaybeReady<Option<Page>> {
    if shared.policy(channel).size == 0 {
        return MaybeReady::ok(None);
    }
    let (shared, channel) = (Arc::clone(shared), channel.clone());
    MaybeReady::later(async move {
        shared.interest.in_force(&channel, &shared).await?;
        let _permit = shared.reads.take(share).await;
        let part = part(&shared, &channel, range).await?;
        shared.receiver.begin(&channel, part.top);
        let mut events = Vec::with_capacity(part.entries.len());
        for entry in part.entries {
            let position = Position {
                offset: entry.offset,
                ..part.top
            };
            match event(&channel, position, &entry.record) {
                Ok(event) => events.push(Arc::new(event)),
                Err(error) => damaged(&shared, &channel, position, error),
            }
        }
        let page = Page {
            top: part.top,
            oldest: part.oldest,
            events,
            more: part.more,
        };
        Ok(Some(page.within(range.bytes)))
    })
}

/// Reports a record that can't be read. Its subscribers see a gap.
pub(super) fn damaged(
    shared: &Shared,
    channel: &ChannelName,
    position: Position,
    error: Unreadable,
) {
    shared.metrics.store().damaged(1);
    tracing::error!(%channel, %position, %error, "an event in Redis can't be read");
}

/// The event in a record.
pub(super) fn event(
    channel: &ChannelName,
    position: Position,
    record: &Bytes,
) -> Result<Event, Unreadable> {
    let record: EventRecord = unseal(channel.as_str().as_bytes(), record)?;
    record.event(channel, position)
}

/// Reads a part of a channel's history. Begins its epoch if it has none.
pub(super) async fn part(shared: &Shared, channel: &ChannelName, range: Range) -> Result<Part> {
    let policy = shared.policy(channel);
    let keep_new = millis(shared.keep_new(channel));
    let until = shared.clock.now() + keep_new;
    if !shared.known.touch(channel, until) {
        return Err(too_many_channels());
    }
    let bucket = bucket(channel);
    let keys = [
        shared.keys.generation(bucket),
        shared.keys.channel(channel),
        shared.keys.stream(channel),
        shared.keys.index(bucket),
    ];
    let number_of = |value: u64| value.min(MAX_NUMBER).to_string();
    let args = [
        fresh(),
        fresh(),
        channel.to_string(),
        number(policy.size),
        millis(policy.ttl).to_string(),
        number(policy.bytes),
        keep_new.to_string(),
        shared.clock.skew().to_string(),
        shared.hold().to_owned(),
        number_of(range.after),
        number_of(range.until),
        number(range.limit),
        (if range.reverse { "1" } else { "0" }).to_owned(),
        number(range.bytes.min(MOST_BYTES)),
    ];
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let script = &shared.servers.scripts.read;
    let answer = shared.read_script(bucket, script, &keys, &args).await?;
    let part = parse(answer).ok_or_else(|| Error::internal("Redis answered something else"))?;
    if part.top.offset > 0 {
        // A channel that has had events is kept for as long as after a publish, or for as long as
        // is left of that. The sweep looks again.
        let keep = millis(shared.keep(channel));
        shared.known.touch(channel, shared.clock.now() + keep);
    }
    Ok(part)
}

fn parse(answer: Value) -> Option<Part> {
    let parts = answer.into_sequence().ok()?;
    let [generation, own, last, oldest, more, found] = <[Value; 6]>::try_from(parts).ok()?;
    let (generation, own) = (text(generation)?, text(own)?);
    let mut found = found.into_sequence().ok()?.into_iter();
    let mut entries = Vec::with_capacity(found.len() / 3);
    while let (Some(offset), Some(at), Some(record)) = (found.next(), found.next(), found.next()) {
        entries.push(Entry {
            offset: text(offset)?.parse().ok()?,
            at: text(at)?.parse().ok()?,
            record: bytes(record)?.into(),
        });
    }
    Some(Part {
        top: Position {
            epoch: message::epoch(&generation, &own),
            offset: text(last)?.parse().ok()?,
        },
        oldest: text(oldest)?.parse().ok()?,
        entries,
        more: more == Value::Int(1),
    })
}
