//! Hooks: questions to the application behind the server, over HTTP or gRPC.
//!
//! [`Hooks::ask`] asks one [`Question`] and returns the [`Answer`]. It bounds the number of requests
//! and of waiting questions, keeps answers for as long as they say, asks equal questions once, and
//! does not ask while the circuit breaker is open. The callers decide what an answer means.

mod answer;
mod breaker;
mod cache;
mod endpoint;
mod flights;
mod grpc;
mod question;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::clock::{Elapsed, timeout, uptime_ms};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::fair_queue::FairQueue;
use crate::maybe_ready::MaybeReady;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::{Metrics, Tracing};

pub use crate::telemetry::HookType;
pub use answer::Answer;
pub use question::{Client, Question};
pub use settings::{HookSettings, OnFailure};

use answer::Failure;
use breaker::Breaker;
use cache::Cache;
use endpoint::Endpoint;
use flights::{Flights, Role};
use question::Key;

/// When a client should retry if the application did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest time between two warnings about failures.
const WARN_EVERY_MS: u64 = 10_000;

/// Asks the application.
pub struct Hooks {
    settings: HookSettings,
    endpoint: Endpoint,
    breaker: Breaker,
    cache: Cache,
    flights: Flights,
    requests: FairQueue,
    metrics: Arc<Metrics>,
    tracing: Arc<Tracing>,
    runtime: Handle,
    /// Notifications that were not sent yet.
    telling: AtomicUsize,
    /// When the next failure may be warned of, in milliseconds of [`uptime_ms`].
    next_warning: AtomicU64,
}

impl Hooks {
    /// Asks with these settings. Nothing is connected yet. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the invalid key.
    pub fn new(
        settings: HookSettings,
        metrics: &Arc<Metrics>,
        tracing: &Arc<Tracing>,
    ) -> Result<Arc<Self>> {
        metrics.hooks().configured();
        metrics.hooks().breaker_open(false);
        Ok(Arc::new(Hooks {
            endpoint: Endpoint::new(&settings)?,
            breaker: Breaker::new(settings.breaker_failures),
            cache: Cache::new(settings.cache_bytes),
            flights: Flights::default(),
            requests: FairQueue::new(settings.concurrency),
            metrics: Arc::clone(metrics),
            tracing: Arc::clone(tracing),
            runtime: Handle::current(),
            telling: AtomicUsize::new(0),
            next_warning: AtomicU64::new(0),
            settings,
        }))
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &HookSettings {
        &self.settings
    }

    /// Whether the application is asked questions of this type.
    #[must_use]
    pub fn asks(&self, kind: HookType) -> bool {
        self.settings.ask.contains(&kind)
    }

    /// The headers of a client's request that go with questions about it.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` beyond `hooks.header_bytes`.
    pub fn forwarded(&self, headers: &http::HeaderMap) -> Result<ForwardedHeaders> {
        let HookSettings {
            forward_headers,
            header_bytes,
            ..
        } = &self.settings;
        ForwardedHeaders::pick(headers, forward_headers, *header_bytes)
    }

    /// Whether a connection's forwarded headers are kept while it is open, for later questions.
    #[must_use]
    pub fn keeps_headers(&self) -> bool {
        !self.settings.forward_headers.is_empty()
    }

    /// Asks a question. It is answered at once from the cache, or later. `None` if the application
    /// failed and the configured rules decide alone (`hooks.on_failure`).
    ///
    /// # Errors
    ///
    /// The application's refusal, or `unavailable` if it failed.
    pub fn ask(
        self: &Arc<Self>,
        question: Question,
        trace: Option<TraceContext>,
    ) -> MaybeReady<Option<Arc<Answer>>> {
        let key = question.key();
        if let Some(answer) = self.cache.get(&key) {
            self.metrics.hooks().cache_hit();
            return MaybeReady::Ready(self.conclude(question.kind, Ok(answer)));
        }
        let hooks = Arc::clone(self);
        MaybeReady::later(async move {
            let kind = question.kind;
            let outcome = if is_shared(kind) {
                hooks.ask_once(&question, key, trace.as_ref()).await
            } else {
                hooks.request(&question, key, trace.as_ref()).await
            };
            hooks.conclude(kind, outcome)
        })
    }

    /// Tells the application something once, without waiting for it. Dropped and counted if
    /// `hooks.waiting` notifications wait already.
    pub fn tell(self: &Arc<Self>, question: Question) {
        if self.telling.fetch_add(1, Ordering::Relaxed) >= self.settings.waiting {
            self.telling.fetch_sub(1, Ordering::Relaxed);
            self.metrics.hooks().asked(question.kind);
            self.failed(question.kind, &Failure::Busy);
            return;
        }
        let hooks = Arc::clone(self);
        self.runtime.spawn(async move {
            let key = question.key();
            drop(hooks.request(&question, key, None).await);
            hooks.telling.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Asks, or waits for the answer to an equal question that is being asked.
    async fn ask_once(
        &self,
        question: &Question,
        key: Key,
        trace: Option<&TraceContext>,
    ) -> Result<Arc<Answer>, Failure> {
        loop {
            match self.flights.join(key) {
                Role::Leader(flight) => {
                    let outcome = self.request(question, key, trace).await;
                    flight.land(outcome.clone());
                    return outcome;
                }
                Role::Follower(mut landing) => {
                    // Without an outcome, the client of the leader has gone: ask again.
                    if let Some(outcome) = landing.outcome().await {
                        self.metrics.hooks().shared();
                        return outcome;
                    }
                }
            }
        }
    }

    /// Sends one request, within the time and the number of requests.
    async fn request(
        &self,
        question: &Question,
        key: Key,
        trace: Option<&TraceContext>,
    ) -> Result<Arc<Answer>, Failure> {
        let metrics = self.metrics.hooks();
        metrics.asked(question.kind);
        let outcome = match self.breaker.admit() {
            Err(reopens) => Err(Failure::BreakerOpen(reopens)),
            Ok(attempt) => {
                let is_sent = AtomicBool::new(false);
                let asking = self.send(question, trace, &is_sent);
                let outcome = match timeout(self.settings.timeout, asking).await {
                    Ok(outcome) => outcome,
                    Err(Elapsed) if is_sent.into_inner() => Err(Failure::Timeout),
                    Err(Elapsed) => Err(Failure::Busy),
                };
                // One question may be slow without the application being down, and a client may choose
                // such a question to keep others out.
                let chosen = matches!(
                    question.kind,
                    HookType::Rpc | HookType::Publish | HookType::Subscribe
                );
                let slow = chosen && matches!(outcome, Err(Failure::Timeout));
                let down = !slow && outcome.as_ref().is_err_and(Failure::means_down);
                if let Some(is_open) = attempt.record(down, outcome.is_ok()) {
                    self.breaker_moved(is_open);
                }
                outcome
            }
        };
        match &outcome {
            Ok(answer) => {
                metrics.ended(answer.outcome());
                if question.kind != HookType::Disconnected {
                    self.cache.put(key, answer);
                }
            }
            Err(failure) => self.failed(question.kind, failure),
        }
        outcome
    }

    async fn send(
        &self,
        question: &Question,
        trace: Option<&TraceContext>,
        is_sent: &AtomicBool,
    ) -> Result<Arc<Answer>, Failure> {
        let metrics = self.metrics.hooks();
        let permit = {
            let waiting = Counted::new(|delta| metrics.waiting(delta));
            if usize::try_from(waiting.level).unwrap_or(0) > self.settings.waiting {
                self.metrics.limit_reached("hooks.waiting");
                return Err(Failure::Busy);
            }
            self.requests.take(question.share()).await
        };
        is_sent.store(true, Ordering::Relaxed);
        let mut span = self.tracing.hook(question.kind, trace);
        let started = Instant::now();
        let outcome = {
            let _in_flight = Counted::new(|delta| {
                metrics.in_flight(delta);
                0
            });
            let context = span.context();
            // On the heap, so that a question that waits holds no space for a request.
            Box::pin(self.endpoint.ask(question, context.as_ref())).await
        };
        drop(permit);
        metrics.answered(started.elapsed());
        match &outcome {
            Ok(answer) => {
                if let Some(refusal) = answer.refusal() {
                    span.attribute("tidings.hook.code", refusal.code().as_str());
                }
            }
            Err(failure) => span.set_error(&Error::unavailable(failure.label().as_str())),
        }
        outcome.map(Arc::new)
    }

    /// What the caller gets.
    fn conclude(
        &self,
        kind: HookType,
        outcome: Result<Arc<Answer>, Failure>,
    ) -> Result<Option<Arc<Answer>>> {
        match outcome {
            Ok(answer) => match answer.refusal() {
                Some(refusal) => Err(refusal.clone()),
                None => Ok(Some(answer)),
            },
            // Rules can't answer a call.
            Err(_) if kind != HookType::Rpc && self.settings.on_failure == OnFailure::Rules => {
                Ok(None)
            }
            Err(Failure::Busy) => Err(Error::unavailable(
                "too many questions wait for the application (hooks.waiting)",
            )
            .retry_after(RETRY)),
            Err(Failure::BreakerOpen(reopens)) => Err(Error::unavailable(
                "the application does not answer (hooks.endpoint)",
            )
            .retry_after(reopens.max(RETRY))),
            Err(_) => Err(
                Error::unavailable("the application gave no answer (hooks.endpoint)")
                    .retry_after(RETRY),
            ),
        }
    }

    /// Counts a failure, and warns of it now and then.
    fn failed(&self, kind: HookType, failure: &Failure) {
        self.metrics.hooks().ended(failure.label());
        let (now, next) = (uptime_ms(), self.next_warning.load(Ordering::Relaxed));
        let due = now >= next;
        let later = now.saturating_add(WARN_EVERY_MS);
        let swap = |next| {
            self.next_warning
                .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed)
        };
        let (kind, endpoint) = (kind.as_str(), self.endpoint.shown());
        if due && swap(next).is_ok() {
            tracing::warn!(kind, endpoint, %failure, "the application failed to answer a hook");
        } else {
            tracing::debug!(kind, endpoint, %failure, "the application failed to answer a hook");
        }
    }

    fn breaker_moved(&self, is_open: bool) {
        self.metrics.hooks().breaker_open(is_open);
        let endpoint = self.endpoint.shown();
        if is_open {
            tracing::warn!(
                endpoint,
                "the application is down: hooks are not asked for a while"
            );
        } else {
            tracing::info!(endpoint, "the application answers hooks again");
        }
    }
}

/// Equal questions of these types are asked once. A publish and a call may have an effect in the
/// application, so each is asked by itself.
const fn is_shared(kind: HookType) -> bool {
    match kind {
        HookType::Connect | HookType::Refresh | HookType::Subscribe => true,
        HookType::Publish | HookType::Rpc | HookType::Disconnected => false,
    }
}

/// Counts something for as long as it lives.
struct Counted<F: Fn(i64) -> i64> {
    count: F,
    level: i64,
}

impl<F: Fn(i64) -> i64> Counted<F> {
    fn new(count: F) -> Self {
        let level = count(1);
        Counted { count, level }
    }
}

impl<F: Fn(i64) -> i64> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.count)(-1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn hooks(endpoint: &str) -> Arc<Hooks> {
        let settings = HookSettings {
            endpoint: endpoint.to_owned(),
            ask: vec![HookType::Connect],
            timeout: Duration::from_secs(1),
            on_failure: OnFailure::Refuse,
            forward_headers: Vec::new(),
            secret: None,
            concurrency: 1,
            waiting: 1,
            cache_bytes: 0,
            answer_bytes: 1000,
            header_bytes: 1000,
            breaker_failures: 1,
        };
        Hooks::new(settings, &Metrics::new("test"), &Arc::new(Tracing::off())).unwrap()
    }

    /// With the task, the socket and the request's head, a waiting connect stays within 4 KiB.
    #[tokio::test]
    async fn waiting_question_is_small() {
        for endpoint in ["http://127.0.0.1:9/", "grpc://127.0.0.1:9"] {
            let client = Client {
                id: None,
                identity: None,
                transport: "websocket",
                address: SocketAddr::from(([127, 0, 0, 1], 9)),
                client_type: None,
                headers: None,
            };
            let question = Question::new(HookType::Connect, client);
            let MaybeReady::Pending(asking) = hooks(endpoint).ask(question, None) else {
                panic!("nothing is cached");
            };
            let bytes = size_of_val(&*asking);
            assert!(bytes <= 2048, "{bytes}");
        }
    }
}
