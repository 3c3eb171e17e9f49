//! The cluster of several nodes, over a [`Link`].
//!
//! Each node sends a heartbeat every second. A node that was heard within [`ALIVE`] is alive. A
//! command or a query is one message, and each node that it is for sends one reply.

mod occupancy;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::link::{Address, Link};
use super::messages::{self, Replied, pb};
use super::occupancy::{ClusterOccupancy, OccupancyChange};
use super::presence::{Change, Changed, ClusterPresence};
use super::{Answer, Cluster, Control, DEADLINE, Local, NodeInfo, Query, Survey, To};
use crate::broker::Share;
use crate::error::{Error, Result};
use crate::event::{NodeId, Timestamp};
use crate::hub::Hub;
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;

/// A node without a heartbeat for this long is not alive.
const ALIVE: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a claim of a number holds, and how often it is renewed, in heartbeats.
const LEASE: Duration = Duration::from_secs(10);
const RENEWAL: u64 = 3;
/// The most presence changes in one message.
const CHANGES: usize = 500;
/// The most replies that wait: one for each node.
const REPLIES: usize = 1024;
/// How many numbers a start tries.
const ATTEMPTS: usize = 64;

/// What nodes exchange about their subscribers, with the changes of this one.
pub struct Shared {
    /// Who is present.
    pub presence: (Arc<ClusterPresence>, mpsc::Receiver<Changed>),
    /// Which channels are occupied, if webhooks need it.
    pub occupancy: Option<(Arc<ClusterOccupancy>, mpsc::Receiver<OccupancyChange>)>,
}

/// This node, as others see it.
#[derive(Debug, Clone)]
pub struct Me {
    /// Random for each process.
    pub process: u64,
    /// The claimed number.
    pub number: NodeId,
    /// The name for operators.
    pub name: String,
}

/// Claims a number for this process.
///
/// # Errors
/// `unavailable` if the engine does not answer, or no number is free.
pub async fn claim(link: &dyn Link) -> Result<NodeId> {
    for _ in 0..ATTEMPTS {
        // 0 is the number of a node that is in no cluster.
        let number = fastrand::u16(1..);
        if link.claim(number, LEASE).await? {
            return Ok(NodeId::new(number));
        }
    }
    Err(Error::unavailable("cluster: no node number is free"))
}

/// The nodes that an engine joins.
pub struct Remote {
    local: Local,
    hub: Arc<Hub>,
    link: Arc<dyn Link>,
    me: Me,
    started: Timestamp,
    metrics: Arc<Metrics>,
    presence: Arc<ClusterPresence>,
    /// The processes that have asked who is present on this node.
    asked: mpsc::Sender<u64>,
    occupancy: Option<Arc<ClusterOccupancy>>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    pending: Mutex<HashMap<u64, mpsc::Sender<(NodeId, pb::Reply)>>>,
    next_request: AtomicU64,
    leaving: AtomicBool,
    runtime: Handle,
}

/// Another node.
#[derive(Debug, Clone)]
struct Peer {
    process: u64,
    heard: Instant,
    heartbeat: pb::Heartbeat,
}

impl Remote {
    /// Joins the cluster: listens, and sends heartbeats until the value is dropped.
    ///
    /// # Errors
    /// `unavailable` if the engine does not answer.
    pub async fn join(
        hub: Arc<Hub>,
        link: Arc<dyn Link>,
        me: Me,
        metrics: Arc<Metrics>,
        shared: Shared,
    ) -> Result<Arc<Self>> {
        let (asked, asking) = mpsc::channel(REPLIES);
        let (presence, changes) = shared.presence;
        let (occupancy, occupancy_changes) = shared.occupancy.unzip();
        let remote = Arc::new(Remote {
            local: Local::new(Arc::clone(&hub)),
            hub,
            link,
            me,
            started: Timestamp::now(),
            metrics,
            presence,
            asked,
            occupancy,
            peers: Mutex::default(),
            pending: Mutex::default(),
            next_request: AtomicU64::new(1),
            leaving: AtomicBool::new(false),
            runtime: Handle::current(),
        });
        let weak = Arc::downgrade(&remote);
        let receive = Box::new(move |message: Bytes| {
            if let Some(remote) = weak.upgrade() {
                remote.received(message);
            }
        });
        remote.link.listen(remote.me.process, receive).await?;
        remote.runtime.spawn(beat(Arc::downgrade(&remote)));
        remote
            .runtime
            .spawn(send_changes(Arc::downgrade(&remote), changes, asking));
        if let Some(changes) = occupancy_changes {
            let sending = occupancy::send_changes(Arc::downgrade(&remote), changes);
            remote.runtime.spawn(sending);
        }
        remote.send_heartbeat().await;
        Ok(remote)
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<(NodeId, pb::Reply)>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn envelope(&self, request: u64, body: pb::envelope::Body) -> Bytes {
        let envelope = pb::Envelope {
            from: self.me.process,
            number: u32::from(self.me.number.number()),
            request,
            body: Some(body),
        };
        envelope.encode_to_vec().into()
    }

    async fn send_heartbeat(&self) {
        let heartbeat = self.heartbeat();
        let message = self.envelope(0, pb::envelope::Body::Heartbeat(heartbeat));
        // The next one follows in a second.
        self.link.send(Address::All, message).await.ok();
    }

    fn heartbeat(&self) -> pb::Heartbeat {
        let micros = self.started.as_micros();
        pb::Heartbeat {
            name: self.me.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(prost_types::Timestamp {
                seconds: micros.div_euclid(1_000_000),
                nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0),
            }),
            connections: self.metrics.connections_now(),
            leaving: self.leaving.load(Ordering::Relaxed),
            round_trip_us: self.metrics.cluster().last_round_trip_us(),
        }
    }

    /// A message of any node has arrived.
    fn received(self: &Arc<Self>, message: Bytes) {
        let Ok(envelope) = pb::Envelope::decode(message) else {
            return tracing::warn!("a message of another node is unreadable");
        };
        let number = u16::try_from(envelope.number).unwrap_or(0);
        if envelope.from == self.me.process || number == 0 {
            return;
        }
        let (from, number, request) = (envelope.from, NodeId::new(number), envelope.request);
        match envelope.body {
            Some(pb::envelope::Body::Heartbeat(heartbeat)) => {
                self.heard(from, number, heartbeat);
            }
            Some(pb::envelope::Body::Command(command)) => {
                self.respond(from, request, Work::Command(command));
            }
            Some(pb::envelope::Body::Query(query)) => {
                self.respond(from, request, Work::Query(query));
            }
            Some(pb::envelope::Body::Reply(reply)) => {
                let pending = self.pending();
                if let Some(waiting) = pending.get(&request) {
                    waiting.try_send((number, reply)).ok();
                }
            }
            Some(pb::envelope::Body::Presence(changes)) => {
                if changes.reset {
                    self.nobody_present(number);
                }
                if changes.wanted {
                    self.asked(from);
                }
                for change in changes.changes {
                    if let Some(change) = Change::of(&change) {
                        self.presence_changed(number, &change);
                    }
                }
            }
            Some(pb::envelope::Body::Occupancy(changes)) => {
                if let Some(occupancy) = &self.occupancy {
                    occupancy.changed_elsewhere(number, &changes);
                }
            }
            None => {}
        }
    }

    fn heard(self: &Arc<Self>, process: u64, number: NodeId, heartbeat: pb::Heartbeat) {
        let peer = Peer {
            process,
            heard: Instant::now(),
            heartbeat,
        };
        let before = self.peers().insert(number, peer);
        if before.is_some_and(|before| before.process == process) {
            return;
        }
        // Who is present there? The node has just joined, or was not heard for so long that its users
        // were taken for gone, which it does not know.
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let question = pb::PresenceChanges {
                wanted: true,
                ..pb::PresenceChanges::default()
            };
            this.send_presence(Address::Process(process), question)
                .await;
        });
        if let Some(occupancy) = &self.occupancy {
            occupancy.announce_all_to(process);
        }
    }

    /// A process asks who is present on this node. The task that sends changes answers, so that no
    /// later change overtakes the answer.
    fn asked(&self, process: u64) {
        if self.asked.try_send(process).is_err() {
            self.presence.overflow();
        }
    }

    /// Sends who is present on this node, in the place of everything sent before.
    async fn send_all_presence(&self, to: Address) {
        let all = self.presence.local_users();
        let reset = pb::PresenceChanges {
            reset: true,
            ..pb::PresenceChanges::default()
        };
        self.send_presence(to, reset).await;
        for part in all.chunks(CHANGES) {
            self.send_presence(to, changes_of(part)).await;
        }
    }

    fn presence_changed(&self, node: NodeId, change: &Change) {
        if self.presence.changed_elsewhere(node, change) {
            self.hub
                .notify_presence(&change.channel, &change.user, change.joined);
        }
    }

    async fn send_presence(&self, to: Address, changes: pb::PresenceChanges) {
        let message = self.envelope(0, pb::envelope::Body::Presence(changes));
        if let Err(why) = self.link.send(to, message).await {
            tracing::warn!(%why, "presence was not sent to other nodes");
        }
    }

    fn respond(self: &Arc<Self>, to: u64, request: u64, work: Work) {
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let reply = match work {
                Work::Command(command) => messages::closed(this.execute(command).await),
                Work::Query(query) => messages::reply(this.answer(query).await),
            };
            let message = this.envelope(request, pb::envelope::Body::Reply(reply));
            this.link.send(Address::Process(to), message).await.ok();
        });
    }

    async fn execute(&self, command: pb::Command) -> Result<u64> {
        let condition = match messages::filter_source(&command) {
            None => None,
            Some(source) => Some(self.hub.condition(source, Share::OWN).await?),
        };
        let control = messages::control(command, condition)?;
        self.local.notify(To::All, control).await
    }

    async fn answer(&self, query: pb::Query) -> Result<Answer> {
        let query = messages::asked(query)?;
        let survey = self.local.survey(To::All, query, DEADLINE).await?;
        let answer = survey.answers.into_iter().next();
        answer
            .map(|(_, answer)| answer)
            .ok_or_else(|| Error::unavailable("the node does not answer"))
    }

    /// The other live nodes to which the message is addressed.
    fn others(&self, to: To) -> Vec<(NodeId, u64)> {
        let now = Instant::now();
        let peers = self.peers();
        let alive = peers
            .iter()
            .filter(|(_, peer)| now.duration_since(peer.heard) < ALIVE);
        let chosen = alive.filter(|(number, _)| match to {
            To::All => true,
            To::Node(node) => **number == node,
        });
        chosen
            .map(|(number, peer)| (*number, peer.process))
            .collect()
    }

    /// Sends a request to other nodes, and collects their replies until the deadline.
    async fn request(
        &self,
        nodes: Vec<(NodeId, u64)>,
        body: pb::envelope::Body,
        deadline: Duration,
    ) -> (Vec<(NodeId, pb::Reply)>, Vec<NodeId>) {
        let deadline = Instant::now() + deadline;
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, mut replies) = mpsc::channel(REPLIES);
        self.pending().insert(request, sender);
        let _registered = Registered {
            remote: self,
            request,
        };
        let message = self.envelope(request, body);
        let mut waiting: Vec<NodeId> = Vec::new();
        let mut unreachable = Vec::new();
        for (number, process) in nodes {
            let sent = self.link.send(Address::Process(process), message.clone());
            match sent.await {
                Ok(true) => waiting.push(number),
                // Its process has ended; its lease has not yet.
                Ok(false) => {
                    self.lost(number);
                }
                Err(_) => unreachable.push(number),
            }
        }
        let mut found = Vec::new();
        while !waiting.is_empty() {
            let Ok(Some((number, reply))) = timeout_at(deadline, replies.recv()).await else {
                break;
            };
            if let Some(at) = waiting.iter().position(|node| *node == number) {
                waiting.swap_remove(at);
                found.push((number, reply));
            }
        }
        unreachable.extend(waiting);
        (found, unreachable)
    }

    /// A node is gone: its users leave.
    fn lost(&self, node: NodeId) {
        self.peers().remove(&node);
        self.absent(node);
    }

    /// Nobody is on this node any more.
    fn absent(&self, node: NodeId) {
        if let Some(occupancy) = &self.occupancy {
            occupancy.node_lost(node);
        }
        self.nobody_present(node);
    }

    fn nobody_present(&self, node: NodeId) {
        for (channel, user) in self.presence.node_lost(node) {
            self.hub.notify_presence(&channel, &user, false);
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        let gone: Vec<NodeId> = self
            .peers()
            .iter()
            .filter(|(_, peer)| now.duration_since(peer.heard) >= ALIVE)
            .map(|(number, _)| *number)
            .collect();
        for node in gone {
            tracing::info!(%node, "a node of the cluster is gone");
            self.lost(node);
        }
        self.metrics.cluster().nodes(self.peers().len() + 1);
    }

    /// Announces that this node leaves, and releases its number.
    pub async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.send_heartbeat().await;
        self.link.release(self.me.number.number()).await.ok();
    }
}

enum Work {
    Command(pb::Command),
    Query(pb::Query),
}

/// Removes a request when it ends, even if its caller has gone.
struct Registered<'r> {
    remote: &'r Remote,
    request: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.remote.pending().remove(&self.request);
    }
}

async fn beat(remote: Weak<Remote>) {
    let mut second = interval(HEARTBEAT);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = 0_u64;
    loop {
        second.tick().await;
        let Some(remote) = remote.upgrade() else {
            return;
        };
        beats += 1;
        remote.send_heartbeat().await;
        remote.expire();
        if beats.is_multiple_of(RENEWAL) && !remote.leaving.load(Ordering::Relaxed) {
            match remote.link.claim(remote.me.number.number(), LEASE).await {
                Ok(true) | Err(_) => {}
                Ok(false) => tracing::error!(
                    node = %remote.me.number,
                    "another node has this node's number: restart this node"
                ),
            }
        }
    }
}

fn changes_of(changes: &[Change]) -> pb::PresenceChanges {
    pb::PresenceChanges {
        changes: changes.iter().map(Change::message).collect(),
        ..pb::PresenceChanges::default()
    }
}

async fn send_changes(
    remote: Weak<Remote>,
    mut changes: mpsc::Receiver<Changed>,
    mut asking: mpsc::Receiver<u64>,
) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            received = changes.recv_many(&mut batch, CHANGES) => {
                let Some(remote) = remote.upgrade().filter(|_| received > 0) else {
                    return;
                };
                let now: Vec<Change> = batch
                    .drain(..)
                    .map(|changed| remote.presence.now(changed))
                    .collect();
                remote.send_presence(Address::All, changes_of(&now)).await;
                if remote.presence.take_overflow() {
                    remote.send_all_presence(Address::All).await;
                }
            }
            asked = asking.recv() => {
                let (Some(process), Some(remote)) = (asked, remote.upgrade()) else {
                    return;
                };
                remote.send_all_presence(Address::Process(process)).await;
            }
        }
    }
}

impl Cluster for Arc<Remote> {
    fn node(&self) -> NodeId {
        self.me.number
    }

    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = vec![self.me.number];
        nodes.extend(self.others(To::All).into_iter().map(|(number, _)| number));
        nodes.sort_unstable();
        nodes
    }

    fn describe(&self) -> Vec<NodeInfo> {
        let now = Instant::now();
        let info = |number: NodeId, heartbeat: pb::Heartbeat, heard: Duration| NodeInfo {
            number,
            name: heartbeat.name,
            version: heartbeat.version,
            started_at: heartbeat.started_at.map_or(self.started, |at| {
                let nanos = i64::from(at.nanos) / 1000;
                Timestamp::from_micros(at.seconds.saturating_mul(1_000_000) + nanos)
            }),
            connections: heartbeat.connections,
            leaving: heartbeat.leaving,
            heard,
            round_trip: Some(heartbeat.round_trip_us)
                .filter(|micros| *micros > 0)
                .map(Duration::from_micros),
        };
        let mut nodes = vec![info(self.me.number, self.heartbeat(), Duration::ZERO)];
        let peers = self.peers();
        nodes.extend(peers.iter().map(|(number, peer)| {
            let heard = now.duration_since(peer.heard);
            info(*number, peer.heartbeat.clone(), heard)
        }));
        nodes.sort_by_key(|node| node.number);
        nodes
    }

    fn notify(&self, to: To, control: Control) -> MaybeReady<u64> {
        if to == To::Node(self.me.number) {
            return self.local.notify(to, control);
        }
        let others = self.others(to);
        let command = messages::command(&control);
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let mut closed = 0;
            if to == To::All {
                closed += this.local.notify(to, control).await?;
            }
            let (Some(command), false) = (command, others.is_empty()) else {
                return Ok(closed);
            };
            let body = pb::envelope::Body::Command(command);
            let (replies, unreachable) = this.request(others, body, DEADLINE).await;
            for (_, reply) in replies {
                if let Replied::Closed(there) = messages::replied(reply)? {
                    closed += there;
                }
            }
            if let Some(node) = unreachable.first() {
                return Err(Error::unavailable(format!("node {node} does not answer")));
            }
            Ok(closed)
        })
    }

    fn survey(&self, to: To, query: Query, deadline: Duration) -> MaybeReady<Survey> {
        if to == To::Node(self.me.number) {
            return self.local.survey(to, query, deadline);
        }
        let others = self.others(to);
        let asked = messages::query(&query);
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let local = async {
                match to {
                    To::All => this.local.survey(to, query, deadline).await,
                    To::Node(_) => Ok(Survey::default()),
                }
            };
            let remote = async {
                match asked {
                    Some(query) => {
                        let body = pb::envelope::Body::Query(query);
                        this.request(others, body, deadline).await
                    }
                    None => (Vec::new(), Vec::new()),
                }
            };
            let (survey, (replies, unreachable)) = tokio::join!(local, remote);
            let mut survey = survey?;
            survey.unreachable.extend(unreachable);
            for (node, reply) in replies {
                match messages::replied(reply) {
                    Ok(Replied::Answer(answer)) => survey.answers.push((node, answer)),
                    Ok(Replied::Closed(_)) | Err(_) => survey.unreachable.push(node),
                }
            }
            Ok(survey)
        })
    }
}
