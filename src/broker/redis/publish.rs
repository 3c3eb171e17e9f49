//! Publishing: from the caller's thread over a lane to the script.
//!
//! A lane sends what has gathered as one pipeline, and the next one once that is answered. A
//! channel has one lane, so its events keep the order in which they were published.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::keys::bucket;
use super::message::{self, Count};
use super::server::{ANSWER_TIMEOUT, Server};
use super::{Refusal, Shared, away, fresh, millis, number, refusal, value};
use crate::broker::Receipt;
use crate::broker::keys::{KEY_TTL, KeyShare, ScopedKey};
use crate::broker::record::{EventRecord, seal};
use crate::error::{Error, Result};
use crate::event::{AcceptedAt, ChannelName, Draft, Event, HistoryPolicy, Position};
use crate::maybe_ready::MaybeReady;

const LANES: u8 = 8;
/// The most events of one pipeline, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// The most events that wait in all lanes, and their bytes.
const MOST_WAITING: usize = 20_000;
pub(super) const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Channels without history whose last number a lane remembers.
const COUNTED: usize = 16_384;

/// The queues to the lanes.
pub(super) struct Lanes {
    senders: Vec<UnboundedSender<Job>>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    done: Notify,
    /// The last number of an event without an offset.
    numbers: AtomicU64,
}

impl Lanes {
    pub(super) fn new() -> (Self, Vec<UnboundedReceiver<Job>>) {
        let (senders, queues) = (0..LANES).map(|_| unbounded_channel()).unzip();
        let lanes = Lanes {
            senders,
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            done: Notify::new(),
            numbers: AtomicU64::new(0),
        };
        (lanes, queues)
    }

    /// The bytes of the events that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until every accepted publish is answered.
    pub(super) async fn finish(&self) {
        loop {
            let done = self.done.notified();
            if self.waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            // The notification comes with every answer; it may have come in between.
            tokio::time::timeout(Duration::from_millis(100), done)
                .await
                .ok();
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = waiting < MOST_WAITING && held + bytes <= MOST_BYTES;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        self.done.notify_waiters();
    }
}

/// An event to publish.
pub(super) struct Job {
    target: Target,
    id: Uuid,
    record: Vec<u8>,
    accepted: AcceptedAt,
    subscribers: u64,
    key: Option<Key>,
    answer: oneshot::Sender<Result<Receipt>>,
}

enum Target {
    Kept {
        channel: ChannelName,
        policy: HistoryPolicy,
        keep: Duration,
        weight: usize,
    },
    Plain {
        channel: ChannelName,
    },
    Direct,
}

struct Key {
    digest: String,
    /// None if there is no space for another key: only a repeat is answered then.
    share: Option<KeyShare>,
    refusal: Option<Error>,
}

impl Target {
    fn channel(&self) -> Option<&ChannelName> {
        match self {
            Target::Kept { channel, .. } | Target::Plain { channel } => Some(channel),
            Target::Direct => None,
        }
    }

    fn bucket(&self, shared: &Shared) -> u8 {
        self.channel().map_or_else(|| shared.own_bucket(), bucket)
    }
}

/// Puts an event into its lane.
pub(super) fn publish(shared: &Arc<Shared>, mut draft: Draft) -> MaybeReady<Receipt> {
    match enqueue(shared, &mut draft) {
        Ok(answer) => MaybeReady::later(async move {
            let lost = || Error::unavailable("the server stops");
            answer.await.unwrap_or_else(|_| Err(lost()))
        }),
        Err(error) => MaybeReady::Ready(Err(error)),
    }
}

fn enqueue(shared: &Arc<Shared>, draft: &mut Draft) -> Result<oneshot::Receiver<Result<Receipt>>> {
    if shared.is_closed.load(Ordering::Acquire) {
        return Err(Error::unavailable("the server stops"));
    }
    if shared.servers.map().is_none() {
        return Err(away());
    }
    let key = draft.idempotency_key.take();
    let (id, accepted) = (draft.id, draft.accepted);
    let subscribers = shared.sink().map_or(0, |sink| sink.subscribers(draft));
    let channel = draft.channel.clone();
    let key = match (&channel, key) {
        (Some(channel), Some(key)) => {
            let scoped = ScopedKey::new(channel, &key);
            let (share, refusal) = match shared.shares.take(&scoped) {
                Ok(share) => (Some(share), None),
                Err(error) => (None, Some(error)),
            };
            Some(Key {
                digest: scoped.digest(),
                share,
                refusal,
            })
        }
        _ => None,
    };
    let event = Event::new(draft.clone(), None);
    let seal_key = channel.as_ref().map_or("", |channel| channel.as_str());
    let record = EventRecord::new(&event, 0, 0).for_nodes(accepted, None);
    let record = seal(seal_key.as_bytes(), &record);
    let target = match channel {
        None => Target::Direct,
        Some(channel) => {
            let policy = shared.policy(&channel);
            let keep = shared.keep(&channel);
            if policy.size == 0 {
                shared.known.forget(&channel);
                Target::Plain { channel }
            } else {
                let until = shared.clock.now() + millis(keep);
                if !shared.known.touch(&channel, until) {
                    return Err(too_many_channels());
                }
                let weight = event.weight();
                Target::Kept {
                    channel,
                    policy,
                    keep,
                    weight,
                }
            }
        }
    };
    if !shared.lanes.take(record.len()) {
        shared.metrics.limit_reached("publish_queue");
        return Err(
            Error::exhausted("too much waits to be stored").retry_after(Duration::from_millis(500))
        );
    }
    let (answer, later) = oneshot::channel();
    let lane = usize::from(target.bucket(shared) % LANES);
    let job = Job {
        target,
        id,
        record,
        accepted,
        subscribers,
        key,
        answer,
    };
    if let Some(lane) = shared.lanes.senders.get(lane)
        && let Err(unsent) = lane.send(job)
    {
        unsent
            .0
            .finish(shared, Err(Error::unavailable("the server stops")));
    }
    Ok(later)
}

pub(super) fn too_many_channels() -> Error {
    Error::exhausted("too many channels (limits.channels)").retry_after(Duration::from_secs(10))
}

fn unknown() -> Error {
    Error::unavailable(
        "Redis did not answer: its outcome is not known. The same idempotency key makes a repeat safe",
    )
    .retry_after(Duration::from_secs(1))
}

impl Job {
    /// Answers the publisher.
    fn finish(self, shared: &Shared, result: Result<Receipt>) {
        let is_new = result.as_ref().is_ok_and(|receipt| !receipt.duplicate);
        if is_new {
            shared.metrics.cluster().sent(1);
            if matches!(self.target, Target::Kept { .. }) {
                shared.metrics.publish_commit(self.accepted);
            }
        }
        if let Some(share) = self.key.and_then(|key| key.share)
            // Where the outcome is not known, Redis may hold the key.
            && !matches!(&result, Ok(receipt) if receipt.duplicate)
        {
            shared.reserve(share);
        }
        shared.lanes.give_back(self.record.len());
        // A publisher that has gone wants no answer.
        self.answer.send(result).unwrap_or_default();
    }

    fn command(&self, shared: &Shared, run: &str, count: Count) -> Cmd {
        let scripts = &shared.servers.scripts;
        let (generation, epoch) = (fresh(), fresh());
        let id = self.id.to_string();
        let key_ttl = millis(KEY_TTL).to_string();
        let only_repeat = match &self.key {
            Some(Key { share: None, .. }) => "1",
            _ => "0",
        };
        let keys_of = |channel: &ChannelName| {
            let bucket = bucket(channel);
            let mut keys = vec![
                shared.keys.generation(bucket),
                shared.keys.channel(channel),
                shared.keys.stream(channel),
                shared.keys.index(bucket),
            ];
            if let Some(key) = &self.key {
                keys.push(shared.keys.idempotency(channel, &key.digest));
            }
            keys
        };
        match &self.target {
            Target::Kept {
                channel,
                policy,
                keep,
                weight,
            } => {
                let [own, namespace, all] = shared.keys.topics(channel);
                scripts.publish.command(
                    &keys_of(channel),
                    &[
                        run.as_bytes(),
                        generation.as_bytes(),
                        epoch.as_bytes(),
                        &self.record,
                        id.as_bytes(),
                        number(policy.size).as_bytes(),
                        millis(policy.ttl).to_string().as_bytes(),
                        number(policy.bytes).as_bytes(),
                        number(*weight).as_bytes(),
                        millis(*keep).to_string().as_bytes(),
                        shared.clock.skew().to_string().as_bytes(),
                        shared.hold().as_bytes(),
                        key_ttl.as_bytes(),
                        only_repeat.as_bytes(),
                        channel.as_str().as_bytes(),
                        own.as_bytes(),
                        namespace.as_bytes(),
                        all.as_bytes(),
                    ],
                )
            }
            Target::Plain { channel } => {
                let [own, namespace, all] = shared.keys.topics(channel);
                scripts.plain.command(
                    &keys_of(channel),
                    &[
                        run.as_bytes(),
                        generation.as_bytes(),
                        &self.record,
                        id.as_bytes(),
                        key_ttl.as_bytes(),
                        only_repeat.as_bytes(),
                        channel.as_str().as_bytes(),
                        count.text().as_bytes(),
                        own.as_bytes(),
                        namespace.as_bytes(),
                        all.as_bytes(),
                    ],
                )
            }
            Target::Direct => {
                let mut command = redis::cmd("SPUBLISH");
                command.arg(shared.keys.direct_topic(shared.own_bucket()));
                command.arg(message::direct(&self.record));
                command
            }
        }
    }

    /// The receipt in the script's answer.
    fn receipt(&self, answer: Value) -> Outcome {
        if matches!(self.target, Target::Direct) {
            return Outcome::Done(Receipt {
                id: self.id,
                position: None,
                subscribers: self.subscribers,
                duplicate: false,
            });
        }
        let parts: Vec<String> = redis::from_redis_value(answer).unwrap_or_default();
        let [generation, kind, rest @ ..] = parts.as_slice() else {
            return Outcome::Refused(Error::internal("Redis answered something else"));
        };
        if kind == "full" {
            let refusal = self.key.as_ref().and_then(|key| key.refusal.clone());
            return Outcome::Refused(refusal.unwrap_or_else(|| Error::exhausted("too many keys")));
        }
        let first = rest.first().map(String::as_str).unwrap_or_default();
        let mut words = first.split(' ');
        let (own, offset) = (words.next().unwrap_or_default(), words.next());
        let offset = offset.and_then(|offset| offset.parse().ok()).unwrap_or(0);
        let id = words.next().and_then(|id| id.parse().ok());
        Outcome::Done(Receipt {
            id: id.unwrap_or(self.id),
            position: (offset > 0).then(|| Position {
                epoch: message::epoch(generation, own),
                offset,
            }),
            subscribers: self.subscribers,
            duplicate: kind == "repeat",
        })
    }
}

/// What became of one event.
enum Outcome {
    Done(Receipt),
    Refused(Error),
    Again,
}

/// One lane. Ends when the broker is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut queue: UnboundedReceiver<Job>) {
    let mut counts: HashMap<ChannelName, u64> = HashMap::new();
    while let Some(first) = queue.recv().await {
        let mut bytes = first.record.len();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.record.len();
            batch.push(next);
        }
        send(&shared, batch, &mut counts).await;
    }
}

/// Sends a batch, each part to its server, until each event is answered.
async fn send(shared: &Arc<Shared>, mut batch: Vec<Job>, counts: &mut HashMap<ChannelName, u64>) {
    let deadline = Instant::now() + shared.publish_timeout;
    loop {
        let map = shared.servers.map();
        let mut parts: Vec<(Arc<Server>, Vec<(Job, Count)>)> = Vec::new();
        for job in batch {
            let server = map
                .as_ref()
                .and_then(|map| map.of(job.target.bucket(shared)));
            let Some(server) = server else {
                job.finish(shared, Err(away()));
                continue;
            };
            let count = shared.count(&job.target, counts);
            match parts.iter_mut().find(|(known, _)| known.id == server.id) {
                Some((_, jobs)) => jobs.push((job, count)),
                None => parts.push((Arc::clone(server), vec![(job, count)])),
            }
        }
        let mut sending = JoinSet::new();
        batch = match parts.len() {
            0 => return,
            1 => match parts.pop() {
                Some((server, jobs)) => send_part(shared, &server, jobs).await,
                None => return,
            },
            _ => {
                for (server, jobs) in parts {
                    let shared = Arc::clone(shared);
                    sending.spawn(async move { send_part(&shared, &server, jobs).await });
                }
                sending.join_all().await.into_iter().flatten().collect()
            }
        };
        if batch.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            for job in batch {
                job.finish(shared, Err(away()));
            }
            return;
        }
        shared.servers.look_again();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Shared {
    /// The bucket of this node's events without a channel. They keep their order.
    fn own_bucket(&self) -> u8 {
        let [low, ..] = self.node.to_le_bytes();
        low
    }

    /// The number of an event without an offset.
    fn count(&self, target: &Target, counts: &mut HashMap<ChannelName, u64>) -> Count {
        let (node, mut before) = (self.node, 0);
        let number = match target {
            Target::Kept { .. } | Target::Direct => 0,
            Target::Plain { channel } => {
                let number = self.lanes.numbers.fetch_add(1, Ordering::Relaxed) + 1;
                if counts.len() >= COUNTED && !counts.contains_key(channel) {
                    counts.clear();
                }
                before = counts.insert(channel.clone(), number).unwrap_or(0);
                number
            }
        };
        Count {
            node,
            before,
            number,
        }
    }
}

/// Sends events to one server as a pipeline. Returns those that have to be sent again.
async fn send_part(shared: &Shared, server: &Server, jobs: Vec<(Job, Count)>) -> Vec<Job> {
    let refuse = |jobs: Vec<(Job, Count)>, error: &dyn Fn() -> Error| {
        for (job, _) in jobs {
            job.finish(shared, Err(error()));
        }
        Vec::new()
    };
    if server.is_lost() {
        return refuse(jobs, &away);
    }
    let replicas = server.replicas();
    if replicas < shared.wait_replicas {
        return refuse(jobs, &|| too_few(shared.wait_replicas, replicas));
    }
    let mut commands = redis::pipe();
    for (job, count) in &jobs {
        commands.add_command(job.command(shared, &server.run, *count));
    }
    if shared.wait_replicas > 0 {
        let patience = shared.publish_timeout.min(ANSWER_TIMEOUT * 4 / 5);
        commands
            .cmd("WAIT")
            .arg(shared.wait_replicas)
            .arg(millis(patience));
    }
    let Ok(mut answers) = server.pipeline(&commands).await else {
        return refuse(jobs, &unknown);
    };
    if shared.wait_replicas > 0 {
        let reached = answers.pop().as_ref().and_then(value::count).unwrap_or(0);
        let is_confirmed =
            reached >= shared.wait_replicas && confirm(shared, server, &jobs, &answers).await;
        if !is_confirmed {
            return refuse(jobs, &unknown);
        }
    }
    let mut again = Vec::new();
    let mut no_script = false;
    for ((job, _), answer) in jobs.into_iter().zip(answers) {
        let outcome = if let Value::ServerError(error) = answer {
            match refusal(&RedisError::from(error)) {
                Refusal::Again => Outcome::Again,
                Refusal::NoScript => {
                    no_script = true;
                    Outcome::Again
                }
                Refusal::Final(error) => Outcome::Refused(error),
            }
        } else {
            job.receipt(answer)
        };
        match outcome {
            Outcome::Done(receipt) => job.finish(shared, Ok(receipt)),
            Outcome::Refused(error) => job.finish(shared, Err(error)),
            Outcome::Again => again.push(job),
        }
    }
    if no_script {
        server.load(&shared.servers.scripts).await.ok();
    }
    again
}

fn too_few(wanted: usize, connected: usize) -> Error {
    Error::unavailable(format!(
        "Redis has {connected} replicas, cluster.redis.wait_replicas asks for {wanted}: nothing was stored"
    ))
    .retry_after(Duration::from_secs(1))
}

/// Shows the events that enough replicas have to readers and subscribers.
async fn confirm(
    shared: &Shared,
    server: &Server,
    jobs: &[(Job, Count)],
    answers: &[Value],
) -> bool {
    let mut commands = redis::pipe();
    for ((job, _), answer) in jobs.iter().zip(answers) {
        let (Target::Kept { channel, .. }, Ok((_, kind, first))) = (
            &job.target,
            redis::from_redis_value_ref::<(String, String, String)>(answer),
        ) else {
            continue;
        };
        let mut words = first.split(' ');
        let (Some(epoch), Some(offset), "new") = (words.next(), words.next(), kind.as_str()) else {
            continue;
        };
        let bucket = bucket(channel);
        let keys = [
            shared.keys.generation(bucket),
            shared.keys.channel(channel),
            shared.keys.stream(channel),
        ];
        let [own, namespace, all] = shared.keys.topics(channel);
        commands.add_command(shared.servers.scripts.confirm.command(
            &keys,
            &[
                server.run.as_bytes(),
                epoch.as_bytes(),
                offset.as_bytes(),
                channel.as_str().as_bytes(),
                own.as_bytes(),
                namespace.as_bytes(),
                all.as_bytes(),
            ],
        ));
    }
    if commands.is_empty() {
        return true;
    }
    match server.pipeline(&commands).await {
        Ok(answers) => answers.iter().all(|answer| *answer == Value::Int(1)),
        Err(_) => false,
    }
}
