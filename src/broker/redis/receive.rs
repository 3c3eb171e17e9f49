//! The receiver: from Redis' messages to this node's subscribers.
//!
//! Messages may be lost, repeated and out of order between connections. The receiver knows where
//! each channel stands and delivers the next offset only: what was delivered is dropped, and a hole
//! is filled from the stream before anything newer is delivered. The loss of a last event shows
//! when positions are compared (`verify.rs`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

use super::interest::{Followed, Interest};
use super::message::{self, Count, Message};
use super::read::{self, Entry};
use super::{Shared, verify};
use crate::broker::Range;
use crate::broker::record::{EventRecord, unseal};
use crate::error::Result;
use crate::event::{ChannelName, Epoch, Event, Position};

/// Events of a hole read at once.
pub(super) const PAGE: usize = 128;
/// The pause while the shards have too much to do, and before a failed comparison is repeated.
const FULL_PAUSE: Duration = Duration::from_millis(1);
const RETRY: Duration = Duration::from_millis(500);
/// Nodes whose numbers are remembered in one channel without history.
const NODES: usize = 64;

/// Where this node stands in the channels that it follows.
pub(super) struct Receiver {
    positions: Mutex<HashMap<ChannelName, Stand>>,
    /// For channels without history, the last number of each node.
    numbers: Mutex<HashMap<ChannelName, Vec<(u64, u64)>>>,
    pub(super) most: usize,
    due: Notify,
    /// Messages may have been lost with a connection.
    pub(super) after_outage: AtomicBool,
    /// Messages that were handled.
    pub(super) handled: AtomicU64,
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    pub(super) epoch: Epoch,
    /// The epoch before it. Its messages are late.
    pub(super) former: Option<Epoch>,
    /// The newest delivered offset.
    pub(super) top: u64,
    /// The id of that event, if this node has delivered it.
    pub(super) last: Option<Uuid>,
}

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Deliver,
    Drop,
    /// Events after this offset are missing.
    Hole(u64),
}

/// How an event without an offset follows the one before it.
#[derive(Debug, PartialEq, Eq)]
enum Counted {
    Next,
    /// Messages before it were lost.
    AfterLoss,
    Repeat,
}

impl Receiver {
    pub(super) fn new(most: usize) -> Self {
        Receiver {
            positions: Mutex::default(),
            numbers: Mutex::default(),
            most,
            due: Notify::new(),
            after_outage: AtomicBool::new(false),
            handled: AtomicU64::new(0),
        }
    }

    pub(super) fn positions(&self) -> MutexGuard<'_, HashMap<ChannelName, Stand>> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<(u64, u64)>>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subscriber begins at this position. Everything after it has to be delivered.
    pub(super) fn begin(&self, channel: &ChannelName, top: Position) {
        let mut positions = self.positions();
        if positions.len() < self.most && !positions.contains_key(channel) {
            let stand = Stand {
                epoch: top.epoch,
                former: None,
                top: top.offset,
                last: None,
            };
            positions.insert(channel.clone(), stand);
        }
    }

    /// Compares all positions soon.
    pub(super) fn verify(&self, after_outage: bool) {
        self.after_outage.fetch_or(after_outage, Ordering::AcqRel);
        self.due.notify_one();
    }

    /// Nobody follows these any more.
    pub(super) fn left(&self, gone: &[Followed], interest: &Interest) {
        let rest = interest.patterns();
        let is_followed = |channel: &ChannelName| {
            interest.has(channel) || rest.iter().any(|pattern| pattern.includes(channel))
        };
        let mut positions = self.positions();
        let mut numbers = self.numbers();
        let mut is_one_by_one = true;
        for followed in gone {
            match followed {
                Followed::Channel(channel) if is_followed(channel) => {}
                Followed::Channel(channel) => {
                    positions.remove(channel);
                    numbers.remove(channel);
                }
                Followed::Namespace(_) | Followed::All | Followed::Direct => is_one_by_one = false,
            }
        }
        if !is_one_by_one {
            positions.retain(|channel, _| is_followed(channel));
            numbers.retain(|channel, _| is_followed(channel));
        }
        if positions.capacity() > 64 && positions.len() < positions.capacity() / 4 {
            positions.shrink_to_fit();
        }
    }

    /// Judges an event, and advances the position if it is the next one.
    fn judge(&self, channel: &ChannelName, position: Position, id: Option<Uuid>) -> Verdict {
        let mut positions = self.positions();
        let next = Stand {
            epoch: position.epoch,
            former: None,
            top: position.offset,
            last: id,
        };
        let Some(stand) = positions.get_mut(channel) else {
            // The first event that this node sees of a channel that a pattern has.
            if positions.len() < self.most {
                positions.insert(channel.clone(), next);
            }
            return Verdict::Deliver;
        };
        if stand.former == Some(position.epoch) {
            return Verdict::Drop;
        }
        if stand.epoch != position.epoch {
            let former = Some(stand.epoch);
            *stand = Stand { former, ..next };
            return Verdict::Deliver;
        }
        if position.offset <= stand.top {
            return Verdict::Drop;
        }
        if position.offset > stand.top + 1 {
            return Verdict::Hole(stand.top);
        }
        (stand.top, stand.last) = (position.offset, id);
        Verdict::Deliver
    }

    /// Advances the position over events that history has no more. True if there are some.
    pub(super) fn skip_to(&self, channel: &ChannelName, position: Position) -> bool {
        let mut positions = self.positions();
        let stand = positions.get_mut(channel);
        let Some(stand) = stand.filter(|stand| stand.epoch == position.epoch) else {
            return false;
        };
        let skips = stand.top < position.offset;
        stand.top = stand.top.max(position.offset);
        skips
    }

    /// Judges the number of an event without an offset.
    fn count(&self, channel: &ChannelName, count: Count) -> Counted {
        let mut numbers = self.numbers();
        if numbers.len() >= self.most && !numbers.contains_key(channel) {
            return Counted::Next;
        }
        let nodes = numbers.entry(channel.clone()).or_default();
        let Some((_, last)) = nodes.iter_mut().find(|(node, _)| *node == count.node) else {
            if nodes.len() >= NODES {
                nodes.remove(0);
            }
            nodes.push((count.node, count.number));
            return Counted::Next;
        };
        if count.number <= *last {
            return Counted::Repeat;
        }
        let was_lost = count.before > *last;
        *last = count.number;
        if was_lost {
            Counted::AfterLoss
        } else {
            Counted::Next
        }
    }

    /// The number of channels whose position is known.
    pub(super) fn channels(&self) -> usize {
        self.positions().len()
    }
}

/// Delivers what arrives. Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            taken = shared.inbox.take() => {
                if taken.overflowed {
                    shared.receiver.verify(false);
                }
                for message in taken.messages {
                    handle(&shared, &message).await;
                }
            }
            () = shared.receiver.due.notified() => {
                if let Err(error) = verify::positions(&shared).await {
                    tracing::debug!(%error, "positions can't be compared with Redis");
                    sleep(RETRY).await;
                    shared.receiver.verify(false);
                }
            }
        }
    }
}

pub(super) async fn handle(shared: &Shared, message: &Bytes) {
    match message::parse(message) {
        Some(Message::Kept {
            channel,
            epoch,
            offset,
            record,
        }) => {
            let position = Position { epoch, offset };
            receive(shared, &channel, position, &record).await;
        }
        Some(Message::Plain {
            channel,
            count,
            record,
        }) => {
            let counted = shared.receiver.count(&channel, count);
            if counted == Counted::AfterLoss {
                lagged(shared, &channel);
            }
            if counted != Counted::Repeat {
                deliver_plain(shared, Some(&channel), &record).await;
            }
        }
        Some(Message::Direct { record }) => deliver_plain(shared, None, &record).await,
        None => {
            shared.metrics.store().damaged(1);
            tracing::error!("a message from Redis can't be read");
        }
    }
    shared.receiver.handled.fetch_add(1, Ordering::Release);
}

/// Delivers an event with an offset, and what is missing before it.
async fn receive(shared: &Shared, channel: &ChannelName, position: Position, record: &Bytes) {
    let event = match read::event(channel, position, record) {
        Ok(event) => event,
        Err(error) => {
            read::damaged(shared, channel, position, error);
            shared.receiver.skip_to(channel, position);
            return;
        }
    };
    match shared.receiver.judge(channel, position, Some(event.id)) {
        Verdict::Drop => {}
        Verdict::Deliver => deliver(shared, event).await,
        Verdict::Hole(after) => {
            shared.metrics.cluster().hole();
            let until = position.offset.saturating_sub(1);
            if fill(shared, channel, position.epoch, after, until)
                .await
                .is_err()
            {
                // The comparison finds what is missing, this event included.
                shared.receiver.verify(false);
                return;
            }
            // What history has no more is a gap, of which the hub tells.
            let before = Position {
                offset: until,
                ..position
            };
            shared.receiver.skip_to(channel, before);
            if shared.receiver.judge(channel, position, Some(event.id)) == Verdict::Deliver {
                deliver(shared, event).await;
            }
        }
    }
}

/// Delivers the events of a hole from the stream.
pub(super) async fn fill(
    shared: &Shared,
    channel: &ChannelName,
    epoch: Epoch,
    mut after: u64,
    until: u64,
) -> Result<()> {
    while after < until {
        let range = Range {
            after,
            until,
            ..Range::all(PAGE)
        };
        let part = read::part(shared, channel, range).await?;
        if part.top.epoch != epoch {
            return Ok(());
        }
        let Some(last) = part.entries.last().map(|entry| entry.offset) else {
            return Ok(());
        };
        for entry in part.entries {
            deliver_entry(shared, channel, epoch, entry, true).await;
        }
        if !part.more {
            return Ok(());
        }
        after = last;
    }
    Ok(())
}

/// Delivers an event of the stream unless it was delivered. With `skips`, also over a gap.
pub(super) async fn deliver_entry(
    shared: &Shared,
    channel: &ChannelName,
    epoch: Epoch,
    entry: Entry,
    skips: bool,
) {
    let position = Position {
        epoch,
        offset: entry.offset,
    };
    let event = match read::event(channel, position, &entry.record) {
        Ok(event) => event,
        Err(error) => {
            read::damaged(shared, channel, position, error);
            shared.receiver.skip_to(channel, position);
            return;
        }
    };
    if skips {
        let offset = entry.offset.saturating_sub(1);
        let before = Position { epoch, offset };
        shared.receiver.skip_to(channel, before);
    }
    if shared.receiver.judge(channel, position, Some(event.id)) == Verdict::Deliver {
        deliver(shared, event).await;
    }
}

async fn deliver_plain(shared: &Shared, channel: Option<&ChannelName>, record: &Bytes) {
    let key = channel.map_or("", |channel| channel.as_str());
    let record: std::result::Result<EventRecord, _> = unseal(key.as_bytes(), record);
    match record.and_then(|record| record.draft(channel)) {
        Ok(draft) => deliver(shared, Event::new(draft, None)).await,
        Err(error) => {
            shared.metrics.store().damaged(1);
            tracing::error!(%error, "a message from Redis can't be read");
        }
    }
}

async fn deliver(shared: &Shared, event: Event) {
    let Some(sink) = shared.sink() else { return };
    while sink.is_full() {
        sleep(FULL_PAUSE).await;
    }
    shared.metrics.cluster().received(1);
    sink.deliver(Arc::new(event));
}

/// Lets the hub compare the positions of a channel's subscribers.
pub(super) fn lagged(shared: &Shared, channel: &ChannelName) {
    if let Some(sink) = shared.sink() {
        sink.lagged(Some(channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::new("a:1").unwrap()
    }

    fn at(epoch: u64, offset: u64) -> Position {
        Position {
            epoch: Epoch::from_bits(epoch),
            offset,
        }
    }

    #[test]
    fn only_the_next_offset_is_delivered() {
        let receiver = Receiver::new(10);
        receiver.begin(&channel(), at(1, 4));
        let judge = |position| receiver.judge(&channel(), position, None);
        assert_eq!(judge(at(1, 4)), Verdict::Drop);
        assert_eq!(judge(at(1, 5)), Verdict::Deliver);
        assert_eq!(judge(at(1, 5)), Verdict::Drop);
        assert_eq!(judge(at(1, 8)), Verdict::Hole(5));
        receiver.skip_to(&channel(), at(1, 7));
        assert_eq!(judge(at(1, 8)), Verdict::Deliver);
        assert_eq!(judge(at(2, 3)), Verdict::Deliver, "a new epoch");
        assert_eq!(judge(at(1, 9)), Verdict::Drop, "late, of the former one");
        assert_eq!(judge(at(2, 4)), Verdict::Deliver);
    }

    #[test]
    fn numbers_show_repeats_and_losses() {
        let receiver = Receiver::new(10);
        let count = |before, number| {
            let node = 7;
            let count = Count {
                node,
                before,
                number,
            };
            receiver.count(&channel(), count)
        };
        assert_eq!(count(0, 3), Counted::Next);
        assert_eq!(count(3, 9), Counted::Next);
        assert_eq!(count(3, 9), Counted::Repeat, "by a second subscription");
        assert_eq!(count(12, 14), Counted::AfterLoss);
    }
}
