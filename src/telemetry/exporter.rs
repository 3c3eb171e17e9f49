//! The export thread of spans, and its bounded queue.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::metrics::Metrics;

/// The most bytes of queued spans, in addition to the limit on their number, because spans can be
/// large, for instance through the trace state of every event of a batch. Part of the server's
/// memory bound.
pub const SPAN_BYTES: usize = 32 * 1024 * 1024;

/// The approximate size of a span in memory.
fn weight(span: &SpanData) -> usize {
    // A name and a value for each attribute. For each link an identity, and up to 512 bytes of
    // state as pairs of strings.
    let events: usize = span.events.iter().map(|event| event.attributes.len()).sum();
    size_of::<SpanData>() + 512 * (1 + span.attributes.len() + events) + 2048 * span.links.len()
}

/// The limits of queueing and batching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batching {
    /// The most queued spans. More are dropped and counted, so that a slow collector does not
    /// exhaust memory.
    pub(super) queue: usize,
    /// The batch size.
    pub(super) batch: usize,
    /// How long a span waits for its batch to fill.
    pub(super) delay: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Batching {
            queue: 8192,
            batch: 512,
            delay: Duration::from_secs(1),
        }
    }
}

/// State shared by the SDK and the thread.
#[derive(Debug)]
struct Waiting {
    spans: ArrayQueue<SpanData>,
    /// The bytes of the queued spans.
    bytes: AtomicUsize,
    /// The batch size.
    batch: usize,
    full_batch: Notify,
    metrics: Arc<Metrics>,
}

impl Waiting {
    /// Queues a span. False if the queue is full.
    fn push(&self, span: SpanData) -> bool {
        let weight = weight(&span);
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        let fits = before.saturating_add(weight) <= SPAN_BYTES;
        let taken = fits && self.spans.push(span).is_ok();
        if !taken {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        taken
    }

    fn pop(&self) -> Option<SpanData> {
        let span = self.spans.pop()?;
        self.bytes.fetch_sub(weight(&span), Ordering::Relaxed);
        Some(span)
    }
}

/// The SDK's span processor: queues ended spans and never blocks.
#[derive(Debug)]
pub(super) struct Queue(Arc<Waiting>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !self.0.push(span) {
            self.0.metrics.telemetry_dropped(1);
        }
        // Not for every span, because a wake-up costs more than the push.
        if self.0.spans.len() >= self.0.batch {
            self.0.full_batch.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.full_batch.notify_one();
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Tells the thread to stop. `Some` is the deadline.
pub(super) type StopSignal = watch::Receiver<Option<Instant>>;

/// A task that runs on the thread beside the export of spans, until it is told to stop.
pub(super) type Beside = Pin<Box<dyn Future<Output = ()>>>;

/// The thread, with a runtime of its own, which the exporters' clients need.
#[derive(Debug)]
pub(super) struct Exporting {
    /// `Some` is the deadline for stopping.
    stop: watch::Sender<Option<Instant>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the thread ends.
    done: watch::Receiver<()>,
}

impl Exporting {
    /// Starts the thread. `build` runs on it, within its runtime, and returns the exporter and the
    /// other task.
    ///
    /// # Errors
    /// The error of `build`, or the failure to start a thread or runtime.
    pub(super) fn start<E: SpanExporter + 'static>(
        batching: Batching,
        metrics: Arc<Metrics>,
        build: impl FnOnce(StopSignal) -> Result<(E, Beside), String> + Send + 'static,
    ) -> Result<(Queue, Exporting), String> {
        let queue = Arc::new(Waiting {
            spans: ArrayQueue::new(batching.queue),
            bytes: AtomicUsize::new(0),
            batch: batching.batch,
            full_batch: Notify::new(),
            metrics,
        });
        let (stop, stopping) = watch::channel(None);
        let (alive, done) = watch::channel(());
        let (ready, answer) = std::sync::mpsc::sync_channel(1);
        let thread = {
            let waiting = Arc::clone(&queue);
            std::thread::Builder::new()
                .name("tidings-telemetry".to_owned())
                .spawn(move || {
                    let _alive = alive;
                    let runtime = match tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                    {
                        Ok(runtime) => runtime,
                        Err(error) => return drop(ready.send(Err(error.to_string()))),
                    };
                    runtime.block_on(async move {
                        match build(stopping.clone()) {
                            Ok((exporter, beside)) => {
                                drop(ready.send(Ok(())));
                                tokio::join!(
                                    run(&waiting, &exporter, batching.delay, stopping),
                                    beside
                                );
                            }
                            Err(error) => drop(ready.send(Err(error))),
                        }
                    });
                })
        };
        let thread = thread.map_err(|error| format!("no thread for telemetry: {error}"))?;
        answer
            .recv()
            .map_err(|_| "the thread for telemetry ended".to_owned())??;
        Ok((
            Queue(queue),
            Exporting {
                stop,
                thread: Mutex::new(Some(thread)),
                done,
            },
        ))
    }

    /// Exports queued spans and stops the thread, for at most `timeout`.
    pub(super) async fn finish(&self, timeout: Duration) {
        self.stop.send_replace(Some(Instant::now() + timeout));
        let mut done = self.done.clone();
        // The thread itself observes the deadline. This timeout guards against a blocking client.
        let waited = tokio::time::timeout(timeout + Duration::from_secs(1), async {
            while done.changed().await.is_ok() {}
        });
        if waited.await.is_ok() {
            let thread = self
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(Err(_)) = thread.map(JoinHandle::join) {
                tracing::error!("the thread for telemetry panicked");
            }
        }
    }
}

/// Exports batches until it is told to stop.
async fn run<E: SpanExporter>(
    waiting: &Waiting,
    exporter: &E,
    delay: Duration,
    mut stopping: StopSignal,
) {
    let mut failing = false;
    loop {
        let stop = tokio::select! {
            () = waiting.full_batch.notified() => false,
            () = tokio::time::sleep(delay) => false,
            // Told to stop, or all senders are gone.
            _ = stopping.changed() => true,
        };
        while let Some(batch) = next_batch(waiting) {
            let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let result = tokio::select! {
                result = exporter.export(batch) => result.map_err(|error| error.to_string()),
                () = deadline(stopping.clone()) => Err("the server stopped first".to_owned()),
            };
            match result {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("spans are exported again");
                    }
                }
                Err(error) => {
                    waiting.metrics.telemetry_dropped(spans);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            error,
                            "spans can't be exported; they are dropped and counted"
                        );
                    }
                }
            }
        }
        if stop || stopping.borrow().is_some() {
            return;
        }
    }
}

/// Up to a batch of queued spans. `None` if there are none.
fn next_batch(waiting: &Waiting) -> Option<Vec<SpanData>> {
    let first = waiting.pop()?;
    let rest = std::iter::from_fn(|| waiting.pop());
    Some(
        std::iter::once(first)
            .chain(rest.take(waiting.batch - 1))
            .collect(),
    )
}

/// Resolves at the deadline for stopping, or never before stopping is requested.
pub(super) async fn deadline(mut stopping: StopSignal) {
    // An error means that all senders are gone: then there is no deadline.
    let asked = stopping.wait_for(Option::is_some).await.map(|until| *until);
    if let Ok(Some(until)) = asked {
        tokio::time::sleep_until(until).await;
    }
}
