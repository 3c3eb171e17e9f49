//! Reads a source, publishes, and acknowledges, over all failures.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::publisher::{Dead, Publisher, age};
use super::record::Record;
use crate::clock::{Elapsed, timeout};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How long a connection may take to be made and prepared.
const CONNECT: Duration = Duration::from_secs(15);
/// How long an acknowledgement may take.
const SETTLE: Duration = Duration::from_secs(30);
/// How often the number of waiting records is asked for.
const LAG: Duration = Duration::from_secs(5);

/// Why a source can't be read at present. The text names no secret.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A system that has records. Its calls are made one after the other.
pub(super) trait Upstream: Send + 'static {
    /// The name of a record, which a person can find it by.
    type Id: Clone + ToString + Send + Sync + 'static;

    /// Connects. Called again after every failure.
    fn connect(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits for records and returns them in their order. An empty batch means that none came for a
    /// while. May be cancelled: what was read is read again later.
    fn fetch(&mut self) -> impl Future<Output = Result<Vec<Record<Self::Id>>, Failure>> + Send;

    /// Acknowledges records that the broker has, and puts the others into the source's own
    /// dead-letter log. May do so together with the next [`Upstream::fetch`].
    fn settle(
        &mut self,
        done: Vec<Self::Id>,
        dead: Vec<Dead<Self::Id>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The publish of fetched records takes long: keeps them from being given to another reader.
    fn hold(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The number of records that wait; `None` if the source does not tell.
    fn lag(&mut self) -> impl Future<Output = Result<Option<u64>, Failure>> + Send;

    /// Finishes the acknowledgements, and disconnects.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs a source until it is told to stop. Then the batch in progress is finished.
pub(super) async fn run<U: Upstream>(
    mut upstream: U,
    mut publisher: Publisher,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let connecting = timeout(CONNECT, upstream.connect());
        let Some(connected) = stop.run_until_cancelled(connecting).await else {
            return;
        };
        let connected = connected.unwrap_or_else(|Elapsed| Err(slow("the connection")));
        let source = publisher.metrics.name().to_owned();
        let ended = match connected {
            Ok(()) => {
                tracing::info!(source, "the source is connected");
                publisher.metrics.connected(true);
                let since = Instant::now();
                let ended = consume(&mut upstream, &mut publisher, &stop).await;
                publisher.metrics.connected(false);
                if since.elapsed() > LAST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                ended
            }
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(()) => {
                if timeout(SETTLE, upstream.close()).await.is_err() {
                    tracing::warn!(source, "the last acknowledgements took too long");
                }
                return;
            }
            Err(failure) => {
                publisher.metrics.failed(&failure.0);
                let again = pause.as_secs_f64();
                tracing::warn!(
                    source,
                    reason = failure.0,
                    again,
                    "the source can't be read"
                );
            }
        }
        if stop
            .run_until_cancelled(sleep(jittered(pause)))
            .await
            .is_none()
        {
            return;
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Reads and publishes until a failure, or until `stop`.
async fn consume<U: Upstream>(
    upstream: &mut U,
    publisher: &mut Publisher,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut lag_at = Instant::now();
    loop {
        if lag_at <= Instant::now() {
            let lag = timeout(SETTLE, upstream.lag()).await;
            publisher
                .metrics
                .lag(lag.unwrap_or_else(|Elapsed| Err(slow("the lag")))?);
            lag_at = Instant::now() + LAG;
        }
        let Some(records) = stop.run_until_cancelled(upstream.fetch()).await else {
            return Ok(());
        };
        let records = records?;
        let oldest = records.first().and_then(|record| record.time);
        publisher
            .metrics
            .lag_time(oldest.map_or(Duration::ZERO, age));
        publish(records, upstream, publisher, stop).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// Publishes a batch, again and again until the broker has all of it.
async fn publish<U: Upstream>(
    mut records: Vec<Record<U::Id>>,
    upstream: &mut U,
    publisher: &mut Publisher,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut pause = FIRST_PAUSE;
    while !records.is_empty() {
        let batch = publisher.publish(records).await;
        if !(batch.done.is_empty() && batch.dead.is_empty()) {
            pause = FIRST_PAUSE;
            let settling = timeout(SETTLE, upstream.settle(batch.done, batch.dead)).await;
            settling.unwrap_or_else(|Elapsed| Err(slow("the acknowledgement")))?;
        }
        records = batch.rest;
        let Some(error) = batch.failure else {
            continue;
        };
        let (source, reason) = (publisher.metrics.name().to_owned(), error.message());
        publisher.metrics.failed(&reason);
        tracing::warn!(source, reason, "records are published again later");
        let waits = error
            .retry_delay()
            .unwrap_or(pause)
            .clamp(pause, LAST_PAUSE);
        if stop
            .run_until_cancelled(sleep(jittered(waits)))
            .await
            .is_none()
        {
            return Ok(());
        }
        let holding = timeout(SETTLE, upstream.hold()).await;
        holding.unwrap_or_else(|Elapsed| Err(slow("the extension")))?;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    Ok(())
}

fn slow(what: &str) -> Failure {
    Failure(format!("{what} took too long"))
}

/// Up to a quarter more, so that the nodes don't come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 4.0)
}
