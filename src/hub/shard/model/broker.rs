//! The broker of the model, and the codec of its clients.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::FRAME;
use crate::broker::{Broker, Kept, Memory, Page, Range, Receipt, Sink};
use crate::error::CloseCode;
use crate::event::{ChannelName, ChannelPattern, Draft, Event, Position, Timestamp};
use crate::hub::dialect_ids::DialectId;
use crate::hub::protocol::{Notice, Protocol};
use crate::hub::shard::ConnCtx;
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Transport;

/// A broker in memory whose reads may be answered late, and which can lose everything.
pub(super) struct SlowBroker {
    pub(super) memory: ArcSwap<Memory>,
    pub(super) make: Box<dyn Fn() -> Memory + Send + Sync>,
    pub(super) late: AtomicBool,
    pub(super) stale: AtomicBool,
    pub(super) waiting: Mutex<VecDeque<oneshot::Sender<()>>>,
    /// The patterns to which shards are subscribed, once for each shard.
    pub(super) interest: Mutex<Vec<ChannelPattern>>,
}

impl Broker for SlowBroker {
    fn set_interest(&self, pattern: &ChannelPattern, wanted: bool) {
        let mut interest = self.interest.lock().unwrap();
        if wanted {
            interest.push(pattern.clone());
            return;
        }
        let at = interest.iter().position(|followed| followed == pattern);
        interest.swap_remove(at.expect("a shard removes only interest that it has added"));
    }

    fn publish(&self, draft: Draft) -> MaybeReady<Receipt> {
        self.memory.load().publish(draft)
    }

    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        if !self.late.load(Ordering::Relaxed) {
            return self.memory.load().read(channel, range);
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().push_back(answer);
        let (memory, channel) = (self.memory.load_full(), channel.clone());
        let early = self
            .stale
            .load(Ordering::Relaxed)
            .then(|| memory.read(&channel, range));
        MaybeReady::later(async move {
            answered.await.ok();
            match early {
                Some(page) => page.await,
                None => memory.read(&channel, range).await,
            }
        })
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        self.memory.load().list(prefix, after, limit)
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.memory.load().exists(channel)
    }

    fn sweep(&self) {
        self.memory.load().sweep();
    }
}

/// The network between the broker and the hub.
pub(super) struct LossySink {
    pub(super) hub: Weak<dyn Sink>,
    /// Whether events are lost at present.
    pub(super) loses: AtomicBool,
}

impl Sink for LossySink {
    fn deliver(&self, event: Arc<Event>) -> u64 {
        if self.loses.load(Ordering::Relaxed) {
            return 0;
        }
        self.hub.upgrade().unwrap().deliver(event)
    }

    fn lagged(&self, channel: Option<&ChannelName>) {
        self.hub.upgrade().unwrap().lagged(channel);
    }

    fn is_followed(&self, channel: &ChannelName) -> bool {
        self.hub.upgrade().unwrap().is_followed(channel)
    }
}

/// A dialect of lines: the kind, the channel and the numbers, and the dialect's own number, padded
/// to the frame's length.
pub(super) struct Lines(pub(super) u32);

/// The numbers of the clients' dialects: frames of the first have their own slot in each event,
/// those of the others share one.
pub(super) const DIALECTS: [u32; 3] = [0, 40, 72];

pub(super) fn line(text: String) -> Bytes {
    let mut text = text;
    text.push('\n');
    text.into()
}

impl Protocol for Lines {
    fn transport(&self) -> Transport {
        Transport::Sse
    }

    fn dialect(&self) -> DialectId {
        DialectId::new(self.0)
    }

    fn event(&self, event: &Event) -> Bytes {
        let channel = event.channel.as_ref().unwrap();
        let position = event.position.unwrap();
        let Position { epoch, offset } = position;
        let text = format!("event {channel} {offset} {epoch} {}", self.0);
        line(format!("{text:<width$}", width = FRAME - 1))
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        match notice {
            Notice::Gap {
                channel,
                from,
                to,
                reason,
            } => Some(line(format!("gap {channel} {from} {to} {reason}"))),
            Notice::Renumbered { channel, position } => Some(line(format!(
                "subscribed {channel} {} {} false 0",
                position.offset, position.epoch
            ))),
            Notice::Presence { .. }
            | Notice::TokenExpiring { .. }
            | Notice::Reconnect { .. }
            | Notice::Failure(_)
            | Notice::Unsubscribed { .. } => None,
        }
    }

    fn heartbeat(&self, _: Timestamp) -> Bytes {
        Bytes::new()
    }

    fn close(&self, _: CloseCode, _: &str) -> Bytes {
        Bytes::new()
    }

    fn received(&self, _: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}
