//! The audit log, in JSON lines: who connected, was refused or was disconnected, and by whom.
//!
//! Recording never blocks: records go into a bounded queue, from which one thread writes. Records
//! that do not fit are counted, in a metric and in the log itself.

mod file;
mod line;
mod recent;
mod writer;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::error::Error;
use crate::event::ConnectionId;
use crate::telemetry::{Metrics, Transport};
use file::LogFile;
use writer::Writer;

pub use recent::{Recent, RecentRefusals, Refusal};

/// The most queued records.
const QUEUE: usize = 8192;
/// The most bytes of queued records, because a record may have many roles. Part of the server's
/// memory bound.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A connection was opened.
    Connect,
    /// A connection was closed.
    Disconnect,
    /// A client was refused for a reason other than its token.
    Refused,
    /// A token was refused.
    AuthenticationFailed,
    /// A connection presented a token after it was opened.
    Authenticated,
    /// A subscription was granted.
    Subscribe,
    /// A subscription was refused or revoked.
    SubscribeRefused,
    /// An event was accepted, if such records are enabled.
    Publish,
    /// An event was refused.
    PublishRefused,
    /// A service purged history.
    Purge,
    /// A service made or ended subscriptions of others.
    Grant,
    /// A token, or all tokens of a user, were revoked.
    Revoke,
    /// An operator resent the dead letters of webhooks.
    ResendWebhooks,
    /// The configuration was reloaded.
    Reload,
    /// The server started.
    Start,
    /// The server stopped.
    Stop,
}

impl What {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Connect => "connect",
            What::Disconnect => "disconnect",
            What::Refused => "refused",
            What::AuthenticationFailed => "authentication_failed",
            What::Authenticated => "authenticated",
            What::Subscribe => "subscribe",
            What::SubscribeRefused => "subscribe_refused",
            What::Publish => "publish",
            What::PublishRefused => "publish_refused",
            What::Purge => "purge",
            What::Grant => "grant",
            What::Revoke => "revoke",
            What::ResendWebhooks => "resend_webhooks",
            What::Reload => "reload",
            What::Start => "start",
            What::Stop => "stop",
        }
    }
}

/// One record. `None` fields are omitted from the line. No field may contain a token or a payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// The connection.
    pub connection: Option<ConnectionId>,
    /// The user of the token.
    pub user: Option<&'a str>,
    /// The token's roles.
    pub roles: &'a [Arc<str>],
    /// The client's address.
    pub address: Option<SocketAddr>,
    /// The transport.
    pub transport: Option<Transport>,
    /// The channel, as requested.
    pub channel: Option<&'a str>,
    /// The event type.
    pub event_type: Option<&'a str>,
    /// The event's id.
    pub id: Option<uuid::Uuid>,
    /// The close code.
    pub close: Option<u16>,
    /// The error: its code and its message.
    pub error: Option<&'a Error>,
    /// The reason.
    pub reason: Option<&'a str>,
    /// Who caused it: `client`, `server`, or an operator's user name.
    pub by: Option<&'a str>,
}

/// A command to the writer.
enum Order {
    /// Write a line, which includes its terminator.
    Line(Vec<u8>),
    /// Check whether the file was moved.
    Reopen,
    /// Reply once everything before this was written.
    Flush(oneshot::Sender<()>),
}

/// The audit log, or a no-op if it is disabled.
pub struct Audit {
    queue: Option<SyncSender<Order>>,
    /// The bytes of queued lines.
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Notified each time the writer has removed something from the queue.
    taken: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// The newest refusals and closes, whether or not a file is written.
    recent: RecentRefusals,
}

impl Audit {
    /// A disabled log.
    #[must_use]
    pub fn off(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Audit {
            recent: RecentRefusals::default(),
            queue: None,
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Appends to this file. If it does not exist, it is created, readable for its owner only.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn open(path: &Path, metrics: &Arc<Metrics>) -> io::Result<Arc<Self>> {
        let file = LogFile::open(path)?;
        let (queue, orders) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let taken = Arc::new(Notify::new());
        let writer = Writer::new(
            file,
            Arc::clone(&waiting),
            Arc::clone(&lost),
            Arc::clone(&taken),
            Arc::clone(metrics),
        );
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&orders))?;
        Ok(Arc::new(Audit {
            recent: RecentRefusals::default(),
            queue: Some(queue),
            waiting,
            lost,
            taken,
            metrics: Arc::clone(metrics),
        }))
    }

    /// True if records are written.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// The newest refusals and closes.
    #[must_use]
    pub fn recent(&self) -> &RecentRefusals {
        &self.recent
    }

    /// Queues a record. Never blocks: if the queue is full, the record is dropped and counted.
    pub fn note(&self, what: What, record: &Record<'_>) {
        self.recent.note(what, record);
        let Some(queue) = &self.queue else { return };
        let line = line::of(what, record);
        let bytes = line.len();
        // Count before queueing, so that the writer never subtracts bytes that were not added.
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= QUEUE_BYTES;
        if !fits || queue.try_send(Order::Line(line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.audit_dropped(1);
        }
    }

    /// Reopens the file, which may have been moved.
    pub fn reopen(&self) {
        // If the queue is full, the writer is active and checks the file about once per second
        // anyway.
        self.order(Order::Reopen);
    }

    /// Waits until all queued records are written, or the timeout elapses.
    pub async fn flush(&self, limit: Duration) {
        if self.queue.is_none() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let written = async {
            let mut order = Order::Flush(done);
            loop {
                // Register for the notification before trying the queue, so that none is missed.
                let mut taken = std::pin::pin!(self.taken.notified());
                taken.as_mut().enable();
                match self.order(order) {
                    None => return is_done.await,
                    Some(again) => order = again,
                }
                taken.await;
            }
        };
        if !matches!(tokio::time::timeout(limit, written).await, Ok(Ok(()))) {
            tracing::warn!("the end of the audit log may be missing");
        }
    }

    /// Sends a command, or returns it if the queue is full.
    fn order(&self, order: Order) -> Option<Order> {
        match self.queue.as_ref()?.try_send(order) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(order)) => Some(order),
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("on", &self.queue.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn full_queue_drops_without_blocking() {
        let (queue, orders) = sync_channel(1);
        let audit = Audit {
            queue: Some(queue),
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Metrics::new("test"),
            recent: RecentRefusals::default(),
        };
        for _ in 0..3 {
            audit.note(What::Connect, &Record::default());
        }
        assert_eq!(audit.lost.load(Ordering::Relaxed), 2);
        // There is no writer, so the timeout elapses.
        audit.flush(Duration::from_secs(2)).await;
        assert!(matches!(orders.try_recv(), Ok(Order::Line(_))));
        assert!(orders.try_recv().is_err());
    }

    #[test]
    fn queue_is_bounded_by_bytes() {
        let (queue, orders) = sync_channel(QUEUE);
        let audit = Audit {
            queue: Some(queue),
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Metrics::new("test"),
            recent: RecentRefusals::default(),
        };
        let roles: Vec<Arc<str>> = (0..100).map(|_| Arc::from("r".repeat(250))).collect();
        let record = Record {
            roles: &roles,
            ..Record::default()
        };
        for _ in 0..1000 {
            audit.note(What::Connect, &record);
        }
        let lines = orders.try_iter().filter_map(|order| match order {
            Order::Line(line) => Some(line.len()),
            Order::Reopen | Order::Flush(_) => None,
        });
        let waiting: usize = lines.sum();
        assert!(
            (QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&waiting),
            "{waiting}"
        );
        assert_eq!(audit.waiting.load(Ordering::Relaxed), waiting);
        assert!(audit.lost.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn flush_waits_for_space_in_full_queue() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let file = LogFile::open(&path).unwrap();
        let (queue, orders) = sync_channel(1);
        let (lost, taken, metrics) = (Arc::default(), Arc::default(), Metrics::new("test"));
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(
            file,
            Arc::clone(&waiting),
            Arc::clone(&lost),
            Arc::clone(&taken),
            Arc::clone(&metrics),
        );
        let audit = Audit {
            queue: Some(queue),
            waiting,
            lost,
            taken,
            metrics,
            recent: RecentRefusals::default(),
        };
        audit.note(What::Start, &Record::default());
        let mut flushed = std::pin::pin!(audit.flush(Duration::from_mins(1)));
        // The queue is full, so it waits.
        let waits = std::future::poll_fn(|cx| Poll::Ready(flushed.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        std::thread::spawn(move || writer.run(&orders));
        flushed.await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
