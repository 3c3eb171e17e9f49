//! The servers that serve the buckets, kept connected.
//!
//! A standalone server and a Sentinel's master serve all buckets, the masters of a Redis Cluster
//! one part each. One task discovers them, probes them each second, and replaces what is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{ConnectionInfo, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::address::{Deployment, moved};
use super::inbox::Inbox;
use super::keys::{BUCKETS, slot};
use super::scripts::Scripts;
use super::server::Server;
use super::trouble::Trouble;
use super::value::{self, text};

/// How often servers are probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a cluster is asked which server serves which slots, and a Sentinel who the master is.
/// Redirections and lost connections tell sooner.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// The first pause between attempts to connect. It doubles up to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Which server serves which bucket.
pub(super) struct Map {
    pub(super) servers: Vec<Arc<Server>>,
    /// For each bucket an index of `servers`.
    buckets: Vec<usize>,
}

impl Map {
    /// The server of a bucket.
    pub(super) fn of(&self, bucket: u8) -> Option<&Arc<Server>> {
        self.servers.get(*self.buckets.get(usize::from(bucket))?)
    }

    fn is_like(&self, other: &Map) -> bool {
        let ids = |map: &Map| {
            map.servers
                .iter()
                .map(|server| server.id)
                .collect::<Vec<_>>()
        };
        ids(self) == ids(other) && self.buckets == other.buckets
    }
}

/// The connected servers.
pub(super) struct Servers {
    deployment: Deployment,
    pub(super) scripts: Scripts,
    inbox: Arc<Inbox>,
    /// A server was lost, or a bucket has moved.
    changed: Arc<Notify>,
    map: watch::Sender<Option<Arc<Map>>>,
    trouble: Mutex<Option<Trouble>>,
    /// Until when messages of a server that was lost have arrived, by its clock. 0 if none was.
    outage: AtomicU64,
}

impl Servers {
    pub(super) fn new(deployment: Deployment, inbox: Arc<Inbox>) -> Self {
        Servers {
            deployment,
            scripts: Scripts::new(),
            inbox,
            changed: Arc::default(),
            map: watch::Sender::new(None),
            trouble: Mutex::default(),
            outage: AtomicU64::new(0),
        }
    }

    /// The servers. `None` while one of them is away.
    pub(super) fn map(&self) -> Option<Arc<Map>> {
        self.map.borrow().clone()
    }

    /// Notifies of every change of the servers.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Map>>> {
        self.map.subscribe()
    }

    /// Since when messages may have been lost, in milliseconds of the server's clock. Then starts
    /// anew.
    pub(super) fn take_outage(&self) -> Option<u64> {
        Some(self.outage.swap(0, Ordering::AcqRel)).filter(|since| *since > 0)
    }

    /// Notes that messages may have been lost since the last probe of a lost server.
    fn note_outage(&self) {
        let Some(map) = self.map() else { return };
        let lost = map.servers.iter().filter(|server| server.is_lost());
        let Some(since) = lost.map(|server| server.alive_at()).min() else {
            return;
        };
        let earlier = |known: u64| match known {
            0 => since,
            known => known.min(since),
        };
        let update = |known| Some(earlier(known));
        self.outage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update)
            .unwrap_or_default();
    }

    /// Discovers the servers again soon.
    pub(super) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Connects for the first time.
    ///
    /// # Errors
    /// What is wrong, at once where waiting would not help.
    pub(super) async fn connect(&self, patience: Duration) -> Result<(), Trouble> {
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.discover().await {
                Ok(map) => {
                    self.publish(Some(map));
                    return Ok(());
                }
                Err(trouble) if !trouble.may_pass() || began.elapsed() >= patience => {
                    return Err(trouble);
                }
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps the servers connected. Never returns.
    pub(super) async fn run(&self) {
        let mut probes = interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked_at = Instant::now();
        loop {
            let asked = tokio::select! {
                () = self.changed.notified() => true,
                _ = probes.tick() => false,
            };
            if !asked {
                self.probe().await;
            }
            let is_due = self.may_move() && asked_at.elapsed() >= ASK_INTERVAL;
            if asked || is_due || self.is_incomplete() {
                self.renew().await;
                asked_at = Instant::now();
            }
        }
    }

    /// True if others than the servers themselves decide who serves.
    fn may_move(&self) -> bool {
        let is_member = |server: &Arc<Server>| server.is_clustered;
        matches!(self.deployment, Deployment::Sentinel { .. })
            || self
                .map()
                .is_some_and(|map| map.servers.iter().any(is_member))
    }

    fn is_incomplete(&self) -> bool {
        self.map()
            .is_none_or(|map| map.servers.iter().any(|server| server.is_lost()))
    }

    async fn probe(&self) {
        let Some(map) = self.map() else { return };
        let mut probes = JoinSet::new();
        for server in &map.servers {
            let server = Arc::clone(server);
            probes.spawn(async move { server.probe().await });
        }
        while probes.join_next().await.is_some() {}
    }

    /// Discovers the servers until all are there.
    async fn renew(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.is_incomplete() {
                self.note_outage();
                self.publish(None);
            }
            match self.discover().await {
                Ok(map) => return self.publish(Some(map)),
                // Nobody tells who serves, and everybody still does.
                Err(_) if !self.is_incomplete() => return,
                Err(trouble) => self.report(trouble),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn report(&self, trouble: Trouble) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&trouble) {
            tracing::warn!(%trouble, "the cluster engine is unavailable");
        }
        *known = Some(trouble);
    }

    fn publish(&self, map: Option<Map>) {
        if map.is_some() {
            let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if known.take().is_some() {
                tracing::info!("the cluster engine is available again");
            }
        }
        self.map.send_if_modified(|current| {
            let is_same = match (&*current, &map) {
                (Some(old), Some(new)) => old.is_like(new),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !is_same {
                *current = map.map(Arc::new);
            }
            !is_same
        });
    }

    async fn discover(&self) -> Result<Map, Trouble> {
        match &self.deployment {
            Deployment::One(info) => {
                let server = self.server(info).await?;
                if server.is_clustered {
                    return self.cluster(info, &server).await;
                }
                Ok(whole(server))
            }
            Deployment::Cluster(seeds) => {
                let mut trouble = None;
                for seed in seeds {
                    match self.cluster_of(seed).await {
                        Ok(map) => return Ok(map),
                        Err(error) => trouble = trouble.or(Some(error)),
                    }
                }
                Err(trouble.unwrap_or_else(|| Trouble::Incomplete {
                    address: String::new(),
                }))
            }
            Deployment::Sentinel {
                sentinels,
                master,
                server,
            } => {
                let info = master_of(sentinels, master, server).await?;
                Ok(whole(self.server(&info).await?))
            }
        }
    }

    /// A connected server, the same as before where it is not lost.
    async fn server(&self, info: &ConnectionInfo) -> Result<Arc<Server>, Trouble> {
        let address = info.addr().to_string();
        let known = self.map.borrow().as_ref().and_then(|map| {
            let mut servers = map.servers.iter();
            let same = servers.find(|server| server.address == address && !server.is_lost());
            same.cloned()
        });
        if let Some(server) = known {
            return Ok(server);
        }
        let server = Server::connect(info, &self.scripts, &self.inbox, &self.changed).await?;
        Ok(Arc::new(server))
    }

    async fn cluster_of(&self, seed: &ConnectionInfo) -> Result<Map, Trouble> {
        let slots = match self.server(seed).await {
            Ok(server) if server.is_clustered => return self.cluster(seed, &server).await,
            Ok(server) => {
                let address = server.address.clone();
                return Err(Trouble::NoCluster { address });
            }
            // A replica of a cluster knows the masters as well.
            Err(Trouble::Replica { .. }) => ask(seed, &cluster_slots()).await?,
            Err(trouble) => return Err(trouble),
        };
        self.masters(seed, slots).await
    }

    async fn cluster(&self, seed: &ConnectionInfo, server: &Server) -> Result<Map, Trouble> {
        let slots = server.command(&cluster_slots()).await;
        let slots = slots.map_err(|error| Trouble::of(&server.address, &error))?;
        self.masters(seed, slots).await
    }

    /// Connects to the masters in an answer to `CLUSTER SLOTS`.
    async fn masters(&self, seed: &ConnectionInfo, slots: Value) -> Result<Map, Trouble> {
        let seed_host = host(seed);
        let ranges = parse_slots(&slots, &seed_host);
        let mut servers: Vec<Arc<Server>> = Vec::new();
        let mut places: HashMap<(String, u16), usize> = HashMap::new();
        let mut buckets = Vec::with_capacity(usize::from(BUCKETS));
        for bucket in 0..=u8::MAX {
            let slot = slot(bucket);
            let range = ranges
                .iter()
                .find(|range| range.first <= slot && slot <= range.last);
            let Some(range) = range else {
                let address = seed.addr().to_string();
                return Err(Trouble::Incomplete { address });
            };
            let master = (range.host.clone(), range.port);
            let place = match places.get(&master) {
                Some(place) => *place,
                None => {
                    let info = moved(seed, &range.host, range.port);
                    servers.push(self.server(&info).await?);
                    places.insert(master, servers.len() - 1);
                    servers.len() - 1
                }
            };
            buckets.push(place);
        }
        Ok(Map { servers, buckets })
    }
}

/// One server for all buckets.
fn whole(server: Arc<Server>) -> Map {
    Map {
        servers: vec![server],
        buckets: vec![0; usize::from(BUCKETS)],
    }
}

fn host(info: &ConnectionInfo) -> String {
    let address = info.addr().to_string();
    let host = address.rsplit_once(':').map(|(host, _)| host.to_owned());
    host.unwrap_or(address)
}

fn cluster_slots() -> redis::Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// Slots of one master.
#[derive(Debug, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    last: u16,
    host: String,
    port: u16,
}

/// Reads an answer to `CLUSTER SLOTS`: for each range its ends and its nodes, the master first. A
/// master without a name has the one that was asked.
fn parse_slots(answer: &Value, seed: &str) -> Vec<SlotRange> {
    let range = |value: &Value| {
        let parts = value.as_sequence()?;
        let master = parts.get(2)?.as_sequence()?;
        let host = text(master.first()?.clone()).unwrap_or_default();
        let host = match host.as_str() {
            "" | "?" => seed.to_owned(),
            _ => host,
        };
        Some(SlotRange {
            first: number(parts.first()?)?,
            last: number(parts.get(1)?)?,
            host,
            port: number(master.get(1)?)?,
        })
    };
    let ranges = answer.as_sequence().unwrap_or_default();
    ranges.iter().filter_map(range).collect()
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value::count(value)?).ok()
}

/// One question over a connection of its own.
async fn ask(info: &ConnectionInfo, question: &redis::Cmd) -> Result<Value, Trouble> {
    let trouble = |error| Trouble::of(&info.addr().to_string(), &error);
    let client = redis::Client::open(info.clone()).map_err(trouble)?;
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(1)));
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.map_err(trouble)?;
    match connection.send_packed_command(question).await {
        Ok(Value::ServerError(error)) => Err(trouble(error.into())),
        Ok(answer) => Ok(answer),
        Err(error) => Err(trouble(error)),
    }
}

/// Asks the Sentinels in turn who the master is.
async fn master_of(
    sentinels: &[ConnectionInfo],
    master: &str,
    server: &ConnectionInfo,
) -> Result<ConnectionInfo, Trouble> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let mut trouble = None;
    for sentinel in sentinels {
        match ask(sentinel, &question).await {
            Ok(answer) => {
                let parts: Result<(String, u16), _> = redis::from_redis_value(answer);
                if let Ok((host, port)) = parts {
                    return Ok(moved(server, &host, port));
                }
            }
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    let master = master.to_owned();
    Err(trouble.unwrap_or(Trouble::NoMaster { master }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_with_the_master_first() {
        let node = |host: Value, port| {
            let id = Value::BulkString(b"id".to_vec());
            Value::Array(vec![host, Value::Int(port), id])
        };
        let named = Value::BulkString(b"10.0.0.1".to_vec());
        let answer = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(8191),
                node(named.clone(), 7000),
                node(named, 7003),
            ]),
            Value::Array(vec![
                Value::Int(8192),
                Value::Int(16383),
                node(Value::Nil, 7001),
            ]),
        ]);
        let range = |first, last, host: &str, port| SlotRange {
            first,
            last,
            host: host.to_owned(),
            port,
        };
        assert_eq!(
            parse_slots(&answer, "seed"),
            [
                range(0, 8191, "10.0.0.1", 7000),
                range(8192, 16383, "seed", 7001)
            ]
        );
    }
}
