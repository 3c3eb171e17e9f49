//! The recorder: one thread that turns edges into queued events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::edges::{Edge, QUEUED};
use super::event::{Connection, EventKind, Fact, What};
use super::queue::Queue;
use super::reported::{Actual, Item, Reported, closed_unseen};
use super::store::{Space, Store, Write};
use super::{WebhooksParts, WebhooksSettings};
use crate::clock::uptime_ms;
use crate::cluster::{Answer, ClusterOccupancy, ConnectionsQuery, DEADLINE, Place, Query, To};
use crate::error::Result;
use crate::event::{ChannelName, ConnectionId, Timestamp};
use crate::hub::{ConnectionFilter, Hub};

/// The most edges of one batch.
const BATCH: usize = 4096;
/// The longest wait for an edge: then what is due is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a node that does not report channels keeps what it would have reported, in milliseconds.
/// If it becomes the reporting node, it reports this again.
const OVERLAP: u64 = 10_000;
/// The most of these facts.
const MOST_RECENT: usize = 10_000;
/// A node without a heartbeat for this long does not report channels.
const ALIVE: Duration = Duration::from_secs(3);
/// How often the reporting node is determined, in milliseconds.
const CHOICE: u64 = 500;
/// Connections asked for at a time.
const PAGE: usize = 1000;

/// The keys of what was reported begin with one of these.
const CONNECTION: u8 = b'k';
const CHANNEL: u8 = b'c';
const USER: u8 = b'u';

/// How things are, over all nodes.
struct Tables {
    hub: Arc<Hub>,
    occupancy: Option<Arc<ClusterOccupancy>>,
}

impl Tables {
    fn is_occupied_here(&self, channel: &ChannelName) -> bool {
        let here = self.hub.routes().subscriptions(channel);
        here.is_some_and(|subscriptions| subscriptions > 0)
    }
}

impl Actual for Tables {
    fn is_occupied(&self, channel: &ChannelName) -> bool {
        let elsewhere = |others: &Arc<ClusterOccupancy>| others.is_occupied(channel);
        self.is_occupied_here(channel) || self.occupancy.as_ref().is_some_and(elsewhere)
    }

    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        self.hub.is_present(channel, user)
    }
}

pub(super) struct Recorder {
    tables: Tables,
    parts: WebhooksParts,
    reported: Reported,
    store: Arc<Store>,
    queues: Vec<Arc<Queue>>,
    /// The kinds that each queue gets.
    wanted: Vec<Vec<EventKind>>,
    source: String,
    is_durable: bool,
    started: u64,
    /// When the reporting node was last determined.
    chosen: u64,
    /// Whether this node reports what concerns channels.
    reports_channels: bool,
    recent: VecDeque<(u64, Fact)>,
    /// The ends of connections of an earlier process.
    restored: Vec<Fact>,
    runtime: Handle,
}

impl Recorder {
    pub(super) fn new(
        parts: WebhooksParts,
        settings: &WebhooksSettings,
        store: Arc<Store>,
        queues: Vec<Arc<Queue>>,
        wanted: Vec<Vec<EventKind>>,
        runtime: Handle,
    ) -> Result<Self> {
        let mut recorder = Recorder {
            tables: Tables {
                hub: Arc::clone(&parts.hub),
                occupancy: parts.occupancy.clone(),
            },
            reports_channels: parts.occupancy.is_none(),
            parts,
            reported: Reported::default(),
            store,
            queues,
            wanted,
            source: format!("/tidings/{}", settings.node),
            is_durable: settings.path.is_some(),
            started: uptime_ms(),
            chosen: 0,
            recent: VecDeque::new(),
            restored: Vec::new(),
            runtime,
        };
        recorder.restored = recorder.restore()?;
        Ok(recorder)
    }

    /// Takes over what an earlier process has reported. Returns the ends of its connections.
    fn restore(&mut self) -> Result<Vec<Fact>> {
        let (mut closed, mut from) = (Vec::new(), Vec::new());
        let (now, at) = (uptime_ms(), Timestamp::now());
        loop {
            let page = self
                .store
                .range(Space::Reported, &from, None, 1000, 1 << 20)?;
            let Some((last, _)) = page.last() else {
                return Ok(closed);
            };
            from.clone_from(last);
            from.push(0);
            for (key, value) in page {
                match restored(&key, &value) {
                    Some(Restored::Connection(id, user)) => {
                        let reason = "the server has ended without closing it";
                        closed.push(closed_unseen(id, user, at, reason));
                    }
                    // The state of channels is the cluster's: this is of a time without one.
                    Some(Restored::Item(_)) if self.tables.occupancy.is_some() => {}
                    Some(Restored::Item(item)) => self.reported.restore(item, now, at),
                    None => tracing::warn!("a record of what webhooks have reported is unreadable"),
                }
            }
        }
    }

    pub(super) fn run(mut self) {
        let restored = std::mem::take(&mut self.restored);
        self.record(restored);
        loop {
            // Everything that waits comes before a comparison, which would anticipate it.
            let overflowed = self.parts.edges.edges().take_overflow();
            let (edges, is_closing) = self.next(overflowed);
            let mut facts = Vec::new();
            for edge in edges {
                self.edge(edge, &mut facts);
            }
            if overflowed {
                self.compare(&mut facts);
            }
            self.reported
                .after_wait(uptime_ms(), &self.tables, &mut facts);
            if is_closing && !self.is_durable && self.tables.occupancy.is_none() {
                self.reported.end_waits(&self.tables, &mut facts);
            }
            self.record(facts);
            if is_closing {
                return;
            }
            self.choose_reporter();
            self.report_gaps();
        }
    }

    /// The next edges, or all that wait, and whether they are the last.
    fn next(&self, all: bool) -> (Vec<Edge>, bool) {
        let receiver = &self.parts.edges.receiver;
        let due = self.reported.next_due();
        let due = due.map(|due| Duration::from_millis(due.saturating_sub(uptime_ms())));
        let wait = due.map_or(TICK, |due| due.min(TICK));
        let mut edges = Vec::new();
        let mut is_closing = self.parts.edges.edges().is_closing();
        match receiver.recv_timeout(wait) {
            Ok(edge) => edges.push(edge),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => is_closing = true,
        }
        let most = if is_closing || all { QUEUED } else { BATCH };
        while edges.len() < most
            && let Ok(edge) = receiver.try_recv()
        {
            edges.push(edge);
        }
        let is_last = |edge: &Edge| matches!(edge, Edge::Close);
        is_closing |= edges.iter().any(is_last);
        (edges, is_closing)
    }

    fn edge(&mut self, edge: Edge, facts: &mut Vec<Fact>) {
        let now = uptime_ms();
        let fact = match edge {
            Edge::Fact(fact) => {
                if let What::Occupied(channel) | What::Vacated(channel) = &fact.what
                    && let Some(occupancy) = &self.tables.occupancy
                {
                    occupancy.announce(channel, self.tables.is_occupied_here(channel));
                }
                fact
            }
            Edge::Elsewhere(channel, occupied) => Fact {
                what: if occupied {
                    What::Occupied(channel)
                } else {
                    What::Vacated(channel)
                },
                at: Timestamp::now(),
            },
            Edge::Close => return,
        };
        facts.extend(self.reported.apply(fact, now, &self.tables));
    }

    /// Edges were lost: compares everything that was reported with how things are.
    fn compare(&mut self, facts: &mut Vec<Fact>) {
        tracing::warn!("edges for webhooks were lost: everything is compared");
        let now = uptime_ms();
        let edges = Arc::clone(self.parts.edges.edges());
        if edges.wants_channels() {
            let here = self.tables.hub.routes().list("", "", usize::MAX);
            let mut occupied: Vec<ChannelName> = here
                .into_iter()
                .filter(|(_, subscriptions)| *subscriptions > 0)
                .map(|(channel, _)| channel)
                .collect();
            if let Some(occupancy) = &self.tables.occupancy {
                occupancy.announce_all();
                occupied.extend(occupancy.channels());
            }
            let occupied = occupied.into_iter();
            self.reported
                .compare_channels(occupied, now, &self.tables, facts);
        }
        if edges.wants_presence() {
            let present = self.tables.hub.all_present().into_iter();
            self.reported
                .compare_users(present, now, &self.tables, facts);
        }
        if edges.wants_connections() {
            match self.runtime.block_on(self.open_connections()) {
                Ok(open) => {
                    let open = open.into_iter();
                    let open = open.filter(|one| one.user.is_some() || edges.allows_anonymous());
                    self.reported.compare_connections(open.collect(), facts);
                }
                Err(why) => tracing::error!(%why, "the connections could not be compared"),
            }
        }
    }

    async fn open_connections(&self) -> Result<Vec<Connection>> {
        let cluster = &self.parts.cluster;
        let (mut found, mut from) = (Vec::new(), Place::default());
        loop {
            let query = Query::Connections(ConnectionsQuery {
                filter: ConnectionFilter::default(),
                from,
                limit: PAGE,
                bytes: usize::MAX,
            });
            let survey = cluster.survey(To::Node(cluster.node()), query, DEADLINE);
            let answer = survey.await?.answers.into_iter().next();
            let Some((_, Answer::Connections(page))) = answer else {
                return Ok(found);
            };
            found.extend(page.connections.into_iter().map(|info| Connection {
                id: info.id,
                user: info.user,
                roles: info.roles,
                address: Some(info.address),
                transport: info.transport,
            }));
            match page.next {
                Some(next) => from = next,
                None => return Ok(found),
            }
        }
    }

    /// Several nodes see each edge of a channel; the oldest node reports it. A node that becomes the
    /// oldest repeats what happened while the one before it may have been dying.
    fn choose_reporter(&mut self) {
        if self.tables.occupancy.is_none() {
            return;
        }
        let now = uptime_ms();
        if now.saturating_sub(self.chosen) < CHOICE {
            return;
        }
        self.chosen = now;
        let nodes = self.parts.cluster.describe().into_iter();
        let alive = nodes.filter(|node| !node.leaving && node.heard < ALIVE);
        let oldest = alive.min_by_key(|node| (node.started_at, node.number));
        let is_oldest = oldest.is_some_and(|node| node.number == self.parts.cluster.node());
        let alive_ms = u64::try_from(ALIVE.as_millis()).unwrap_or(0);
        // At the start, the others have not been heard yet.
        let is_settled = now.saturating_sub(self.started) >= alive_ms;
        let reports = is_oldest && is_settled;
        if reports && !self.reports_channels {
            tracing::info!("this node reports channels and presence to webhooks");
            self.reports_channels = true;
            let recent = std::mem::take(&mut self.recent).into_iter();
            let recent = recent.filter(|(at, _)| now.saturating_sub(*at) <= OVERLAP);
            let facts: Vec<Fact> = recent.map(|(_, fact)| fact).collect();
            self.record(facts);
        }
        self.reports_channels = reports;
    }

    /// Keeps back what another node reports.
    fn own(&mut self, facts: Vec<Fact>) -> Vec<Fact> {
        if self.reports_channels {
            return facts;
        }
        let now = uptime_ms();
        let (own, others): (Vec<Fact>, Vec<Fact>) =
            facts.into_iter().partition(Fact::is_of_connection);
        self.recent
            .extend(others.into_iter().map(|fact| (now, fact)));
        while self.recent.len() > MOST_RECENT
            || self
                .recent
                .front()
                .is_some_and(|(at, _)| now.saturating_sub(*at) > OVERLAP)
        {
            self.recent.pop_front();
        }
        own
    }

    /// Queues facts for every webhook that wants them, in one batch with what was reported.
    fn record(&mut self, facts: Vec<Fact>) {
        let facts = self.own(facts);
        if facts.is_empty() {
            return;
        }
        let store = Arc::clone(&self.store);
        let _writer = store.writer();
        let mut writes = Vec::new();
        for fact in &facts {
            let kind = fact.kind();
            let mut encoded: Option<Bytes> = None;
            for (queue, wanted) in self.queues.iter().zip(&self.wanted) {
                if wanted.contains(&kind) {
                    let value = encoded.get_or_insert_with(|| fact.encode(&self.source));
                    queue.add(value, fact.at, &self.source, &mut writes);
                }
            }
            // The state of channels is the cluster's, so a restarted node learns it from the others.
            let is_kept = fact.is_of_connection() || self.tables.occupancy.is_none();
            if self.is_durable && is_kept {
                writes.push(remembered(&fact.what));
            }
        }
        self.commit(&writes);
    }

    fn report_gaps(&self) {
        if !self.queues.iter().any(|queue| queue.has_gap()) {
            return;
        }
        let _writer = self.store.writer();
        let mut writes = Vec::new();
        for queue in &self.queues {
            queue.report_gap(&self.source, &mut writes);
        }
        if !writes.is_empty() {
            self.commit(&writes);
        }
    }

    /// Writes until it succeeds: meanwhile edges wait in their queue. When the server stops, it gives
    /// up.
    fn commit(&self, writes: &[Write]) {
        let mut failures = 0_u32;
        while let Err(error) = self.store.commit(writes, true) {
            failures += 1;
            let is_closing = self.parts.edges.edges().is_closing();
            if failures == 1 || is_closing {
                tracing::error!(%error, "events of webhooks could not be queued");
            }
            if is_closing {
                return;
            }
            self.runtime.block_on(tokio::time::sleep(TICK));
        }
        self.queues.iter().for_each(|queue| queue.wake());
    }
}

enum Restored {
    Connection(ConnectionId, Option<Arc<str>>),
    Item(Item),
}

/// The record of something that was reported.
fn remembered(what: &What) -> Write {
    let (key, value) = match what {
        What::Opened(connection) => {
            let user = connection.user.as_deref();
            // The first byte distinguishes an anonymous connection from an empty name.
            let value = user.map_or_else(|| vec![0], |user| [&[1], user.as_bytes()].concat());
            (connection_key(connection.id), Some(Bytes::from(value)))
        }
        What::Closed(connection, _) => (connection_key(connection.id), None),
        What::Occupied(channel) => (channel_key(channel), Some(Bytes::new())),
        What::Vacated(channel) => (channel_key(channel), None),
        What::Joined(channel, user) => (user_key(channel, user), Some(Bytes::new())),
        What::Left(channel, user) => (user_key(channel, user), None),
    };
    Write {
        space: Space::Reported,
        key,
        value,
    }
}

fn connection_key(id: ConnectionId) -> Vec<u8> {
    [&[CONNECTION], id.to_string().as_bytes()].concat()
}

fn channel_key(channel: &ChannelName) -> Vec<u8> {
    [&[CHANNEL], channel.as_str().as_bytes()].concat()
}

/// A channel's name contains no zero byte.
fn user_key(channel: &ChannelName, user: &str) -> Vec<u8> {
    [&[USER], channel.as_str().as_bytes(), &[0], user.as_bytes()].concat()
}

fn restored(key: &[u8], value: &Bytes) -> Option<Restored> {
    let (kind, rest) = key.split_first()?;
    let text = std::str::from_utf8(rest).ok()?;
    Some(match *kind {
        CONNECTION => {
            let user = match value.split_first()? {
                (1, user) => Some(Arc::from(std::str::from_utf8(user).ok()?)),
                _ => None,
            };
            Restored::Connection(text.parse().ok()?, user)
        }
        CHANNEL => Restored::Item(Item::Channel(ChannelName::new(text).ok()?)),
        USER => {
            let (channel, user) = text.split_once('\0')?;
            let channel = ChannelName::new(channel).ok()?;
            Restored::Item(Item::User(channel, Arc::from(user)))
        }
        _ => return None,
    })
}
