//! The broker that keeps channels in Redis or Valkey, shared by all nodes of a cluster.
//!
//! One script per publish assigns the offset, appends to the channel's stream and announces the
//! event on sharded topics, atomically. A node subscribes to the topics of what somebody follows on
//! it. Publish/subscribe may lose messages, so the receiver delivers by offset, fills holes from the
//! stream, and compares positions after each reconnect and periodically.

mod address;
mod bus;
mod cursors;
mod inbox;
mod interest;
mod keys;
mod known;
mod list;
mod message;
mod publish;
mod read;
mod receive;
mod revocations;
mod scripts;
mod server;
mod servers;
#[cfg(test)]
pub(super) mod tests;
mod trouble;
mod value;
mod verify;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redis::{RedisError, Value};
use tokio::task::JoinSet;

use super::keys::{KeyShare, KeyShares};
use super::{
    Bounds, Broker, Kept, Page, Range, Receipt, Share, Sink, outlasts_election, without_conditions,
};
use crate::error::Error;
use crate::event::{ChannelName, ChannelPattern, Draft, HistoryPolicy, Namespaces};
use crate::fair_queue::FairQueue;
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;
use address::Deployment;
use inbox::Inbox;
use interest::{Followed, Interest};
use keys::Keys;
use known::Known;
use publish::Lanes;
use receive::Receiver;
use scripts::Prepared;
use servers::Servers;

pub use bus::RedisBus;
pub use cursors::RedisCursors;
pub use revocations::RedisRevocations;
pub use trouble::Trouble;

/// How long a start waits for the servers.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of messages that wait to be delivered.
const INBOX_BYTES: usize = 64 * 1024 * 1024;
/// What waits on this node for Redis, and for its shards. Part of the server's memory bound.
pub const QUEUE_BYTES: usize = publish::MOST_BYTES + INBOX_BYTES + bus::INBOX_BYTES;
/// Concurrent reads of history.
const READS: usize = 64;
/// How long a channel that was only read is kept.
const NEVER_USED: Duration = Duration::from_mins(1);
/// The largest whole number that a script counts with.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The settings of a [`Redis`] broker.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// The servers. See [`Redis::check_urls`].
    pub urls: Vec<String>,
    /// What all keys start with.
    pub name: String,
    /// Replicas that must have an event before it is acknowledged.
    pub wait_replicas: usize,
    /// How long a publish waits for the server.
    pub publish_timeout: Duration,
    /// How often positions are compared with Redis.
    pub sweep: Duration,
    /// The most channels and idempotency keys of this node.
    pub bounds: Bounds,
}

/// Channels in Redis, shared with other nodes.
pub struct Redis {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    runtime: tokio::runtime::Handle,
}

/// State shared by the tasks and the callers.
struct Shared {
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    keys: Keys,
    servers: Servers,
    wait_replicas: usize,
    publish_timeout: Duration,
    sweep: Duration,
    clock: Clock,
    known: Known,
    shares: Arc<KeyShares>,
    /// The reserved idempotency keys, in the order of their expiry.
    reserved: Mutex<VecDeque<(u64, KeyShare)>>,
    lanes: Lanes,
    interest: Interest,
    receiver: Receiver,
    inbox: Arc<Inbox>,
    reads: FairQueue,
    /// This process, in the messages of channels without history.
    node: u64,
    is_closed: AtomicBool,
    /// When a sweep first found Redis away, as uptime in milliseconds. 0: it is there.
    away_since: AtomicU64,
}

/// Milliseconds since the broker was built. Tests let time pass.
struct Clock {
    started: Instant,
    skew: AtomicU64,
}

impl Clock {
    fn now(&self) -> u64 {
        millis(self.started.elapsed()) + self.skew()
    }

    /// What is added to the server's clock. 0 outside of tests.
    fn skew(&self) -> u64 {
        self.skew.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(MAX_NUMBER)
        .min(MAX_NUMBER)
}

fn number(count: usize) -> String {
    u64::try_from(count)
        .unwrap_or(MAX_NUMBER)
        .min(MAX_NUMBER)
        .to_string()
}

/// A random generation or epoch, in case there is none.
fn fresh() -> String {
    format!("{:016x}", fastrand::u64(1..))
}

impl Redis {
    /// What is wrong with the addresses of the servers: one, several members of a Redis Cluster, or
    /// Sentinels.
    ///
    /// # Errors
    /// Says what is wrong, without a password.
    pub fn check_urls(urls: &[&str]) -> Result<(), String> {
        Deployment::parse(urls).map(drop)
    }

    /// Connects to Redis. It holds the sink weakly, because the sink holds the broker.
    ///
    /// # Errors
    /// Names the server and the problem. A server that can't be reached is waited for.
    pub async fn open(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        settings: RedisSettings,
    ) -> Result<Self, Trouble> {
        let urls: Vec<&str> = settings.urls.iter().map(String::as_str).collect();
        let deployment = Deployment::parse(&urls).map_err(|reason| Trouble::Unreachable {
            address: "cluster.redis.urls".to_owned(),
            reason,
        })?;
        let inbox = Inbox::new(INBOX_BYTES);
        let servers = Servers::new(deployment, Arc::clone(&inbox));
        servers.connect(START_PATIENCE).await?;
        metrics.cluster().configured();
        let (lanes, queues) = Lanes::new();
        let shared = Arc::new(Shared {
            namespaces,
            sink,
            keys: Keys::new(&settings.name),
            servers,
            wait_replicas: settings.wait_replicas,
            publish_timeout: settings.publish_timeout,
            sweep: settings.sweep,
            clock: Clock {
                started: Instant::now(),
                skew: AtomicU64::new(0),
            },
            known: Known::new(settings.bounds.channels, Arc::clone(&metrics)),
            shares: KeyShares::new(settings.bounds, Arc::clone(&metrics)),
            reserved: Mutex::default(),
            lanes,
            interest: Interest::default(),
            receiver: Receiver::new(settings.bounds.channels),
            inbox,
            reads: FairQueue::new(READS),
            node: fastrand::u64(1..),
            is_closed: AtomicBool::new(false),
            away_since: AtomicU64::new(0),
            metrics,
        });
        shared.interest.set(Followed::Direct, true);
        let mut tasks = JoinSet::new();
        for queue in queues {
            tasks.spawn(publish::run(Arc::clone(&shared), queue));
        }
        let keeper = Arc::clone(&shared);
        tasks.spawn(async move { keeper.servers.run().await });
        tasks.spawn(interest::run(Arc::clone(&shared)));
        tasks.spawn(receive::run(Arc::clone(&shared)));
        tasks.spawn(verify::sweep(Arc::clone(&shared)));
        tasks.spawn(list::tidy(Arc::clone(&shared)));
        // Events for this node's connections arrive from now on.
        let direct = shared.interest.is_subscribed(&Followed::Direct, &shared);
        if direct.await.is_err() {
            tracing::warn!("the cluster engine was lost at the start");
        }
        Ok(Redis {
            shared,
            tasks: Mutex::new(tasks),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// The round trip of the slowest server.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let map = self.shared.servers.map()?;
        map.servers.iter().map(|server| server.round_trip()).max()
    }
}

/// The error of requests while Redis is away. Nothing was stored.
fn away() -> Error {
    Error::unavailable("Redis is away: nothing was stored").retry_after(Duration::from_secs(1))
}

/// What becomes of a command that Redis refused.
enum Refusal {
    /// It was not carried out, and may be on another try.
    Again,
    /// It was not carried out because the scripts were erased.
    NoScript,
    /// It was not carried out.
    Final(Error),
}

/// Classifies an error that the server answered. A script that was refused changed nothing.
fn refusal(error: &RedisError) -> Refusal {
    let text = || error.detail().unwrap_or_default().to_owned();
    match error.code().unwrap_or_default() {
        "NOSCRIPT" => Refusal::NoScript,
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY"
        | "UNKILLABLE" | "BUSY" => Refusal::Again,
        "OOM" => Refusal::Final(
            Error::exhausted("Redis has no memory left (maxmemory)")
                .retry_after(Duration::from_secs(1)),
        ),
        code => {
            tracing::warn!(code, detail = text(), "Redis refused a command");
            Refusal::Final(
                Error::unavailable(format!("Redis refused it ({code}): nothing was stored"))
                    .retry_after(Duration::from_secs(1)),
            )
        }
    }
}

impl Shared {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.upgrade()
    }

    fn policy(&self, channel: &ChannelName) -> HistoryPolicy {
        self.namespaces.load().of(channel).history
    }

    /// How long Redis keeps a channel after its last event.
    fn keep(&self, channel: &ChannelName) -> Duration {
        let namespaces = self.namespaces.load();
        let namespace = namespaces.of(channel);
        namespace.history.ttl.saturating_add(namespace.max_idle)
    }

    /// How long Redis keeps a channel that never had an event. Those that are followed are renewed
    /// by the sweep.
    fn keep_new(&self, channel: &ChannelName) -> Duration {
        let max_idle = self.namespaces.load().of(channel).max_idle;
        max_idle.min(NEVER_USED).max(3 * self.sweep)
    }

    /// Readers see only what replicas have confirmed.
    fn hold(&self) -> &'static str {
        if self.wait_replicas > 0 { "1" } else { "0" }
    }

    /// Runs a script that stores nothing that a repeat would store twice.
    async fn read_script(
        &self,
        bucket: u8,
        script: &Prepared,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, Error> {
        let deadline = tokio::time::Instant::now() + self.publish_timeout;
        loop {
            let server = self.servers.map().and_then(|map| map.of(bucket).cloned());
            let Some(server) = server else {
                return Err(Error::unavailable("Redis is away").retry_after(Duration::from_secs(1)));
            };
            let mut all: Vec<&[u8]> = vec![server.run.as_bytes()];
            all.extend(args);
            let error = match server.command(&script.command(keys, &all)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let by_server = error.code().is_some();
            match refusal(&error) {
                Refusal::NoScript => {
                    server.load(&self.servers.scripts).await.ok();
                }
                Refusal::Final(error) if by_server => return Err(error),
                Refusal::Again | Refusal::Final(_) => self.servers.look_again(),
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(
                    Error::unavailable("Redis does not answer").retry_after(Duration::from_secs(1))
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reserves an idempotency key until Redis has forgotten it.
    fn reserve(&self, share: KeyShare) {
        let until = self.clock.now() + millis(super::keys::KEY_TTL);
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.push_back((until, share));
    }

    fn free_keys(&self) {
        let now = self.clock.now();
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        while reserved.front().is_some_and(|(until, _)| *until <= now) {
            reserved.pop_front();
        }
        if reserved.is_empty() {
            reserved.shrink_to_fit();
        }
    }
}

impl Broker for Redis {
    fn publish(&self, draft: Draft) -> MaybeReady<Receipt> {
        self.publish_for(Share::OWN, draft)
    }

    fn publish_for(&self, _: Share, mut draft: Draft) -> MaybeReady<Receipt> {
        let conditions = draft.take_conditions();
        if let Some(channel) = &draft.channel {
            let is_kept = self.shared.policy(channel).size > 0;
            if let Err(refused) = without_conditions(channel, conditions, is_kept) {
                return MaybeReady::Ready(Err(refused));
            }
        }
        publish::publish(&self.shared, draft)
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
        read::page(&self.shared, share, channel, range)
    }

    fn set_interest(&self, pattern: &ChannelPattern, wanted: bool) {
        self.shared.interest.set(pattern.into(), wanted);
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.shared.policy(channel).size == 0 || self.shared.known.contains(channel)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        list::list(&self.shared, prefix, after, limit)
    }

    fn sweep(&self) {
        let shared = &self.shared;
        shared.free_keys();
        let sink = shared.sink();
        let is_followed =
            |channel: &ChannelName| sink.as_ref().is_some_and(|sink| sink.is_followed(channel));
        shared.known.sweep(shared.clock.now(), is_followed);
        let since = if self.is_available() {
            0
        } else {
            match shared.away_since.load(Ordering::Acquire) {
                0 => crate::clock::uptime_ms().max(1),
                since => since,
            }
        };
        shared.away_since.store(since, Ordering::Release);
        let metrics = shared.metrics.cluster();
        metrics.up(self.is_available());
        metrics.channels(shared.receiver.channels());
        metrics.queue_bytes(shared.lanes.bytes());
        if let Some(took) = self.round_trip() {
            metrics.round_trip(took);
        }
    }

    fn is_available(&self) -> bool {
        self.shared.servers.map().is_some()
    }

    fn is_ready(&self) -> bool {
        !outlasts_election(self.shared.away_since.load(Ordering::Acquire))
    }

    fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.runtime.block_on(self.shared.lanes.finish());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}
