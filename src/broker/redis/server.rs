//! One Redis server: a connection for commands and one for messages.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, PushInfo, PushKind};
use redis::{RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::inbox::Inbox;
use super::scripts::Scripts;
use super::trouble::Trouble;
use super::value;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take. Then nobody knows whether the command was carried out, and the
/// connection is replaced.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests on the way to the connection's task.
const PIPELINED: usize = 1024;

/// The number of each server object of this process, so that a new connection is told from the
/// one that it replaces.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A server. It serves until a connection is lost, and is then replaced by another object.
pub(super) struct Server {
    /// Unique in this process.
    pub(super) id: u64,
    pub(super) address: String,
    /// Identifies the process of the server.
    pub(super) run: String,
    /// True if it is a member of a cluster.
    pub(super) is_clustered: bool,
    commands: MultiplexedConnection,
    live: MultiplexedConnection,
    state: Arc<State>,
    replicas: AtomicUsize,
    /// The round trip of the last probe, in microseconds.
    round_trip: AtomicU64,
    alive_at: AtomicU64,
}

/// What the connections' tasks write.
#[derive(Default)]
struct State {
    lost: AtomicBool,
    /// Topics that are being unsubscribed from. The server ends other subscriptions when it no
    /// longer serves their slot.
    leaving: Mutex<HashSet<Vec<u8>>>,
}

impl Server {
    /// Connects, checks that the server can be used, and loads the scripts.
    pub(super) async fn connect(
        info: &ConnectionInfo,
        scripts: &Scripts,
        inbox: &Arc<Inbox>,
        changed: &Arc<Notify>,
    ) -> Result<Self, Trouble> {
        let address = info.addr().to_string();
        let state = Arc::new(State::default());
        let trouble = |error: RedisError| Trouble::of(&address, &error);
        let client = Client::open(info.clone()).map_err(trouble)?;
        let open = async |inbox: Option<Arc<Inbox>>| {
            let (state, changed) = (Arc::clone(&state), Arc::clone(changed));
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(ANSWER_TIMEOUT))
                .set_pipeline_buffer_size(PIPELINED)
                .set_push_sender(move |push: PushInfo| {
                    if state.takes(push, inbox.as_deref()) {
                        changed.notify_one();
                    }
                    Ok::<(), redis::aio::SendError>(())
                });
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            connecting.await
        };
        let mut commands = open(None).await.map_err(trouble)?;
        let facts = inspect(&mut commands, &address).await?;
        let load = scripts.load();
        let (offset, count) = (0, load.len());
        let loaded = commands.send_packed_commands(&load, offset, count);
        for answer in loaded.await.map_err(trouble)? {
            if let Value::ServerError(error) = answer {
                return Err(trouble(error.into()));
            }
        }
        let live = open(Some(Arc::clone(inbox))).await.map_err(trouble)?;
        Ok(Server {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            run: facts.run,
            is_clustered: facts.is_clustered,
            replicas: AtomicUsize::new(facts.replicas),
            round_trip: AtomicU64::new(0),
            alive_at: AtomicU64::new(facts.time),
            commands,
            live,
            state,
            address,
        })
    }

    /// True if a connection was lost.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// The replicas that were connected at the last probe.
    pub(super) fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    /// The round trip of the last probe.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    /// Replaces the connections as soon as possible.
    pub(super) fn give_up(&self) {
        self.state.lost.store(true, Ordering::Release);
    }

    /// Runs a command.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.commands.clone();
        match connection.send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(error.into()),
            Ok(value) => Ok(value),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Runs several commands, and answers for each.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, RedisError> {
        let mut connection = self.commands.clone();
        let answers = connection
            .send_packed_commands(commands, 0, commands.len())
            .await;
        if let Err(error) = &answers {
            self.failed(error);
        }
        answers
    }

    fn failed(&self, error: &RedisError) {
        if error.is_timeout() || error.is_unrecoverable_error() {
            self.give_up();
        }
    }

    /// Subscribes the live connection to sharded topics. Returns once that is in force.
    pub(super) async fn subscribe(&self, topics: &[String]) -> Result<(), RedisError> {
        self.live_commands("SSUBSCRIBE", topics).await
    }

    /// Ends subscriptions to sharded topics.
    pub(super) async fn unsubscribe(&self, topics: &[String]) -> Result<(), RedisError> {
        {
            let mut leaving = self.state.leaving();
            leaving.extend(topics.iter().map(|topic| topic.clone().into_bytes()));
        }
        self.live_commands("SUNSUBSCRIBE", topics).await
    }

    /// One command for each topic: they may be in several slots, and each has one answer.
    async fn live_commands(&self, name: &str, topics: &[String]) -> Result<(), RedisError> {
        let mut commands = redis::pipe();
        for topic in topics {
            commands.cmd(name).arg(topic);
        }
        let mut connection = self.live.clone();
        let sent = connection.send_packed_commands(&commands, 0, topics.len());
        let answers = sent.await.inspect_err(|error| self.failed(error))?;
        for answer in answers {
            if let Value::ServerError(error) = answer {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Asks whether the server is still the master and answers in time. Otherwise, it is lost.
    pub(super) async fn probe(&self) {
        let began = Instant::now();
        let question = info("replication");
        match timeout(PROBE_TIMEOUT, self.command(&question)).await {
            Ok(Ok(answer)) => {
                let text = text(answer);
                if field(&text, "role") != Some("master") {
                    self.give_up();
                }
                self.replicas.store(replicas(&text), Ordering::Relaxed);
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.round_trip.store(took, Ordering::Relaxed);
            }
            Ok(Err(_)) | Err(_) => self.give_up(),
        }
        let mut live = self.live.clone();
        let question = redis::cmd("TIME");
        let answer = timeout(PROBE_TIMEOUT, live.send_packed_command(&question)).await;
        let time = answer.ok().and_then(Result::ok);
        let time = time.and_then(|time| redis::from_redis_value::<(u64, u64)>(time).ok());
        match time {
            Some((seconds, micros)) => {
                let millis = seconds * 1000 + micros / 1000;
                self.alive_at.store(millis, Ordering::Relaxed);
            }
            None => self.give_up(),
        }
    }

    /// The server's time at the last probe, in milliseconds: every message that it had sent before
    /// has arrived.
    pub(super) fn alive_at(&self) -> u64 {
        self.alive_at.load(Ordering::Relaxed)
    }

    /// Loads the scripts again: somebody has erased them.
    pub(super) async fn load(&self, scripts: &Scripts) -> Result<(), RedisError> {
        self.pipeline(&scripts.load()).await.map(drop)
    }
}

impl State {
    fn leaving(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the server pushes. True if the connections have to be replaced.
    fn takes(&self, push: PushInfo, inbox: Option<&Inbox>) -> bool {
        if push.kind == PushKind::SMessage {
            let payload = push.data.into_iter().nth(1).and_then(value::bytes);
            if let (Some(inbox), Some(payload)) = (inbox, payload) {
                inbox.push(payload.into());
            }
            return false;
        }
        let is_lost = match push.kind {
            PushKind::SUnsubscribe => {
                let topic = push.data.into_iter().next().and_then(value::bytes);
                topic.is_some_and(|topic| !self.leaving().remove(&topic))
            }
            kind => kind == PushKind::Disconnection,
        };
        if is_lost {
            self.lost.store(true, Ordering::Release);
        }
        is_lost
    }
}

/// What a server says of itself.
struct Facts {
    run: String,
    is_clustered: bool,
    replicas: usize,
    /// In milliseconds.
    time: u64,
}

/// Checks that a server can be used.
async fn inspect(connection: &mut MultiplexedConnection, address: &str) -> Result<Facts, Trouble> {
    let mut questions = redis::pipe();
    for section in ["server", "replication", "memory", "cluster"] {
        questions.add_command(info(section));
    }
    let check = ["INFO", "SPUBLISH", "SSUBSCRIBE"];
    questions.cmd("COMMAND").arg(&check).cmd("TIME");
    let answers = connection
        .send_packed_commands(&questions, 0, questions.len())
        .await
        .map_err(|error| Trouble::of(address, &error))?;
    let mut answers = answers.into_iter();
    let mut next = || match answers.next() {
        Some(Value::ServerError(error)) => Err(Trouble::of(address, &error.into())),
        Some(answer) => Ok(answer),
        None => Ok(Value::Nil),
    };
    let (server, replication) = (text(next()?), text(next()?));
    let (memory, cluster) = (text(next()?), text(next()?));
    if let Some(version) = too_old(&server) {
        let address = address.to_owned();
        return Err(Trouble::TooOld { address, version });
    }
    let commands = next()?;
    let time: (u64, u64) = redis::from_redis_value(next()?).unwrap_or_default();
    let address = address.to_owned();
    if commands
        .as_sequence()
        .is_none_or(|known| known.contains(&Value::Nil))
    {
        return Err(Trouble::NoShardedPubSub { address });
    }
    if field(&replication, "role") != Some("master") {
        return Err(Trouble::Replica { address });
    }
    let policy = field(&memory, "maxmemory_policy").unwrap_or("noeviction");
    if field(&memory, "maxmemory").is_some_and(|most| most != "0") && policy != "noeviction" {
        let policy = policy.to_owned();
        return Err(Trouble::Evicts { address, policy });
    }
    Ok(Facts {
        time: time.0 * 1000 + time.1 / 1000,
        run: field(&server, "run_id").unwrap_or_default().to_owned(),
        is_clustered: field(&cluster, "cluster_enabled") == Some("1"),
        replicas: replicas(&replication),
    })
}

/// The version, if it is below Redis 7.0 or Valkey 7.2.
fn too_old(server: &str) -> Option<String> {
    let version = field(server, "redis_version").unwrap_or("0");
    let major: u32 = version.split('.').next()?.parse().unwrap_or(0);
    (major < 7).then(|| version.to_owned())
}

fn replicas(replication: &str) -> usize {
    let count = field(replication, "connected_slaves");
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn info(section: &str) -> Cmd {
    let mut command = redis::cmd("INFO");
    command.arg(section);
    command
}

fn text(answer: Value) -> String {
    redis::from_redis_value(answer).unwrap_or_default()
}

/// A field of an answer to `INFO`.
fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_sharded_pubsub_are_too_old() {
        for (server, expected) in [
            ("redis_version:6.2.14\r\n", true),
            ("redis_version:7.0.0\r\n", false),
            (
                "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n",
                false,
            ),
            ("nothing", true),
        ] {
            assert_eq!(too_old(server).is_some(), expected, "{server}");
        }
    }

    #[test]
    fn an_unasked_unsubscription_loses_the_server() {
        let state = State::default();
        state.leaving().insert(b"mine".to_vec());
        let push = |topic: &str| PushInfo {
            kind: PushKind::SUnsubscribe,
            data: vec![Value::BulkString(topic.into()), Value::Int(0)],
        };
        assert!(!state.takes(push("mine"), None));
        assert!(!state.lost.load(Ordering::Acquire));
        assert!(state.takes(push("moved"), None));
        assert!(state.lost.load(Ordering::Acquire));
    }
}
