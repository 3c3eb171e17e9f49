//! The broker that keeps channels on disk.
//!
//! Publishers append events to a bounded queue. One thread, the committer, takes all queued events,
//! assigns offsets, writes them as one batch with one sync, and only then delivers them to the sink
//! and answers the publishers (group commit). Meanwhile, the next batch accumulates. Readers find
//! the newest events in memory and the rest on disk. They wait for the committer only if the
//! channel is not in memory yet.

mod aside;
mod backup;
mod channel;
mod committer;
mod files;
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
mod mark;
mod pass;
mod queue;
mod read;
mod record;
mod recover;
mod revive;
mod revocations;
mod stage;
mod store;
mod sweep;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod trouble;
mod usage;
mod watermark;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, oneshot};

use super::clock::Clock;
use super::keys::KeyShares;
use super::{Bounds, Broker, Kept, Memory, Page, Range, Receipt, Share, Sink};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Draft, HistoryPolicy, Namespaces};
use crate::fair_queue::FairQueue;
use crate::maybe_ready::MaybeReady;
use crate::telemetry::{Metrics, Tracing};
use committer::Committer;
use folder::Folder;
use known::Known;
use queue::{Op, Publish, Queue, Refused};
use store::Store;
use table::Table;
use usage::Level;

pub use aside::set_aside;
pub use backup::{BackupError, Contents, restore, verify};
pub use folder::{OpenError, check_path};
pub use queue::MAX_BYTES as COMMIT_QUEUE_BYTES;
pub(super) use record::RevocationRecord;
pub use recover::OnDamage;

/// The most concurrent disk readers. Not many more than there are processors, because reading
/// cached data is CPU work.
fn readers() -> usize {
    thread::available_parallelism().map_or(2, |processors| processors.get().clamp(2, 16))
}

/// When a publish is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once its event is on the device.
    Fsync,
    /// Once the operating system has its event, which reaches the device within about a second. If
    /// a process ends uncleanly, every channel gets a new epoch.
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

/// The settings of a [`Disk`] broker.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// The store's directory, created if necessary.
    pub path: PathBuf,
    /// When a publish is acknowledged.
    pub durability: Durability,
    /// What to do with a store that has lost acknowledged data.
    pub on_damage: OnDamage,
    /// The size of the cache of newest events, in bytes over all channels. 0 disables it.
    pub cache_bytes: usize,
    /// The most bytes of events over all channels. 0 means no limit.
    pub disk_bytes: u64,
    /// The most channels and idempotency keys.
    pub bounds: Bounds,
}

/// Channels on disk, which survive the process.
pub struct Disk {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// State shared by the committer and its callers.
struct Shared {
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    tracing: Arc<Tracing>,
    clock: Clock,
    table: Table,
    /// The most bytes that each channel may store so that everything fits.
    level: Level,
    known: Known,
    /// Handles what needs no disk: channels without history, and events directly to an audience.
    unkept: Memory,
    queue: Queue,
    /// `None` while it is reopened.
    store: ArcSwapOption<Store>,
    /// False while the store cannot write.
    available: AtomicBool,
    readers: FairQueue,
    on_damage: OnDamage,
    /// Allows one backup at a time.
    backups: Arc<Semaphore>,
}

impl Disk {
    /// Opens or creates the store. It holds the sink weakly, because the sink holds the broker.
    ///
    /// # Errors
    /// Names the directory and the problem: another process uses it, a newer version created it, or
    /// it is damaged.
    pub fn open(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
        settings: DiskSettings,
    ) -> Result<Self, OpenError> {
        Self::open_at(
            namespaces,
            sink,
            metrics,
            tracing,
            settings,
            Clock::default(),
        )
    }

    fn open_at(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
        settings: DiskSettings,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let path = settings.path.clone();
        let (folder, left) = Folder::open(&path, settings.on_damage)?;
        // Channels with and without history share the limits of keys.
        let keys = KeyShares::new(settings.bounds, Arc::clone(&metrics));
        let unkept = Memory::sharing_keys(
            Arc::clone(&namespaces),
            sink.clone(),
            Arc::clone(&metrics),
            settings.bounds,
            Arc::clone(&keys),
        );
        let shared = Arc::new(Shared {
            namespaces,
            sink,
            metrics,
            tracing,
            clock,
            table: Table::new(),
            level: Level::default(),
            known: Known::default(),
            unkept,
            queue: Queue::default(),
            store: ArcSwapOption::empty(),
            available: AtomicBool::new(true),
            readers: FairQueue::new(readers()),
            on_damage: settings.on_damage,
            backups: Arc::new(Semaphore::new(1)),
        });
        let committer = Committer::open(Arc::clone(&shared), folder, left, settings, keys)?;
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| OpenError::new(&path, error))?;
        Ok(Disk {
            shared,
            committer: Mutex::new(Some(thread)),
        })
    }

    /// Waits until all previous requests are done.
    #[cfg(test)]
    async fn settle(&self) {
        let (answer, settled) = queue::Answer::new();
        assert!(
            self.shared
                .queue
                .push(Share::OWN, Op::Settle(answer))
                .is_ok()
        );
        settled.await.unwrap().unwrap();
    }
}

/// The error of every request while the store cannot write.
fn unavailable() -> Error {
    Error::unavailable("the store can't write").retry_after(Duration::from_secs(1))
}

impl Shared {
    /// The retention of a channel: that of its namespace, reduced so that everything fits.
    fn policy(&self, name: &ChannelName) -> HistoryPolicy {
        let policy = self.namespaces.load().of(name).history;
        let level = usize::try_from(self.level.get()).unwrap_or(usize::MAX);
        HistoryPolicy {
            bytes: policy.bytes.min(level),
            ..policy
        }
    }

    /// Sends a request to the committer.
    fn ask<T: Send + 'static>(
        &self,
        share: Share,
        op: impl FnOnce(queue::Answer<T>) -> Op,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        if !self.available.load(Ordering::Relaxed) {
            return Err(unavailable());
        }
        let (answer, later) = queue::Answer::new();
        match self.queue.push(share, op(answer)) {
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

/// The committer's answer. There is none if it panicked meanwhile.
async fn answered<T>(later: oneshot::Receiver<Result<T>>) -> Result<T> {
    later.await.unwrap_or_else(|_| Err(unavailable()))
}

impl Broker for Disk {
    fn publish(&self, draft: Draft) -> MaybeReady<Receipt> {
        self.publish_for(Share::OWN, draft)
    }

    fn publish_for(&self, share: Share, draft: Draft) -> MaybeReady<Receipt> {
        let Some(channel) = draft.channel.clone() else {
            return MaybeReady::Ready(self.shared.unkept.publish_unkept(draft));
        };
        let kept = self.shared.namespaces.load().of(&channel).history.size > 0;
        if kept {
            self.shared.known.keeps(channel.as_str());
        } else if !self.shared.known.must_pass(channel.as_str()) {
            return MaybeReady::Ready(self.shared.unkept.publish_unkept(draft));
        }
        let name = channel.clone();
        let publish = |answer| {
            let publish = Box::new(Publish {
                channel,
                draft,
                answer,
            });
            if kept {
                Op::Publish(publish)
            } else {
                Op::Pass(publish)
            }
        };
        match self.shared.ask(share, publish) {
            Ok(later) => MaybeReady::later(answered(later)),
            Err(error) => {
                if !kept {
                    self.shared.known.passed(name.as_str());
                }
                MaybeReady::Ready(Err(error))
            }
        }
    }

    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        self.read_for(Share::OWN, channel, range)
    }

    fn read_for(
        &self,
        share: Share,
        channel: &ChannelName,
        range: Range,
    ) -> MaybeReady<Option<Page>> {
        let bytes = range.bytes;
        read::page(&self.shared, share, channel, range)
            .then(move |page| Ok(page?.map(|page| page.within(bytes))))
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.shared.namespaces.load().of(channel).history.size == 0
            || self.shared.known.contains(channel.as_str())
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        read::list(&self.shared, prefix, after, limit)
    }

    fn backup(&self) -> Result<Receiver<Result<Bytes>>> {
        read::backup(&self.shared)
    }

    fn sweep(&self) {
        self.shared.unkept.sweep();
        // If the queue is full, there is more important work.
        self.shared
            .queue
            .push(Share::OWN, Op::Sweep)
            .unwrap_or_default();
    }

    fn is_available(&self) -> bool {
        self.shared.available.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.shared.queue.stop();
        let thread = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer ended unexpectedly");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}
