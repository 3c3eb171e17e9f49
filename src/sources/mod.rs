//! Sources: events from what the application has already.
//!
//! A source is a system of the application with records: a table, a stream. A driver (`driver`)
//! reads batches, publishes each record like a service does, and acknowledges it once the broker has
//! it. So an event is published at least once; a repeat has the same idempotency key and is dropped.
//! A record that can't be published goes to the dead-letter log and does not hold up the others.
//! Each kind of source is an `driver::Upstream`.

mod batch_size;
mod driver;
mod key_budget;
mod nats;
mod postgres;
mod publisher;
mod record;
mod redis;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Secret;
use crate::session::Services;
use crate::telemetry::SourceMetrics;
use publisher::Publisher;

pub use postgres::MIGRATION as POSTGRES_MIGRATION;
pub use record::RecordDefaults;

/// The most bytes of data that one batch of a source is read to. The record that passes this mark is
/// the last one, so a batch may be one event longer.
pub const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The longest time that one request to a source waits for records.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A table in PostgreSQL.
    Postgres,
    /// A stream in Redis or Valkey, read by a consumer group.
    Redis,
    /// A stream of NATS JetStream, read by a durable consumer.
    Nats,
}

impl SourceKind {
    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SourceKind::Postgres => "postgres",
            SourceKind::Redis => "redis",
            SourceKind::Nats => "nats",
        }
    }
}

/// The settings of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// The kind.
    pub kind: SourceKind,
    /// The server, with user and password.
    pub url: Secret,
    /// The certificates that sign the server's certificate.
    pub ca: Option<PathBuf>,
    /// A file with credentials, for `nats`.
    pub credentials_file: Option<PathBuf>,
    /// The stream, for `redis` and `nats`.
    pub stream: String,
    /// The consumer group or the durable consumer, for `redis` and `nats`.
    pub group: String,
    /// The reader's name in the group.
    pub consumer: String,
    /// The most records of one batch.
    pub batch: u32,
    /// How often the source is asked without being woken.
    pub poll: Duration,
    /// The longest data of a record, in bytes.
    pub event_bytes: usize,
    /// The most idempotency keys of its own that live at once.
    pub keys: usize,
    /// What records leave out.
    pub defaults: RecordDefaults,
}

impl SourceSettings {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// What is expected of the URL. It never contains the URL.
    pub fn check(&self) -> Result<(), String> {
        match self.kind {
            SourceKind::Postgres => postgres::check(self),
            SourceKind::Redis => redis::check(self),
            SourceKind::Nats => nats::check(self),
        }
    }

    /// The server, without user, password and parameters.
    fn shown(&self) -> String {
        let url = self.url.expose();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        format!("{scheme}://{rest}")
    }
}

/// The running sources.
pub struct Sources {
    services: Arc<Services>,
    running: Mutex<Vec<Running>>,
    tasks: TaskTracker,
}

struct Running {
    settings: SourceSettings,
    stop: CancellationToken,
    task: JoinHandle<()>,
    metrics: Arc<SourceMetrics>,
}

impl Sources {
    /// No sources yet.
    #[must_use]
    pub fn new(services: &Arc<Services>) -> Self {
        Sources {
            services: Arc::clone(services),
            running: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs these sources from now on. A source whose settings are the same goes on; another one is
    /// started once its predecessor of the same name has finished its batch.
    pub fn apply(&self, wanted: Vec<SourceSettings>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for settings in wanted {
            if let Some(at) = before.iter().position(|one| one.settings == settings) {
                running.push(before.swap_remove(at));
                continue;
            }
            let name = &settings.defaults.name;
            let same = before
                .iter()
                .position(|one| one.settings.defaults.name == *name);
            let predecessor = same.map(|at| before.swap_remove(at));
            running.push(self.start(settings, predecessor));
        }
        for ended in before {
            ended.stop.cancel();
            self.services.metrics.sources().remove(&ended.metrics);
        }
    }

    /// Finishes the batches in progress and ends all sources.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.lock());
        for one in &running {
            one.stop.cancel();
        }
        for one in running {
            if one.task.await.is_err() {
                tracing::error!("a source's task panicked");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, settings: SourceSettings, predecessor: Option<Running>) -> Running {
        let (sources, name) = (self.services.metrics.sources(), &settings.defaults.name);
        let metrics = sources.add(name, settings.kind.as_str(), settings.shown());
        let publisher = Publisher::new(
            &self.services,
            settings.defaults.clone(),
            settings.keys,
            Arc::clone(&metrics),
        );
        let stop = CancellationToken::new();
        let (own, until) = (settings.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            if let Some(Running { stop, task, .. }) = predecessor {
                stop.cancel();
                if task.await.is_err() {
                    tracing::error!("a source's task panicked");
                }
            }
            match own.kind {
                SourceKind::Postgres => {
                    Box::pin(driver::run(postgres::Postgres::new(own), publisher, until)).await;
                }
                SourceKind::Redis => {
                    Box::pin(driver::run(redis::Redis::new(own), publisher, until)).await;
                }
                SourceKind::Nats => {
                    Box::pin(driver::run(nats::Nats::new(own), publisher, until)).await;
                }
            }
        });
        Running {
            settings,
            stop,
            task,
            metrics,
        }
    }
}
