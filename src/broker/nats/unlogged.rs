//! Events that are in no log: of channels without history, and straight to an audience.
//!
//! They are delivered on this node and sent to the others, in the same order. A message that a node
//! does not receive is lost there: such events have no offsets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::batch::{BatchRecord, Kind};
use super::line::Line;
use super::subject;
use crate::broker::keys::KeyShares;
use crate::broker::record::EventRecord;
use crate::broker::{Bounds, Memory, Receipt, Sink};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Draft, Event, Namespaces};
use crate::telemetry::Metrics;

/// The most bytes of events that wait to be sent. Part of the server's memory bound.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Events that are in no log.
pub(super) struct Unlogged {
    /// Checks idempotency keys and keeps the order of each channel.
    local: Memory,
    /// Held for `local`, which holds it weakly.
    forward: Arc<Forward>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    line: Line,
    prefix: String,
    node: u64,
}

/// Delivers on this node and passes on to the others.
struct Forward {
    sink: Weak<dyn Sink>,
    queue: UnboundedSender<Arc<Event>>,
    queued: Arc<AtomicUsize>,
}

impl Sink for Forward {
    fn deliver(&self, event: Arc<Event>) -> u64 {
        let subscribers = self
            .sink
            .upgrade()
            .map_or(0, |sink| sink.deliver(Arc::clone(&event)));
        self.queued.fetch_add(event.weight(), Ordering::AcqRel);
        // The receiver ends with the process only.
        drop(self.queue.send(event));
        subscribers
    }

    fn lagged(&self, channel: Option<&ChannelName>) {
        if let Some(sink) = self.sink.upgrade() {
            sink.lagged(channel);
        }
    }

    fn is_followed(&self, channel: &ChannelName) -> bool {
        self.sink
            .upgrade()
            .is_some_and(|sink| sink.is_followed(channel))
    }
}

impl Unlogged {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one broker, passed once"
    )]
    pub(super) fn new(
        line: &Line,
        prefix: &str,
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        keys: Arc<KeyShares>,
        bounds: Bounds,
        node: u64,
        runtime: &Handle,
    ) -> Self {
        let (queue, events) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let forward = Arc::new(Forward {
            sink: Weak::clone(&sink),
            queue,
            queued: Arc::clone(&queued),
        });
        let sending = Sending {
            line: line.clone(),
            prefix: prefix.to_owned(),
            node,
            queued,
            metrics: Arc::clone(&metrics),
        };
        runtime.spawn(sending.run(events));
        let shared: Arc<dyn Sink> = Arc::<Forward>::clone(&forward);
        let local = Memory::sharing_keys(
            namespaces,
            Arc::downgrade(&shared),
            Arc::clone(&metrics),
            bounds,
            keys,
        );
        Unlogged {
            local,
            forward,
            sink,
            metrics,
            line: line.clone(),
            prefix: prefix.to_owned(),
            node,
        }
    }

    /// Delivers an event on this node, and sends it to the others.
    pub(super) fn publish(&self, draft: Draft) -> Result<Receipt> {
        if !self.line.is_up() {
            let text = "cluster.engine: nats: not connected; the event was not sent";
            return Err(Error::unavailable(text).retry_after(super::RETRY));
        }
        if self.forward.queued.load(Ordering::Acquire) > QUEUE_BYTES {
            self.metrics.limit_reached("cluster_queue");
            let text = "too many events wait for the engine";
            return Err(Error::exhausted(text).retry_after(super::RETRY));
        }
        self.local.publish_unkept(draft)
    }

    /// A message of another node, or this node's own.
    pub(super) fn received(&self, channel: Option<&ChannelName>, message: &async_nats::Message) {
        let subject = channel.map_or_else(
            || subject::direct(&self.prefix),
            |channel| subject::live(&self.prefix, channel),
        );
        let batch = match BatchRecord::unseal(&subject, &message.payload) {
            Ok(batch) if batch.node() == self.node => return,
            Ok(batch) => batch,
            Err(why) => {
                return tracing::error!(%subject, %why, "a message of the engine is unreadable");
            }
        };
        if !matches!(batch.what(), Kind::Plain | Kind::Direct) {
            return;
        }
        let Some(sink) = self.sink.upgrade() else {
            return;
        };
        let events = batch.into_events();
        self.metrics.cluster().received(events.len());
        for record in events {
            match record.draft(channel) {
                Ok(draft) => {
                    sink.deliver(Arc::new(Event::new(draft, None)));
                }
                Err(why) => {
                    tracing::error!(%subject, %why, "an event of the engine is unreadable");
                }
            }
        }
    }

    /// Removes expired keys.
    pub(super) fn sweep(&self) {
        crate::broker::Broker::sweep(&self.local);
    }

    /// True if nothing waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.forward.queued.load(Ordering::Acquire) == 0
    }
}

/// Sends events to the other nodes, one after the other.
struct Sending {
    line: Line,
    prefix: String,
    node: u64,
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Sending {
    async fn run(self, mut events: UnboundedReceiver<Arc<Event>>) {
        while let Some(event) = events.recv().await {
            let (subject, body) = self.message(&event);
            // While the connection is lost, the client keeps the messages that it was given.
            let sent = self.line.client().publish(subject, body).await;
            self.queued.fetch_sub(event.weight(), Ordering::AcqRel);
            match sent {
                Ok(()) => self.metrics.cluster().sent(1),
                Err(why) => tracing::warn!(%why, "an event was not sent to the other nodes"),
            }
        }
    }

    fn message(&self, event: &Event) -> (String, Bytes) {
        let (subject, kind) = match &event.channel {
            Some(channel) => (subject::live(&self.prefix, channel), Kind::Plain),
            None => (subject::direct(&self.prefix), Kind::Direct),
        };
        let record = EventRecord::new(event, 0, 0).for_nodes(event.accepted, None);
        let batch = BatchRecord::unlogged(kind, vec![record], self.node);
        let body = batch.seal(&subject);
        (subject, body)
    }
}
