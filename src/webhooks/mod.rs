//! Webhooks: the server reports connections, occupancy and presence to the application.
//!
//! Shards put an `Edge` into a bounded queue without waiting. One thread, the
//! recorder, turns edges into events, and writes them to the queue of each webhook in one batch with
//! what was reported so far. One task for each webhook posts its queue in order, a batch at a time.

mod backoff;
mod edges;
mod event;
mod queue;
mod recorder;
mod reported;
mod sender;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::timeout;
use crate::cluster::{Cluster, ClusterOccupancy};
use crate::error::{Error, Result};
use crate::event::Timestamp;
use crate::hub::Hub;
use crate::outbound::{HttpClient, SigningSecret};
use crate::telemetry::{Metrics, WebhookMetrics};

pub use edges::{Edges, EdgesReceiver, channel};
pub use event::EventKind;
use queue::{Limits, Queue};
use recorder::Recorder;
use sender::{Sender, State};
use store::Store;

/// The most bytes of an answer that are read.
const ANSWER: usize = 64 * 1024;

/// The settings of one webhook.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Where its events are posted.
    pub url: String,
    /// Signs its requests; `None`: they are not signed.
    pub secret: Option<String>,
    /// The events that it gets.
    pub events: Vec<EventKind>,
    /// The most bytes of queued events.
    pub queue_bytes: usize,
    /// The most bytes of dead letters.
    pub dead_letter_bytes: usize,
    /// The most events of one request.
    pub batch_events: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long an event is tried.
    pub retry_for: Duration,
    /// The longest pause between two attempts, unless the application asks for a longer one.
    pub retry_pause: Duration,
}

/// The settings of all webhooks.
#[derive(Debug, Clone)]
pub struct WebhooksSettings {
    /// The webhooks.
    pub webhooks: Vec<WebhookSettings>,
    /// The directory of the queue; `None`: it is in memory.
    pub path: Option<PathBuf>,
    /// Whether a queued event is synced to the device.
    pub synced: bool,
    /// The node's name, in the source of events.
    pub node: String,
}

/// The dependencies of webhooks.
pub struct WebhooksParts {
    /// The hub, whose tables say what is occupied and present.
    pub hub: Arc<Hub>,
    /// The nodes that serve together.
    pub cluster: Arc<dyn Cluster>,
    /// Which channels are occupied on other nodes, if there is an engine.
    pub occupancy: Option<Arc<ClusterOccupancy>>,
    /// The edges that the hub's observer puts in.
    pub edges: EdgesReceiver,
}

/// How a webhook is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookStatus {
    /// Its URL without the query.
    pub url: String,
    /// The names of its events.
    pub events: Vec<&'static str>,
    /// `delivering`, `retrying` or `stopped`.
    pub state: &'static str,
    /// Events in its queue.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// How long the oldest has waited.
    pub lag: Duration,
    /// Events delivered since the server started.
    pub delivered: u64,
    /// Requests that failed since the server started.
    pub failures: u64,
    /// Why the last one failed; empty if none has.
    pub last_error: String,
    /// When the next attempt is due, while it is retrying.
    pub next_attempt_at: Option<Timestamp>,
    /// Events that were given up, and are kept.
    pub dead_letters: u64,
    /// Events that did not fit into the queue, or were not kept as dead letters.
    pub dropped: u64,
}

/// One configured webhook.
struct Webhook {
    url: String,
    kinds: Vec<EventKind>,
    queue: Arc<Queue>,
    state: Arc<State>,
}

/// The running webhooks.
pub struct Webhooks {
    configured: Vec<Webhook>,
    tasks: TaskTracker,
    closing: CancellationToken,
    recorder: Mutex<Option<JoinHandle<()>>>,
    edges: Arc<Edges>,
    is_durable: bool,
}

impl Webhooks {
    /// Opens the queue, and begins to record and to send.
    ///
    /// # Errors
    /// `invalid_argument` for a wrong URL or secret; `unavailable` if the queue can't be opened.
    pub fn start(settings: &WebhooksSettings, parts: WebhooksParts) -> Result<Arc<Self>> {
        let metrics = Arc::clone(parts.hub.metrics());
        let store = match &settings.path {
            Some(path) => Store::on_disk(path, settings.synced)?,
            None => Store::in_memory(),
        };
        let store = Arc::new(store);
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let runtime = tokio::runtime::Handle::current();
        let mut webhooks = Vec::new();
        for (index, one) in settings.webhooks.iter().enumerate() {
            let (webhook, sender) = open(index, one, &store, &metrics)?;
            tasks.spawn_on(sender.run(closing.clone()), &runtime);
            webhooks.push(webhook);
        }
        let queues: Vec<Arc<Queue>> = webhooks.iter().map(|w| Arc::clone(&w.queue)).collect();
        queue::forget_others(&store, &queues)?;
        let edges = Arc::clone(parts.edges.edges());
        let wanted = webhooks.iter().map(|w| w.kinds.clone()).collect();
        let is_durable = settings.path.is_some();
        let recorder = Recorder::new(parts, settings, store, queues, wanted, runtime)?;
        let thread = std::thread::Builder::new()
            .name("webhooks".to_owned())
            .spawn(move || recorder.run())
            .map_err(|error| Error::unavailable(format!("webhooks: {error}")))?;
        Ok(Arc::new(Webhooks {
            configured: webhooks,
            tasks,
            closing,
            recorder: Mutex::new(Some(thread)),
            edges,
            is_durable,
        }))
    }

    /// How each webhook is doing.
    #[must_use]
    pub fn status(&self) -> Vec<WebhookStatus> {
        let all = self.configured.iter();
        all.map(|webhook| {
            let level = webhook.queue.level();
            let progress = webhook.state.progress();
            WebhookStatus {
                url: webhook.url.clone(),
                events: webhook.kinds.iter().map(|kind| kind.name()).collect(),
                state: progress.name,
                queued: level.queued,
                queued_bytes: level.bytes,
                lag: webhook.queue.lag(),
                delivered: progress.delivered,
                failures: progress.failures,
                last_error: progress.last_error,
                next_attempt_at: progress.next_attempt_at,
                dead_letters: level.dead,
                dropped: level.dropped,
            }
        })
        .collect()
    }

    /// Queues the dead letters of a webhook again, or of all if `url` is empty, and tries at once.
    /// Returns how many events were queued again.
    ///
    /// # Errors
    /// `not_found` if there is no webhook with this URL; `unavailable` if the queue can't be
    /// written.
    pub async fn resend(&self, url: &str) -> Result<u64> {
        let chosen = self
            .configured
            .iter()
            .filter(|w| url.is_empty() || w.url == url);
        let chosen: Vec<&Webhook> = chosen.collect();
        if chosen.is_empty() && !url.is_empty() {
            return Err(Error::not_found("no webhook with this URL"));
        }
        let mut resent = 0;
        for webhook in chosen {
            let queue = Arc::clone(&webhook.queue);
            let moved = tokio::task::spawn_blocking(move || queue.resend());
            resent += moved
                .await
                .map_err(|_| Error::internal("the queue of a webhook has panicked"))??;
            webhook.state.retry_now();
        }
        Ok(resent)
    }

    /// Records the last edges, and stops. A queue in memory is sent within the given time, and what
    /// remains is lost; a queue on disk is kept.
    pub async fn close(&self, within: Duration) {
        self.edges.close();
        let recorder = self
            .recorder
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(recorder) = recorder {
            let joined = tokio::task::spawn_blocking(move || recorder.join().is_ok());
            if !matches!(timeout(within, joined).await, Ok(Ok(true))) {
                tracing::error!("the last events of webhooks were not recorded");
            }
        }
        if !self.is_durable {
            self.configured.iter().for_each(|w| w.state.retry_now());
            let sent = async {
                for webhook in &self.configured {
                    webhook.queue.emptied().await;
                }
            };
            if timeout(within, sent).await.is_err() {
                let lost: u64 = self.configured.iter().map(|w| w.queue.level().queued).sum();
                tracing::warn!(
                    events = lost,
                    "events of webhooks were lost: their queue is in memory"
                );
            }
        }
        self.closing.cancel();
        self.tasks.close();
        if timeout(within, self.tasks.wait()).await.is_err() {
            tracing::info!("a request of a webhook was still in progress");
        }
    }
}

fn open(
    index: usize,
    settings: &WebhookSettings,
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
) -> Result<(Webhook, Sender)> {
    let at = |key: &str| format!("webhook[{index}].{key}");
    let client = HttpClient::new(&at("url"), &settings.url, ANSWER)?;
    let secret = settings.secret.as_deref();
    let secret = secret.map(|text| SigningSecret::parse(&at("secret"), text));
    let url = client.shown_url();
    let own: Arc<WebhookMetrics> = metrics.webhook(&url);
    let limits = Limits {
        bytes: settings.queue_bytes,
        dead_bytes: settings.dead_letter_bytes,
    };
    let queue = Queue::open(&settings.url, limits, Arc::clone(store), Arc::clone(&own))?;
    let queue = Arc::new(queue);
    let state = Arc::new(State::default());
    let sender = Sender {
        client,
        secret: secret.transpose()?,
        settings: settings.clone(),
        queue: Arc::clone(&queue),
        state: Arc::clone(&state),
        metrics: own,
    };
    let webhook = Webhook {
        url,
        kinds: settings.events.clone(),
        queue,
        state,
    };
    Ok((webhook, sender))
}

/// Checks the URL and the secret of a webhook, as a start does.
///
/// # Errors
/// `invalid_argument` for `url` or `secret`.
pub fn check(url: &str, secret: Option<&str>) -> Result<()> {
    HttpClient::new("url", url, ANSWER)?;
    secret.map_or(Ok(()), |text| {
        SigningSecret::parse("secret", text).map(drop)
    })
}
