//! The broker that keeps channels on disk.
//!
//! Publishers put their events into a bounded queue. One thread, the committer, takes whatever has
//! gathered, gives the events their places, writes them as one batch with one sync, and only then
//! hands them to the sink and answers the publishers. While it waits for the device, the next
//! batch gathers. Readers find the newest events in memory and the rest on disk; they never wait
//! for the committer, but for a channel that is not in memory yet.

mod aside;
mod channel;
mod clock;
mod committer;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(
    not(feature = "fuzzing"),
    allow(unreachable_pub, reason = "tests reach it from within")
)]
pub mod fuzzing;
mod history;
mod journal;
mod known;
mod pass;
mod queue;
mod read;
mod record;
mod revive;
mod stage;
mod store;
mod sweep;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod trouble;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Semaphore, oneshot};

use super::{Bounds, Broker, Kept, Memory, Page, Range, Receipt, Sink};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Draft, Namespaces};
use crate::promise::Promise;
use crate::telemetry::{FanoutSpan, Metrics};
use clock::Clock;
use committer::Committer;
use folder::Folder;
use known::Known;
use queue::{Op, Publish, Queue, Refused};
use store::Store;
use table::Table;

pub use aside::set_aside;
pub use folder::OpenError;
pub use queue::MAX_BYTES as COMMIT_QUEUE_BYTES;

/// So many readers may be at the disk at a time.
const READERS: usize = 16;

/// When a publish is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When its event is on the device.
    Fsync,
    /// When the operating system has its event; it comes to the device within about a second. A
    /// process that does not end in order starts every channel's numbering anew.
    Async,
}

impl Durability {
    fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Async => "async",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Durability::Fsync, Durability::Async]
            .into_iter()
            .find(|durability| durability.name() == name)
    }
}

/// How a [`Disk`] broker is set up.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// The store's directory; made if need be.
    pub path: PathBuf,
    /// When a publish is acknowledged.
    pub durability: Durability,
    /// The newest events that stay in memory, in bytes over all channels; 0 for none.
    pub cache_bytes: usize,
    /// The most channels and idempotency keys.
    pub bounds: Bounds,
}

/// Channels on disk: they outlive the process.
pub struct Disk {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What the committer and those who ask have in common.
struct Shared {
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    clock: Clock,
    table: Table,
    known: Known,
    /// What needs no disk: channels without history, and events straight to an audience.
    unkept: Memory,
    queue: Queue,
    /// `None` while it is opened again.
    store: ArcSwapOption<Store>,
    /// False while the store can't write.
    available: AtomicBool,
    readers: Semaphore,
}

impl Disk {
    /// Opens the store, or makes a new one. It holds the sink weakly, for the sink holds the broker.
    ///
    /// # Errors
    /// Names the directory, and says why it can't be used: another process uses it, a newer
    /// version made it, or it is damaged.
    pub fn open(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        settings: DiskSettings,
    ) -> Result<Self, OpenError> {
        Self::open_at(namespaces, sink, metrics, settings, Clock::default())
    }

    fn open_at(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        settings: DiskSettings,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let path = settings.path.clone();
        let (folder, left) = Folder::open(&path)?;
        let unkept = Memory::new(
            Arc::clone(&namespaces),
            sink.clone(),
            Arc::clone(&metrics),
            settings.bounds,
        );
        let shared = Arc::new(Shared {
            namespaces,
            sink,
            metrics,
            clock,
            table: Table::new(),
            known: Known::default(),
            unkept,
            queue: Queue::default(),
            store: ArcSwapOption::empty(),
            available: AtomicBool::new(true),
            readers: Semaphore::new(READERS),
        });
        let committer = Committer::open(Arc::clone(&shared), folder, left, settings)?;
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| OpenError::new(&path, error))?;
        Ok(Disk {
            shared,
            committer: Mutex::new(Some(thread)),
        })
    }

    /// Waits until everything that was asked before is done.
    #[cfg(test)]
    async fn settle(&self) {
        let (answer, settled) = queue::Answer::new();
        assert!(self.shared.queue.push(Op::Settle(answer)).is_ok());
        settled.await.unwrap().unwrap();
    }
}

/// The refusal of everything while the store can't write.
fn unavailable() -> Error {
    Error::unavailable("the store can't write").retry_after(Duration::from_secs(1))
}

impl Shared {
    /// Asks the committer for something.
    fn ask<T: Send + 'static>(
        &self,
        op: impl FnOnce(queue::Answer<T>) -> Op,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        if !self.available.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let (answer, later) = queue::Answer::new();
        match self.queue.push(op(answer)) {
            Ok(()) => Ok(later),
            Err(Refused::Full) => {
                self.metrics.limit_reached("commit_queue");
                let error = Error::exhausted("too much waits to be written to disk");
                Err(error.retry_after(Duration::from_millis(500)))
            }
            Err(Refused::Stopped) => Err(Error::unavailable("the server stops")),
        }
    }
}

/// What the committer answers; it answers nothing if it ended in the midst of it.
async fn answered<T>(later: oneshot::Receiver<Result<T>>) -> Result<T> {
    later.await.unwrap_or_else(|_| Err(unavailable()))
}

impl Broker for Disk {
    fn publish(&self, draft: Draft, span: Option<FanoutSpan>) -> Promise<Receipt> {
        let Some(channel) = draft.channel.clone() else {
            return Promise::Ready(self.shared.unkept.publish_unkept(draft, span));
        };
        let kept = self.shared.namespaces.load().of(&channel).history.size > 0;
        if kept {
            self.shared.known.keeps(channel.as_str());
        } else if !self.shared.known.must_pass(channel.as_str()) {
            return Promise::Ready(self.shared.unkept.publish_unkept(draft, span));
        }
        let name = channel.clone();
        let publish = |answer| {
            let publish = Box::new(Publish {
                channel,
                draft,
                span,
                answer,
            });
            if kept {
                Op::Publish(publish)
            } else {
                Op::Pass(publish)
            }
        };
        match self.shared.ask(publish) {
            Ok(later) => Promise::later(answered(later)),
            Err(error) => {
                if !kept {
                    self.shared.known.passed(name.as_str());
                }
                Promise::Ready(Err(error))
            }
        }
    }

    fn read(&self, channel: &ChannelName, range: Range) -> Promise<Option<Page>> {
        let bytes = range.bytes;
        read::page(&self.shared, channel, range)
            .then(move |page| Ok(page?.map(|page| page.within(bytes))))
    }

    fn is_known(&self, channel: &ChannelName) -> bool {
        self.shared.namespaces.load().of(channel).history.size == 0
            || self.shared.known.contains(channel.as_str())
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Promise<Vec<Kept>> {
        read::list(&self.shared, prefix, after, limit)
    }

    fn sweep(&self) {
        self.shared.unkept.sweep();
        // Where the queue is full there is more to do than this.
        self.shared.queue.push(Op::Sweep).unwrap_or_default();
    }

    fn is_available(&self) -> bool {
        self.shared.available.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.shared.queue.stop();
        let thread = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer ended in the midst of its work");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
