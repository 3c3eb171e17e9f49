//! The source `postgres`: rows that the application writes in its own transactions.
//!
//! `tidings_publish()` (`migration.sql`) inserts a row under an advisory lock of its channel, so that
//! the ids of a channel's rows are in the order of the commits. Channels are spread over
//! [`BUCKETS`] buckets. Each bucket is read by one node at a time, the holder of the bucket's session
//! lock ([`buckets`]): so nodes share the work, and the order within a channel stays. A lock ends with
//! its connection, also if the process is killed.
//!
//! A reader that finds nothing takes the *doorbell locks* of its buckets and sleeps until it is
//! notified. While a reader is awake, writers don't notify: a commit with a notification excludes all
//! others of the database. A writer holds the doorbell lock shared until its transaction ends, so a
//! reader can't fall asleep before it has seen the row.

mod buckets;
mod connection;
mod queries;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use tokio_util::task::TaskTracker;

use super::driver::{Failure, Upstream};
use super::publisher::Dead;
use super::record::{Record, RecordHeaders};
use super::{BATCH_BYTES, SourceSettings};
use crate::event::Timestamp;
use buckets::Buckets;
use connection::{Doorbell, connect, failure};
use queries::Queries;

/// The migration that creates the table and the function.
pub const MIGRATION: &str = include_str!("migration.sql");

/// The number of buckets, as in the migration.
pub(in crate::sources) const BUCKETS: i32 = 16;
/// The first pause of a reader that can't sleep because a writer's transaction is open.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest such pause.
const LAST_PAUSE: Duration = Duration::from_millis(20);
/// A reader wakes up for good after this many batches without a pause.
const BUSY: u32 = 2;
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// A reader returns at least so often, that the driver can ask for the lag.
const RETURN: Duration = Duration::from_secs(5);
/// The most rows that are counted as lag.
const MOST_LAG: i64 = 100_000;

/// Rows of a table.
pub(super) struct Postgres {
    settings: SourceSettings,
    doorbell: Arc<Doorbell>,
    /// The tasks that read connections.
    tasks: TaskTracker,
    connected: Option<Connected>,
    /// Rows whose events the broker has, and whose deletion is not confirmed. They outlive the
    /// connection, and are never published again.
    settled: Settled,
    /// The times of the rows that were read and are not settled yet.
    times: HashMap<i64, i64>,
}

/// The state of a connection.
struct Connected {
    client: Client,
    queries: Queries,
    buckets: Buckets,
    /// True while the doorbell locks of all owned buckets are held.
    is_asleep: bool,
    /// Batches that were read without a pause between them.
    busy: u32,
    pause: Duration,
    /// When to read next without having been notified.
    poll_at: Instant,
}

/// Checks the settings.
///
/// # Errors
/// What is expected of the URL.
pub(super) fn check(settings: &SourceSettings) -> Result<(), String> {
    connection::parse(settings.url.expose()).map(drop)
}

impl Postgres {
    pub(super) fn new(settings: SourceSettings) -> Self {
        Postgres {
            settings,
            doorbell: Arc::default(),
            tasks: TaskTracker::new(),
            connected: None,
            settled: Settled::default(),
            times: HashMap::new(),
        }
    }

    /// The rows that can be read now. Deletes the settled ones in the same round trip.
    async fn read(&mut self) -> Result<Vec<Record<i64>>, Failure> {
        let connected = self.connected.as_mut().ok_or_else(lost)?;
        let limit = i64::from(self.settings.batch);
        let event_bytes = i64::try_from(self.settings.event_bytes).unwrap_or(i64::MAX);
        let batch_bytes = i64::try_from(BATCH_BYTES).unwrap_or(i64::MAX);
        let floor = connected.buckets.floor();
        let (client, queries) = (&connected.client, &connected.queries);
        // The server runs the deletion first: the requests are sent in this order.
        let deleting = async {
            if !self.settled.ids.is_empty() {
                let Settled { ids, micros } = &self.settled;
                client.execute(&queries.delete, &[ids, micros]).await?;
            }
            Ok(())
        };
        let owned = connected.buckets.owned();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&owned, &floor, &limit, &event_bytes, &batch_bytes];
        let reading = client.query(&queries.read, &parameters);
        let both = async { tokio::try_join!(deleting, reading) };
        let ((), rows) = answered(both).await?;
        self.settled.clear();
        if let Some(last) = rows.last() {
            connected.buckets.saw(last.get(0));
        }
        // What was read before is settled, or is read again.
        self.times.clear();
        for row in &rows {
            self.times
                .insert(row.get(0), row.try_get(6).map_err(failure)?);
        }
        rows.iter().map(record).collect()
    }

    /// Looks whether the nodes share the buckets fairly. True if this one has others now.
    async fn share_buckets(&mut self) -> Result<bool, Failure> {
        // A bucket is given away only after the deletion of what was read from it.
        self.flush().await?;
        let connected = self.connected.as_mut().ok_or_else(lost)?;
        let (client, queries) = (&connected.client, &connected.queries);
        if !connected.buckets.needs_change(client, queries).await? {
            return Ok(false);
        }
        connected.wake_up().await?;
        let (client, queries) = (&connected.client, &connected.queries);
        connected.buckets.change(client, queries).await?;
        self.doorbell.own(&connected.buckets.owned());
        Ok(true)
    }

    /// Deletes the settled rows.
    async fn flush(&mut self) -> Result<(), Failure> {
        if self.settled.ids.is_empty() {
            return Ok(());
        }
        let connected = self.connected.as_ref().ok_or_else(lost)?;
        let (client, queries) = (&connected.client, &connected.queries);
        let Settled { ids, micros } = &self.settled;
        answered(client.execute(&queries.delete, &[ids, micros])).await?;
        self.settled.clear();
        Ok(())
    }

    /// Waits until there may be rows again. False if it is only `until`.
    async fn wait(&mut self, until: Instant) -> Result<bool, Failure> {
        let doorbell = Arc::clone(&self.doorbell);
        let connected = self.connected.as_mut().ok_or_else(lost)?;
        connected.busy = 0;
        if !connected.is_asleep {
            connected.is_asleep = connected.fall_asleep().await?;
            if connected.is_asleep {
                // A row may have been committed before the locks were taken.
                connected.pause = FIRST_PAUSE;
                return Ok(true);
            }
            let pause = connected.pause;
            connected.pause = (pause * 2).min(LAST_PAUSE);
            sleep(pause).await;
            return Ok(true);
        }
        let is_rung = timeout_at(until, doorbell.rung()).await.is_ok();
        if connected.client.is_closed() {
            return Err(lost());
        }
        Ok(is_rung)
    }
}

impl Connected {
    /// Takes the doorbell locks of all owned buckets. False if a writer holds one.
    async fn fall_asleep(&mut self) -> Result<bool, Failure> {
        let owned = self.buckets.owned();
        let rows = answered(self.client.query(&self.queries.sleep, &[&owned])).await?;
        let taken: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        if taken.len() == owned.len() {
            return Ok(true);
        }
        answered(self.client.execute(&self.queries.wake, &[&taken])).await?;
        Ok(false)
    }

    /// Gives the doorbell locks back: writers don't notify any more.
    async fn wake_up(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_asleep) {
            let owned = self.buckets.owned();
            answered(self.client.execute(&self.queries.wake, &[&owned])).await?;
        }
        Ok(())
    }
}

impl Upstream for Postgres {
    type Id = i64;

    async fn connect(&mut self) -> Result<(), Failure> {
        self.connected = None;
        let client = connect(&self.settings, &self.doorbell, &self.tasks).await?;
        let queries = Queries::prepare(&client).await?;
        self.connected = Some(Connected {
            buckets: Buckets::default(),
            client,
            queries,
            is_asleep: false,
            busy: 0,
            pause: FIRST_PAUSE,
            poll_at: Instant::now(),
        });
        // Before anything is read: these rows were published.
        self.flush().await
    }

    async fn fetch(&mut self) -> Result<Vec<Record<i64>>, Failure> {
        let until = Instant::now() + RETURN;
        // After a batch there may be more, and there are rows to delete.
        let connected = self.connected.as_ref().ok_or_else(lost)?;
        let mut reads = !connected.is_asleep || connected.busy > 0;
        loop {
            let connected = self.connected.as_ref().ok_or_else(lost)?;
            if connected.buckets.is_due() {
                reads |= self.share_buckets().await?;
            }
            let connected = self.connected.as_mut().ok_or_else(lost)?;
            if reads || connected.poll_at <= Instant::now() {
                connected.poll_at = Instant::now() + self.settings.poll;
                let records = self.read().await?;
                let connected = self.connected.as_mut().ok_or_else(lost)?;
                if !records.is_empty() {
                    connected.busy = connected.busy.saturating_add(1);
                    connected.pause = FIRST_PAUSE;
                    if connected.busy >= BUSY {
                        connected.wake_up().await?;
                    }
                    return Ok(records);
                }
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            let connected = self.connected.as_ref().ok_or_else(lost)?;
            let next = connected.poll_at.min(connected.buckets.due()).min(until);
            reads = self.wait(next).await?;
        }
    }

    async fn settle(&mut self, done: Vec<i64>, dead: Vec<Dead<i64>>) -> Result<(), Failure> {
        for id in done {
            if let Some(micros) = self.times.remove(&id) {
                self.settled.ids.push(id);
                self.settled.micros.push(micros);
            }
        }
        if dead.is_empty() {
            return Ok(());
        }
        let connected = self.connected.as_ref().ok_or_else(lost)?;
        let (ids, reasons): (Vec<i64>, Vec<String>) =
            dead.into_iter().map(|dead| (dead.id, dead.reason)).unzip();
        for id in &ids {
            self.times.remove(id);
        }
        let (client, queries) = (&connected.client, &connected.queries);
        answered(client.execute(&queries.bury, &[&ids, &reasons])).await?;
        answered(client.execute(&queries.forget_dead, &[])).await?;
        Ok(())
    }

    async fn hold(&mut self) -> Result<(), Failure> {
        // The buckets' locks are the connection's.
        let connected = self.connected.as_ref().ok_or_else(lost)?;
        if connected.client.is_closed() {
            return Err(lost());
        }
        Ok(())
    }

    async fn lag(&mut self) -> Result<Option<u64>, Failure> {
        let connected = self.connected.as_ref().ok_or_else(lost)?;
        let (client, queries) = (&connected.client, &connected.queries);
        let floor = connected.buckets.floor();
        let row = answered(client.query_one(&queries.lag, &[&floor, &MOST_LAG])).await?;
        let waiting = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        let settled = u64::try_from(self.settled.ids.len()).unwrap_or(0);
        Ok(Some(waiting.saturating_sub(settled)))
    }

    async fn close(&mut self) {
        if let Err(Failure(reason)) = self.flush().await {
            tracing::warn!(reason, "published rows could not be deleted");
        }
        self.connected = None;
    }
}

/// Rows whose events are published, by id and time: after a restore of the database the same id may
/// be another row's.
#[derive(Default)]
struct Settled {
    ids: Vec<i64>,
    micros: Vec<i64>,
}

impl Settled {
    fn clear(&mut self) {
        self.ids.clear();
        self.micros.clear();
    }
}

/// The record of a row.
fn record(row: &Row) -> Result<Record<i64>, Failure> {
    let id: i64 = row.try_get(0).map_err(failure)?;
    let micros: i64 = row.try_get(6).map_err(failure)?;
    let text = |at: usize| row.try_get::<_, Option<String>>(at).map_err(failure);
    Ok(Record {
        id,
        channel: text(1)?.unwrap_or_default(),
        event_type: text(2)?.unwrap_or_default(),
        data: text(3)?.map(Bytes::from),
        idempotency_key: text(4)?.unwrap_or_default(),
        headers: RecordHeaders::Json(text(5)?.unwrap_or_default()),
        time: Some(Timestamp::from_micros(micros)),
        // The time tells a row from one with the same id in a table that was created again.
        repeat_key: format!("{id}/{micros}"),
        ..Record::default()
    })
}

/// The server's answer, unless it takes too long.
async fn answered<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match crate::clock::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(failure),
        Err(_) => Err(Failure(String::from("the server takes too long to answer"))),
    }
}

fn lost() -> Failure {
    Failure(String::from("the connection was lost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_has_as_many_buckets_as_the_reader() {
        let mask = format!("slot & {}", BUCKETS - 1);
        assert_eq!(MIGRATION.matches(&mask).count(), 3, "{mask}");
    }
}
