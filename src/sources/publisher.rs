//! Publishes a batch of records.
//!
//! The records of one channel are published one after the other: the next one starts once the broker
//! has the one before. If a publish fails, later records of its channel wait with it, so that a
//! repeat can't change the order. Channels don't wait for each other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key_budget::KeyBudget;
use super::record::{Record, RecordDefaults};
use crate::auth::Identity;
use crate::error::{Code, Error, Result};
use crate::event::Timestamp;
use crate::maybe_ready::{Awaited, MaybeReady};
use crate::session::{Published, Services, Session};
use crate::telemetry::{SourceMetrics, SourcesMetrics};

/// Records that are published between two looks at the hub's high-water mark. Their shards are woken
/// once.
const TOGETHER: usize = 128;

/// Publishes the records of one source.
pub(super) struct Publisher {
    session: Session,
    defaults: RecordDefaults,
    budget: KeyBudget,
    pub(super) metrics: Arc<SourceMetrics>,
}

/// The results of a batch.
pub(super) struct Batch<Id> {
    /// Records that the broker has.
    pub(super) done: Vec<Id>,
    /// Records that can't be published.
    pub(super) dead: Vec<Dead<Id>>,
    /// Records to publish again, in order.
    pub(super) rest: Vec<Record<Id>>,
    /// Why the first of `rest` was not published.
    pub(super) failure: Option<Error>,
}

/// A record that can't be published.
pub(super) struct Dead<Id> {
    /// Its name in the source.
    pub(super) id: Id,
    /// Why.
    pub(super) reason: String,
}

/// A publish that is not finished.
struct Started<Id> {
    record: Record<Id>,
    has_own_key: bool,
    published: Awaited<Published>,
}

impl<Id> Batch<Id> {
    fn new(capacity: usize) -> Self {
        Batch {
            done: Vec::with_capacity(capacity),
            dead: Vec::new(),
            rest: Vec::new(),
            failure: None,
        }
    }
}

impl Publisher {
    /// A publisher for a source. At most `keys` idempotency keys of its own live at once.
    pub(super) fn new(
        services: &Arc<Services>,
        defaults: RecordDefaults,
        keys: usize,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        let identity = Identity::trusted(&format!("source:{}", defaults.name));
        Publisher {
            session: Session::new(Arc::clone(services), Arc::new(identity), None),
            defaults,
            budget: KeyBudget::new(keys, Instant::now()),
            metrics,
        }
    }

    /// The metrics of all sources.
    fn all(&self) -> &SourcesMetrics {
        self.session.services().metrics.sources()
    }

    /// Publishes a batch.
    pub(super) async fn publish<Id: Clone + ToString + Send>(
        &mut self,
        records: Vec<Record<Id>>,
    ) -> Batch<Id> {
        let mut batch = Batch::new(records.len());
        let mut failed: HashSet<String> = HashSet::new();
        let mut queue = records;
        while !queue.is_empty() {
            self.session.ready().await;
            let hub = Arc::clone(&self.session.services().hub);
            let (started, later) = hub.wake_after(|| self.start(queue, &mut failed, &mut batch));
            for started in started {
                let Started {
                    record,
                    has_own_key,
                    published,
                } = started;
                let published = published.await;
                self.finish(record, has_own_key, published, &mut failed, &mut batch);
            }
            queue = later;
            tokio::task::yield_now().await;
        }
        batch
    }

    /// Starts the next publishes: not more than one unfinished for each channel. Returns the
    /// unfinished ones, and the records that wait.
    fn start<Id: Clone + ToString>(
        &mut self,
        queue: Vec<Record<Id>>,
        failed: &mut HashSet<String>,
        batch: &mut Batch<Id>,
    ) -> (Vec<Started<Id>>, Vec<Record<Id>>) {
        let (mut started, mut later) = (Vec::new(), Vec::new());
        let mut busy: HashSet<String> = HashSet::new();
        let mut begun = 0;
        for record in queue {
            if failed.contains(&record.channel) {
                batch.rest.push(record);
                continue;
            }
            if begun >= TOGETHER || busy.contains(&record.channel) {
                later.push(record);
                continue;
            }
            begun += 1;
            let mut publish = match record.to_publish(&self.defaults) {
                Ok(publish) => publish,
                Err(error) => {
                    self.give_up(&record, &error, batch);
                    continue;
                }
            };
            let keyed = publish.idempotency_key.is_empty() && !record.repeat_key.is_empty();
            let has_own_key = keyed && self.budget.take(Instant::now());
            if has_own_key {
                publish.idempotency_key.clone_from(&record.repeat_key);
            }
            match self.session.publish_now(publish) {
                MaybeReady::Ready(published) => {
                    self.finish(record, has_own_key, published, failed, batch);
                }
                pending @ MaybeReady::Pending(_) => {
                    busy.insert(record.channel.clone());
                    started.push(Started {
                        record,
                        has_own_key,
                        published: pending.into_future(),
                    });
                }
            }
        }
        (started, later)
    }

    fn finish<Id: Clone + ToString>(
        &mut self,
        mut record: Record<Id>,
        has_own_key: bool,
        published: Result<Published>,
        failed: &mut HashSet<String>,
        batch: &mut Batch<Id>,
    ) {
        match published {
            Ok(published) => {
                let duplicates = published.results.iter().any(|one| one.receipt.duplicate);
                self.metrics.published(1, u64::from(duplicates));
                if let Some(time) = record.time {
                    self.all().took(age(time));
                }
                batch.done.push(record.id);
            }
            Err(error) if may_pass(&error) => {
                if has_own_key && error.code() == Code::ResourceExhausted {
                    // The table of keys may be full. The broker has refused the record for
                    // certain, so no repeat can come of publishing it without a key.
                    record.repeat_key.clear();
                }
                failed.insert(record.channel.clone());
                batch.rest.push(record);
                batch.failure.get_or_insert(error);
            }
            Err(error) => self.give_up(&record, &error, batch),
        }
    }

    /// Puts a record into the dead-letter log.
    fn give_up<Id: Clone + ToString>(
        &self,
        record: &Record<Id>,
        error: &Error,
        batch: &mut Batch<Id>,
    ) {
        let reason = error.clone().brief().message();
        let (id, source) = (record.id.to_string(), self.metrics.name());
        // The log gets no channel: a record may hold anything in its place.
        tracing::warn!(source, record = id, reason, "a record can't be published");
        self.metrics.dead_letter(&id, &record.channel, &reason);
        batch.dead.push(Dead {
            id: record.id.clone(),
            reason,
        });
    }
}

/// The time since then.
pub(super) fn age(time: Timestamp) -> Duration {
    let micros = Timestamp::now()
        .as_micros()
        .saturating_sub(time.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// True for a failure that a repeat may not have.
fn may_pass(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::ResourceExhausted)
}
