//! Reads: from memory if possible, else from disk on a blocking thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver};

use super::channel::Channel;
use super::queue::Op;
use super::store::Store;
use super::trouble::Trouble;
use super::{Shared, answered, unavailable};
use crate::broker::{Kept, Page, Range, Share};
use crate::error::{Error, Result};
use crate::event::{ChannelName, HistoryPolicy, Position};
use crate::maybe_ready::MaybeReady;

/// A page stops growing at this many bytes, which bounds how long a permit for the disk is held.
const PAGE_BYTES: usize = 1024 * 1024;

/// A part of a channel's history.
pub(super) fn page(
    shared: &Arc<Shared>,
    share: Share,
    name: &ChannelName,
    range: Range,
) -> MaybeReady<Option<Page>> {
    let policy = shared.policy(name);
    if policy.size == 0 {
        return MaybeReady::ok(None);
    }
    let shared = Arc::clone(shared);
    if let Some(channel) = shared.table.get(name) {
        return match channel.page(range, &policy, shared.clock.now()) {
            Some(page) => MaybeReady::ok(Some(page)),
            None => MaybeReady::later(from_disk(shared, share, channel, range, policy)),
        };
    }
    match shared.ask(share, |answer| Op::Open(name.clone(), answer)) {
        Ok(later) => MaybeReady::later(async move {
            let channel = answered(later).await?;
            match channel.page(range, &policy, shared.clock.now()) {
                Some(page) => Ok(Some(page)),
                None => from_disk(shared, share, channel, range, policy).await,
            }
        }),
        Err(error) => MaybeReady::Ready(Err(error)),
    }
}

async fn from_disk(
    shared: Arc<Shared>,
    share: Share,
    channel: Arc<Channel>,
    range: Range,
    policy: HistoryPolicy,
) -> Result<Option<Page>> {
    let page = at_the_disk(&shared, share, move |shared, store| {
        read(shared, store, &channel, range, &policy)
    });
    page.await.map(Some)
}

/// Runs blocking disk work on a blocking thread.
async fn at_the_disk<T: Send + 'static>(
    shared: &Arc<Shared>,
    share: Share,
    work: impl FnOnce(&Shared, &Store) -> Result<T, Trouble> + Send + 'static,
) -> Result<T> {
    let turn = shared.readers.take(share).await;
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || {
        // Held until the work is done, even if the caller has given up.
        let _turn = turn;
        let store = shared.store.load_full().ok_or_else(unavailable)?;
        work(&shared, &store).map_err(|trouble| {
            if matches!(trouble, Trouble::Damaged(_)) {
                shared.metrics.store().damaged(1);
            }
            tracing::error!(%trouble, "the store can't be read");
            Error::unavailable("the store can't be read")
        })
    });
    done.await.unwrap_or_else(|_| Err(unavailable()))
}

fn read(
    shared: &Shared,
    store: &Store,
    channel: &Channel,
    range: Range,
    policy: &HistoryPolicy,
) -> Result<Page, Trouble> {
    let now = shared.clock.now();
    let mut history = channel.state().history.clone();
    let last = history.numbers().last;
    let mut look_up = |from: u64, limit: usize| store.marks(channel.id, from..=last, limit);
    history.trim_with(policy, now, &mut look_up)?;
    channel.state().history.adopt_start_of(&history);

    let mut wanted = channel.wanted(&history, range);
    let stretch = store.events(
        channel.id,
        wanted.from..=wanted.to,
        range.reverse,
        range.limit,
        PAGE_BYTES,
    )?;
    // Events that expired meanwhile may have been deleted during this read.
    wanted.oldest = wanted.oldest.max(channel.state().history.numbers().first);
    wanted.more |= stretch.cut;
    let mut damaged = stretch.damaged;
    let mut events = Vec::with_capacity(stretch.records.len());
    for (offset, record) in stretch.records {
        let epoch = channel.epoch;
        match record.event(&channel.name, Position { epoch, offset }) {
            Ok(event) if offset >= wanted.oldest => events.push(Arc::new(event)),
            Ok(_) => {}
            Err(_) => damaged += 1,
        }
    }
    let seen = u64::try_from(events.len()).unwrap_or(u64::MAX);
    let from = wanted.from.max(wanted.oldest);
    let expected = (wanted.to + 1).saturating_sub(from);
    if damaged > 0 || (seen < expected && !stretch.cut) {
        // The reader detects the missing offsets, and reports a gap.
        shared.metrics.store().damaged(damaged.max(1));
        tracing::error!(channel = %channel.name, damaged, "events are damaged or missing");
    }
    Ok(wanted.page(events))
}

/// How long the receiver of a backup may delay a part.
const STALL: Duration = Duration::from_secs(30);

/// Streams a snapshot of everything, in parts.
pub(super) fn backup(shared: &Arc<Shared>) -> Result<Receiver<Result<Bytes>>> {
    let store = shared.store.load_full().ok_or_else(unavailable)?;
    let permit = Arc::clone(&shared.backups)
        .try_acquire_owned()
        .map_err(|_| {
            let error = Error::exhausted("another backup is in progress");
            error.retry_after(Duration::from_secs(10))
        })?;
    let (parts, given) = mpsc::channel(2);
    let shared = Arc::clone(shared);
    let handle = Handle::current();
    let work = move || {
        let _permit = permit;
        let send = |part: Result<Bytes>| {
            // A reference to the database prevents reopening it.
            if !shared.available.load(Ordering::Relaxed) {
                return Err(Trouble::Failed("the store can't write".to_owned()));
            }
            let sent = tokio::time::timeout(STALL, parts.send(part));
            match handle.block_on(sent) {
                Ok(Ok(())) => Ok(()),
                _ => Err(Trouble::Failed("nobody takes it".to_owned())),
            }
        };
        if let Err(trouble) = super::backup::write(&store, |part| send(Ok(part))) {
            tracing::warn!(%trouble, "a backup was not finished");
            let error = Error::unavailable("the backup could not be finished");
            drop(parts.try_send(Err(error)));
        }
    };
    drop(tokio::task::spawn_blocking(work));
    Ok(given)
}

/// Stored channels by name.
pub(super) fn list(
    shared: &Arc<Shared>,
    prefix: &str,
    after: &str,
    limit: usize,
) -> MaybeReady<Vec<Kept>> {
    let shared = Arc::clone(shared);
    let (prefix, after) = (prefix.to_owned(), after.to_owned());
    MaybeReady::later(async move {
        let work = move |shared: &Shared, store: &Store| {
            let manifest = store.manifest()?.unwrap_or_default();
            let readable = |entry: &Result<_, Trouble>| {
                let damaged = matches!(entry, Err(Trouble::Damaged(_)));
                shared.metrics.store().damaged(u64::from(damaged));
                !damaged
            };
            let channels = store.channels(&prefix, &after);
            let channels = channels.filter(readable).take(limit);
            let kept = channels.map(|entry| {
                let (name, record) = entry?;
                let in_memory = shared.table.get(&name);
                let top = in_memory.map(|channel| top(&channel));
                let stored = || Position {
                    epoch: super::channel::epoch(record.epoch, manifest.era),
                    offset: record.now.last,
                };
                Ok(Kept {
                    top: top.unwrap_or_else(stored),
                    channel: name,
                })
            });
            kept.collect::<Result<Vec<Kept>, Trouble>>()
        };
        at_the_disk(&shared, Share::OWN, work).await
    })
}

fn top(channel: &Channel) -> Position {
    Position {
        epoch: channel.epoch,
        offset: channel.state().history.numbers().last,
    }
}
