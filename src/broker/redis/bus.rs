//! What nodes say to each other over Redis, beside events: messages to one node or all, node
//! numbers with leases, and entries that every node watches.
//!
//! Everything of it is in one bucket, so that one server of a cluster has it. The connections are
//! not those of events: an operator's question does not wait behind them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, RedisError, Value};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::address::Deployment;
use super::inbox::Inbox;
use super::keys::Keys;
use super::servers::Servers;
use super::trouble::Trouble;
use super::{START_PATIENCE, millis, value};
use crate::error::{Error, Result};

/// The bucket of everything that is not an event.
const BUCKET: u8 = 0;
/// The most bytes of messages that wait to be routed.
pub(super) const INBOX_BYTES: usize = 8 * 1024 * 1024;
/// How long a command may wait for Redis to come back.
const PATIENCE: Duration = Duration::from_secs(2);
/// Messages that wait to be received.
const WAITING: usize = 4096;
/// The pause between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Stores an entry until a time, unless it is there for longer. Removes some that have expired, and
/// tells all nodes.
/// KEYS: entries, their times. ARGV: name, value, time, topic.
const PUT: &str = "local now = redis.call('TIME') \
    now = now[1] * 1000 + math.floor(now[2] / 1000) \
    local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100) \
    for _, name in ipairs(old) do \
      redis.call('HDEL', KEYS[1], name) redis.call('ZREM', KEYS[2], name) end \
    local had = redis.call('ZSCORE', KEYS[2], ARGV[1]) \
    if had and tonumber(had) > tonumber(ARGV[3]) then return 0 end \
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) \
    redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) \
    redis.call('SPUBLISH', ARGV[4], 'e') return 1";
/// Removes entries that have expired. KEYS: entries, their times.
const PRUNE: &str = "local now = redis.call('TIME') \
    now = now[1] * 1000 + math.floor(now[2] / 1000) \
    local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000) \
    for _, name in ipairs(old) do \
      redis.call('HDEL', KEYS[1], name) redis.call('ZREM', KEYS[2], name) end \
    return #old";
/// Removes an entry and tells all nodes. KEYS: entries, their times. ARGV: name, topic.
const REMOVE: &str = "redis.call('ZREM', KEYS[2], ARGV[1]) \
    local gone = redis.call('HDEL', KEYS[1], ARGV[1]) \
    redis.call('SPUBLISH', ARGV[2], 'e') return gone";
/// Takes a lease, or renews an own one. KEYS: the lease. ARGV: owner, milliseconds.
const CLAIM: &str = "local owner = redis.call('GET', KEYS[1]) \
    if owner and owner ~= ARGV[1] then return 0 end \
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1";
/// Ends an own lease. KEYS: the lease. ARGV: owner.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    return redis.call('DEL', KEYS[1]) end return 0";

/// Called with each message for this process.
pub(super) type Receive = Box<dyn Fn(Bytes) + Send + Sync>;

/// The messages and entries of a cluster's nodes.
pub struct RedisBus {
    servers: Arc<Servers>,
    keys: Keys,
    /// This process, as the owner of claims.
    owner: String,
    wait_replicas: usize,
    /// The topics that this node listens to.
    topics: watch::Sender<Vec<String>>,
    /// Counts the times that all topics came into force.
    listening: watch::Sender<u64>,
    /// Messages for this node, or for all.
    messages: Mutex<Option<Receiver<Bytes>>>,
    changed: Arc<Notify>,
    tasks: Mutex<JoinSet<()>>,
}

impl RedisBus {
    /// Connects to Redis.
    ///
    /// # Errors
    /// Names the server and the problem.
    pub async fn open(
        urls: &[&str],
        name: &str,
        wait_replicas: usize,
    ) -> std::result::Result<Arc<Self>, Trouble> {
        let deployment = Deployment::parse(urls).map_err(|reason| Trouble::Unreachable {
            address: "cluster.redis.urls".to_owned(),
            reason,
        })?;
        let inbox = Inbox::new(INBOX_BYTES);
        let servers = Arc::new(Servers::new(deployment, Arc::clone(&inbox)));
        servers.connect(START_PATIENCE).await?;
        let keys = Keys::new(name);
        let topics = vec![keys.nodes_topic(BUCKET, None)];
        let (sender, messages) = channel(WAITING);
        let changed = Arc::<Notify>::default();
        let bus = Arc::new(RedisBus {
            servers: Arc::clone(&servers),
            keys,
            owner: format!("{:032x}", fastrand::u128(..)),
            wait_replicas,
            topics: watch::Sender::new(topics),
            listening: watch::Sender::new(0),
            messages: Mutex::new(Some(messages)),
            changed: Arc::clone(&changed),
            tasks: Mutex::default(),
        });
        let keeper = Arc::clone(&servers);
        let listener = Arc::downgrade(&bus);
        {
            let mut tasks = lock(&bus.tasks);
            tasks.spawn(async move { keeper.run().await });
            tasks.spawn(listen(listener));
            tasks.spawn(route(inbox, sender, changed));
        }
        bus.in_force().await;
        Ok(bus)
    }

    async fn in_force(&self) {
        let mut listening = self.listening.subscribe();
        let in_force = listening.wait_for(|count| *count > 0);
        // A node that is lost at once listens as soon as Redis is back.
        tokio::time::timeout(PATIENCE, in_force)
            .await
            .map(drop)
            .ok();
    }

    /// Calls `receive` for each message to this process, or to all, from now on. It must not block.
    /// Only the first call has an effect. Messages before it are dropped once many have gathered.
    pub async fn listen(&self, process: u64, receive: Receive) {
        let Some(mut messages) = lock(&self.messages).take() else {
            return;
        };
        lock(&self.tasks).spawn(async move {
            while let Some(message) = messages.recv().await {
                receive(message);
            }
        });
        self.listening.send_replace(0);
        let topic = self.keys.nodes_topic(BUCKET, Some(process));
        self.topics.send_modify(|topics| topics.push(topic));
        self.in_force().await;
    }

    /// Waits until an entry has changed, or may have while Redis was away.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The round trip of the server; `None` while it is away.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let map = self.servers.map()?;
        Some(map.of(BUCKET)?.round_trip())
    }

    /// Sends a message to a process, or to all. True if anybody listened.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub async fn send(&self, to: Option<u64>, message: &[u8]) -> Result<bool> {
        let mut command = redis::cmd("SPUBLISH");
        command.arg(self.keys.nodes_topic(BUCKET, to));
        command.arg([b"m", message].concat());
        Ok(self.run(&command).await? != Value::Int(0))
    }

    /// Claims a node's number for this process, or renews the claim. False if another process has
    /// it. The claim ends by itself after `lease`.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub async fn claim(&self, number: u16, lease: Duration) -> Result<bool> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(CLAIM)
            .arg(1)
            .arg(self.keys.node(BUCKET, number));
        command.arg(&self.owner).arg(millis(lease));
        Ok(self.run(&command).await? == Value::Int(1))
    }

    /// Gives a node's number back.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub async fn release(&self, number: u16) -> Result<()> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(RELEASE)
            .arg(1)
            .arg(self.keys.node(BUCKET, number));
        self.run(command.arg(&self.owner)).await.map(drop)
    }

    /// Stores an entry until a time, in milliseconds since 1970.
    ///
    /// # Errors
    /// `unavailable` while Redis is away, or too few replicas have it.
    pub async fn put(&self, name: &str, value: &[u8], until: u64) -> Result<()> {
        let [entries, times] = self.keys.entries(BUCKET);
        let mut command = redis::cmd("EVAL");
        command.arg(PUT).arg(2).arg(entries).arg(times);
        command.arg(name).arg(value).arg(until);
        command.arg(self.keys.nodes_topic(BUCKET, None));
        self.run(&command).await?;
        self.wait().await
    }

    /// Removes an entry. True if there was one.
    ///
    /// # Errors
    /// `unavailable` while Redis is away, or too few replicas have it.
    pub async fn remove(&self, name: &str) -> Result<bool> {
        let [entries, times] = self.keys.entries(BUCKET);
        let mut command = redis::cmd("EVAL");
        command.arg(REMOVE).arg(2).arg(entries).arg(times);
        command.arg(name).arg(self.keys.nodes_topic(BUCKET, None));
        let gone = self.run(&command).await? != Value::Int(0);
        self.wait().await?;
        Ok(gone)
    }

    /// Removes some entries that have expired.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub async fn prune(&self) -> Result<()> {
        let mut command = redis::cmd("EVAL");
        command.arg(PRUNE).arg(2).arg(&self.keys.entries(BUCKET));
        self.run(&command).await.map(drop)
    }

    /// All entries. Some may have expired.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub async fn entries(&self) -> Result<Vec<Vec<u8>>> {
        let [entries, _] = self.keys.entries(BUCKET);
        let mut command = redis::cmd("HVALS");
        let answer = self.run(command.arg(entries)).await?;
        let values = answer.into_sequence().unwrap_or_default();
        Ok(values.into_iter().filter_map(value::bytes).collect())
    }

    /// Waits until replicas have what was written.
    async fn wait(&self) -> Result<()> {
        if self.wait_replicas == 0 {
            return Ok(());
        }
        let mut command = redis::cmd("WAIT");
        command.arg(self.wait_replicas).arg(millis(PATIENCE));
        let reached = value::count(&self.run(&command).await?).unwrap_or(0);
        if reached < self.wait_replicas {
            return Err(Error::unavailable(
                "too few replicas of Redis have it (cluster.redis.wait_replicas)",
            ));
        }
        Ok(())
    }

    /// The keys of the cursors of durable subscriptions.
    pub(super) fn cursor_keys(&self) -> [String; 3] {
        self.keys.cursors(BUCKET)
    }

    /// Runs a command that may be repeated.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut last: Option<RedisError> = None;
        loop {
            let server = self.servers.map().and_then(|map| map.of(BUCKET).cloned());
            if let Some(server) = server {
                match server.command(command).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = Some(error),
                }
                self.servers.look_again();
            }
            if tokio::time::Instant::now() >= deadline {
                let error = last.map_or_else(String::new, |error| format!(": {error}"));
                tracing::debug!(error, "the cluster engine is unavailable");
                return Err(Error::unavailable("Redis is away").retry_after(PATIENCE));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut();
        tasks.unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Passes on what arrives. Never returns.
async fn route(inbox: Arc<Inbox>, messages: Sender<Bytes>, changed: Arc<Notify>) {
    loop {
        let taken = inbox.take().await;
        if taken.overflowed {
            changed.notify_one();
        }
        for message in taken.messages {
            if message.first() == Some(&b'm') {
                // A message that does not fit is lost, as if the node were not reached.
                messages.try_send(message.slice(1..)).unwrap_or_default();
            } else {
                changed.notify_one();
            }
        }
    }
}

/// Keeps the subscriptions on the server that has the bucket.
async fn listen(bus: std::sync::Weak<RedisBus>) {
    let Some((mut maps, mut topics)) = bus
        .upgrade()
        .map(|bus| (bus.servers.watch(), bus.topics.subscribe()))
    else {
        return;
    };
    let mut on = (0, 0);
    loop {
        let Some(bus) = bus.upgrade() else { return };
        let wanted = topics.borrow_and_update().clone();
        maps.mark_unchanged();
        let server = bus.servers.map().and_then(|map| map.of(BUCKET).cloned());
        if let Some(server) = server
            && on != (server.id, wanted.len())
        {
            if server.subscribe(&wanted).await.is_err() {
                bus.servers.look_again();
                drop(bus);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            // Entries may have changed while nobody listened.
            if on.0 != server.id {
                bus.changed.notify_one();
            }
            on = (server.id, wanted.len());
            bus.listening.send_modify(|count| *count += 1);
        }
        drop(bus);
        let changed = tokio::select! {
            changed = maps.changed() => changed,
            changed = topics.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
