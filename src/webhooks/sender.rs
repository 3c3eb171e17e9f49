//! The sender of one webhook: posts its queue in order, one batch at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::WebhookSettings;
use super::backoff;
use super::queue::{Queue, queued_at};
use super::store::Entry;
use crate::error::{Error, Result};
use crate::event::Timestamp;
use crate::outbound::{HttpClient, RequestFailed, SigningSecret};
use crate::telemetry::WebhookMetrics;

const BATCH: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));
/// The most bytes of events in one request, unless a single event is larger.
const BATCH_BYTES: usize = 256 * 1024;
/// How long to wait after the queue could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Sends the queue of one webhook.
pub(super) struct Sender {
    pub(super) client: HttpClient,
    pub(super) secret: Option<SigningSecret>,
    pub(super) settings: WebhookSettings,
    pub(super) queue: Arc<Queue>,
    pub(super) state: Arc<State>,
    pub(super) metrics: Arc<WebhookMetrics>,
}

/// How sending goes on, for operators.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub(super) name: &'static str,
    pub(super) delivered: u64,
    pub(super) failures: u64,
    pub(super) last_error: String,
    pub(super) next_attempt_at: Option<Timestamp>,
}

/// What a sender shares with operators.
pub(super) struct State {
    progress: Mutex<Progress>,
    retry: Notify,
}

impl Default for State {
    fn default() -> Self {
        State {
            progress: Mutex::new(Progress {
                name: DELIVERING,
                delivered: 0,
                failures: 0,
                last_error: String::new(),
                next_attempt_at: None,
            }),
            retry: Notify::new(),
        }
    }
}

const DELIVERING: &str = "delivering";
const RETRYING: &str = "retrying";
const STOPPED: &str = "stopped";

impl State {
    /// How sending goes on.
    pub(super) fn progress(&self) -> Progress {
        self.locked().clone()
    }

    /// Ends a pause.
    pub(super) fn retry_now(&self) {
        self.retry.notify_one();
    }

    fn locked(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The application has the events.
    Delivered,
    /// It wants no events any more.
    Gone,
    /// It is to be tried again.
    Failed {
        /// In metrics.
        label: &'static str,
        /// For operators.
        reason: String,
        /// The pause that the application asks for.
        after: Option<Duration>,
    },
}

impl Sender {
    /// Sends until the server stops.
    pub(super) async fn run(self, closing: CancellationToken) {
        let all = closing.run_until_cancelled(self.send_all());
        all.await;
    }

    async fn send_all(&self) {
        // After a failure, the same batch is sent again, even if more events have come meanwhile.
        let (mut failures, mut again) = (0_u32, None);
        loop {
            let limit = again.unwrap_or(self.settings.batch_events);
            let batch = match self.head(limit).await {
                Ok(batch) => batch,
                Err(error) => {
                    self.store_failed(&error).await;
                    continue;
                }
            };
            if batch.is_empty() {
                again = None;
                self.queue.filled().await;
                continue;
            }
            let done = match self.post(&batch).await {
                Outcome::Delivered => {
                    self.delivered(failures, batch.len());
                    (failures, again) = (0, None);
                    self.in_store(move |queue| queue.remove(&batch)).await
                }
                Outcome::Gone => {
                    (failures, again) = (0, None);
                    let stopped = self.in_store(Queue::stop).await;
                    self.gone().await;
                    stopped
                }
                Outcome::Failed { reason, after, .. } => {
                    failures = failures.saturating_add(1);
                    again = Some(batch.len());
                    match self.give_up().await {
                        Ok(0) => self.pause(failures, reason, after).await,
                        Ok(_) => again = None,
                        Err(error) => self.store_failed(&error).await,
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.store_failed(&error).await;
            }
        }
    }

    async fn head(&self, limit: usize) -> Result<Vec<Entry>> {
        self.in_store(move |queue| queue.head(limit, BATCH_BYTES))
            .await
    }

    /// Reads or writes the queue on a thread that may block.
    async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Queue) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let queue = Arc::clone(&self.queue);
        let done = tokio::task::spawn_blocking(move || work(&queue)).await;
        done.map_err(|_| Error::internal("the queue of a webhook has panicked"))?
    }

    async fn store_failed(&self, error: &Error) {
        let webhook = self.metrics.url();
        tracing::error!(webhook, %error, "the queue of a webhook could not be used");
        tokio::time::sleep(STORE_PAUSE).await;
    }

    async fn post(&self, batch: &[Entry]) -> Outcome {
        let body = joined(batch);
        let begun = Instant::now();
        let outcome = match self.headers(batch, &body) {
            Ok(headers) => self.exchange(headers, body).await,
            Err(error) => Outcome::Failed {
                label: "unsigned",
                reason: error.to_string(),
                after: None,
            },
        };
        let label = match &outcome {
            Outcome::Delivered => "delivered",
            Outcome::Gone => "gone",
            Outcome::Failed { label, .. } => label,
        };
        self.metrics.sent(label, begun.elapsed());
        outcome
    }

    fn headers(&self, batch: &[Entry], body: &Bytes) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, BATCH);
        headers.insert(USER_AGENT, AGENT);
        if let Some(secret) = &self.secret {
            let seconds = Timestamp::now().as_millis().div_euclid(1000);
            let seconds = u64::try_from(seconds).unwrap_or(0);
            secret.sign(&mut headers, &message_id(batch), seconds, body)?;
        }
        Ok(headers)
    }

    async fn exchange(&self, headers: HeaderMap, body: Bytes) -> Outcome {
        let answer = self.client.post(headers, body, self.settings.timeout).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failed) => {
                let reason = match failed {
                    RequestFailed::Unreachable => "the application can't be reached".to_owned(),
                    RequestFailed::Timeout => "no answer within the timeout".to_owned(),
                    RequestFailed::TooLarge => "the answer is longer than 64 KiB".to_owned(),
                };
                return Outcome::Failed {
                    label: failed.label(),
                    reason,
                    after: None,
                };
            }
        };
        match answer.status {
            status if status.is_success() => Outcome::Delivered,
            StatusCode::GONE => Outcome::Gone,
            status => Outcome::Failed {
                label: "refused",
                reason: format!("the application answered {}", status.as_u16()),
                after: backoff::retry_after(&answer.headers, Timestamp::now()),
            },
        }
    }

    fn delivered(&self, failures: u32, events: usize) {
        let events = u64::try_from(events).unwrap_or(0);
        self.metrics.delivered(events);
        let mut progress = self.state.locked();
        progress.delivered += events;
        progress.name = DELIVERING;
        progress.next_attempt_at = None;
        drop(progress);
        if failures > 0 {
            let webhook = self.metrics.url();
            tracing::info!(webhook, failures, "a webhook works again");
        }
    }

    /// The application has answered 410: waits until an operator resends.
    async fn gone(&self) {
        let webhook = self.metrics.url();
        tracing::error!(
            webhook,
            "the application answered 410 Gone: the webhook is stopped until its events are resent"
        );
        {
            let mut progress = self.state.locked();
            progress.name = STOPPED;
            progress.failures += 1;
            "the application answered 410".clone_into(&mut progress.last_error);
        }
        // An earlier notification may still be stored.
        while self.queue.is_stopped() {
            self.state.retry.notified().await;
        }
        self.state.locked().name = DELIVERING;
    }

    /// Makes dead letters of events that were tried for too long. Returns how many.
    async fn give_up(&self) -> Result<usize> {
        let retry_for = self.settings.retry_for;
        let buried = self
            .in_store(move |queue| bury_old(queue, retry_for))
            .await?;
        if buried > 0 {
            let webhook = self.metrics.url();
            tracing::error!(
                webhook,
                events = buried,
                "events of a webhook were given up: they are dead letters"
            );
        }
        Ok(buried)
    }

    async fn pause(&self, failures: u32, reason: String, after: Option<Duration>) {
        let own = backoff::pause(failures, self.settings.retry_pause);
        let asked = after.unwrap_or_default().min(self.settings.retry_for);
        let pause = own.max(asked);
        let webhook = self.metrics.url();
        if failures == 1 {
            let ms = pause.as_millis();
            tracing::warn!(webhook, reason, retry_ms = ms, "a webhook failed");
        } else {
            tracing::debug!(webhook, reason, failures, "a webhook failed again");
        }
        {
            let mut progress = self.state.locked();
            progress.name = RETRYING;
            progress.failures += 1;
            progress.last_error = reason;
            progress.next_attempt_at = Some(Timestamp::now().later(pause));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.state.retry.notified() => {}
        }
    }
}

fn bury_old(queue: &Queue, retry_for: Duration) -> Result<usize> {
    let mut buried = 0;
    loop {
        let now = Timestamp::now();
        let mut old = queue.head(1000, BATCH_BYTES)?;
        let is_old = |entry: &Entry| queued_at(&entry.0).later(retry_for) <= now;
        let young = old.iter().position(|entry| !is_old(entry));
        old.truncate(young.unwrap_or(old.len()));
        if old.is_empty() {
            return Ok(buried);
        }
        queue.bury(&old)?;
        buried += old.len();
    }
}

/// The batch as a JSON array.
fn joined(batch: &[Entry]) -> Bytes {
    let bytes: usize = batch.iter().map(|(_, event)| event.len() + 1).sum();
    let mut body = BytesMut::with_capacity(bytes + 1);
    for (index, (_, event)) in batch.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"[" } else { b"," });
        body.extend_from_slice(event);
    }
    body.extend_from_slice(b"]");
    body.freeze()
}

/// The id of a request: the same whenever the same events are sent, even by another process.
fn message_id(batch: &[Entry]) -> String {
    let mut hash = Xxh3::new();
    for (_, event) in batch {
        hash.update(event);
    }
    format!("msg_{:032x}", hash.digest128())
}
