//! The audit log: who connected, was refused, was disconnected, and by whom, as JSON lines.
//!
//! Whoever notes something never waits: a record goes into a bounded queue, and one thread writes.
//! What does not fit is counted, in a metric and in the log itself.

mod file;
mod line;
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

/// The most records that wait to be written.
const QUEUE: usize = 8192;
/// The same in bytes, as roles may be many: a term of the server's worst case of memory.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A connection came to be.
    Connect,
    /// A connection ended.
    Disconnect,
    /// Somebody was not let in, for another reason than its token.
    Refused,
    /// A token was refused.
    AuthenticationFailed,
    /// A connection showed a token after it had come to be.
    Authenticated,
    /// A channel may not be followed, or not any longer.
    SubscribeRefused,
    /// An event was taken, where that is noted.
    Publish,
    /// An event was not taken.
    PublishRefused,
    /// A token, or a user's tokens, were taken back.
    Revoke,
    /// The configuration was read again.
    Reload,
    /// The server began.
    Start,
    /// The server ended.
    Stop,
}

impl What {
    /// The name as it stands in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Connect => "connect",
            What::Disconnect => "disconnect",
            What::Refused => "refused",
            What::AuthenticationFailed => "authentication_failed",
            What::Authenticated => "authenticated",
            What::SubscribeRefused => "subscribe_refused",
            What::Publish => "publish",
            What::PublishRefused => "publish_refused",
            What::Revoke => "revoke",
            What::Reload => "reload",
            What::Start => "start",
            What::Stop => "stop",
        }
    }
}

/// One thing that happened. What is `None` is left out of the line; nothing here may be a token
/// or a payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// The connection.
    pub connection: Option<ConnectionId>,
    /// Whom it is about: the token's user.
    pub user: Option<&'a str>,
    /// The token's roles.
    pub roles: &'a [Arc<str>],
    /// Where it comes from.
    pub address: Option<SocketAddr>,
    /// How it is, or would be, connected.
    pub transport: Option<Transport>,
    /// The channel, as it was asked for.
    pub channel: Option<&'a str>,
    /// The type of the event.
    pub event_type: Option<&'a str>,
    /// The event's id.
    pub id: Option<uuid::Uuid>,
    /// The close code.
    pub close: Option<u16>,
    /// The failure: its code and its message.
    pub error: Option<&'a Error>,
    /// Why.
    pub reason: Option<&'a str>,
    /// Who did it: `client`, `server`, or an operator's user name.
    pub by: Option<&'a str>,
}

/// What the writer is told.
enum Order {
    /// A line to write, with its end.
    Line(Vec<u8>),
    /// The file may have been moved.
    Reopen,
    /// Everything before this has been written once this is answered.
    Flush(oneshot::Sender<()>),
}

/// The audit log, or nothing where none is kept.
pub struct Audit {
    queue: Option<SyncSender<Order>>,
    /// The bytes of the lines in it.
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Told each time the writer has taken something out of the queue.
    taken: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl Audit {
    /// Keeps no record.
    #[must_use]
    pub fn off(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Audit {
            queue: None,
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Appends to this file, which is made, for its owner's eyes only, if it is not there.
    ///
    /// # Errors
    /// Where the file can't be opened, or the system gives no thread.
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
            queue: Some(queue),
            waiting,
            lost,
            taken,
            metrics: Arc::clone(metrics),
        }))
    }

    /// True if records are kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Notes something. Never waits: where the queue is full, the record is dropped and counted.
    pub fn note(&self, what: What, record: &Record<'_>) {
        let Some(queue) = &self.queue else { return };
        let line = line::of(what, record);
        let bytes = line.len();
        // Counted before it is there, so that the writer never takes out what was not counted.
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= QUEUE_BYTES;
        if !fits || queue.try_send(Order::Line(line)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.audit_dropped(1);
        }
    }

    /// Opens the file anew: it may have been moved.
    pub fn reopen(&self) {
        // A full queue is written soon, and the writer looks about once a second by itself.
        self.order(Order::Reopen);
    }

    /// Waits until what was noted is written, at most so long.
    pub async fn flush(&self, patience: Duration) {
        if self.queue.is_none() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let written = async {
            let mut order = Order::Flush(done);
            loop {
                // Listened for before the queue is tried, so that no word of it is missed.
                let mut taken = std::pin::pin!(self.taken.notified());
                taken.as_mut().enable();
                match self.order(order) {
                    None => return is_done.await,
                    Some(again) => order = again,
                }
                taken.await;
            }
        };
        if !matches!(tokio::time::timeout(patience, written).await, Ok(Ok(()))) {
            tracing::warn!("the end of the audit log may be missing");
        }
    }

    /// Gives an order; gives it back where the queue is full.
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
    async fn a_full_queue_makes_nobody_wait() {
        let (queue, orders) = sync_channel(1);
        let audit = Audit {
            queue: Some(queue),
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Metrics::new("test"),
        };
        for _ in 0..3 {
            audit.note(What::Connect, &Record::default());
        }
        assert_eq!(audit.lost.load(Ordering::Relaxed), 2);
        // Nobody writes: patience has an end.
        audit.flush(Duration::from_secs(2)).await;
        assert!(matches!(orders.try_recv(), Ok(Order::Line(_))));
        assert!(orders.try_recv().is_err());
    }

    #[test]
    fn the_queue_is_bounded_by_bytes_too() {
        let (queue, orders) = sync_channel(QUEUE);
        let audit = Audit {
            queue: Some(queue),
            waiting: Arc::default(),
            lost: Arc::default(),
            taken: Arc::default(),
            metrics: Metrics::new("test"),
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
    async fn a_flush_waits_for_its_place_in_a_full_queue() {
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
