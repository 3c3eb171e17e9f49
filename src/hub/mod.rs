//! The fan-out: from a publisher to many connections.
//!
//! The [`Hub`] routes events to the shards with subscribers; a shard is one thread that owns its
//! connections; a [`Protocol`] is a transport's codec. See `ARCHITECTURE.md`.

mod builder;
mod command;
mod control;
mod deliver;
mod delivery;
mod dialect_ids;
mod evaluate;
mod evaluator;
mod filter_budget;
mod interest;
#[cfg(test)]
mod interest_tests;
mod network;
mod observer;
mod permits;
mod pipe;
mod presence;
mod protocol;
mod queue;
mod round;
mod settings;
mod shard;
mod shard_cell;
mod shard_thread;
mod sync;
mod wakeups;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

pub use self::builder::{HubBuilder, HubParts, Revalidator};
use self::command::ShardCommand;
pub use self::command::{Grant, GrantTo};
use self::deliver::Dispatcher;
pub use self::dialect_ids::{DialectId, DialectIds};
use self::evaluator::Evaluator;
use self::interest::{Interest, InterestTable};
pub use self::observer::{End, Observer, Seen, Totals};
pub use self::presence::{LocalPresence, PresenceStore, Present};
use crate::auth::Identity;
use crate::broker::Broker;
use crate::error::Result;
use crate::event::{ChannelName, ChannelPattern, EventType, Namespaces, NodeId};
use crate::filter::FilterNumbers;
use crate::lifecycle::Departure;
use crate::telemetry::{Metrics, Tracing};

pub use interest::Activity;
pub use network::Network;
pub use permits::{ConnectionPermit, PermitError, Permits};
pub use pipe::{Pipe, PipeOwner, PipeReader, Piped, Shareable};
pub use protocol::{Joined, Notice, Protocol, Refused};
pub use queue::INBOX_BYTES;
pub use settings::Settings;
#[cfg(feature = "parts")]
pub use shard::parts;
pub use shard::{
    Arrived, ConnCtx, ConnectionFilter, ConnectionOrder, ConnectionPage, ConnectionQuery, Join,
    JoinRequest, Opening, RankQuery, Ranked, Ranking, TransportUpgrade,
};
pub use shard::{Client, ConnectionInfo, Link, RequestFacts, SubscriptionInfo};
pub use shard::{REPLAY_BYTES, THROTTLE_BYTES};

/// How long accepted publishes may take to complete after the last connection has closed.
const LAST_WORK: Duration = Duration::from_secs(1);

/// The roles required by each event type; types that are not listed are for everyone.
pub type TypeRoles = HashMap<EventType, Arc<[Arc<str>]>>;

/// The hub of one process. Publishers reach the shards through its [`Sink`](crate::broker::Sink);
/// connections are owned by the shards.
pub struct Hub {
    dispatcher: Arc<Dispatcher>,
    broker: Arc<dyn Broker>,
    observer: Arc<dyn Observer>,
    revalidator: Revalidator,
    node: NodeId,
    threads: Mutex<Vec<JoinHandle<()>>>,
    filter_numbers: Arc<FilterNumbers>,
    evaluator: Evaluator,
    dialects: DialectIds,
    presence: Box<dyn PresenceStore>,
    type_roles: ArcSwap<TypeRoles>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    next_shard: AtomicUsize,
}

impl Hub {
    /// Checks whether an identity is still valid.
    ///
    /// # Errors
    ///
    /// `unauthenticated`.
    pub(in crate::hub) fn revalidate(&self, identity: &Identity) -> Result<()> {
        (self.revalidator)(identity)
    }

    /// The broker for publishes and history.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Runs `work`, which may publish, and then wakes the shards once for all its publishes. If
    /// they are only a few deliveries, it runs the round of a sleeping shard instead of waking its
    /// thread. Call it without holding a lock. Nested calls are part of the outermost one.
    pub fn wake_after<T>(&self, work: impl FnOnce() -> T) -> T {
        self.dispatcher.wake_after(work)
    }

    /// The connections there are, held to the limits.
    #[must_use]
    pub fn permits(&self) -> &Arc<Permits> {
        &self.dispatcher.permits
    }

    /// The current settings.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.dispatcher.settings.load_full()
    }

    /// Replaces the settings.
    pub fn set_settings(&self, settings: Settings) {
        self.dispatcher.settings.store(Arc::new(settings));
    }

    /// The current namespaces.
    #[must_use]
    pub fn namespaces(&self) -> arc_swap::Guard<Arc<Namespaces>> {
        self.dispatcher.namespaces.load()
    }

    /// Replaces the namespaces.
    pub fn set_namespaces(&self, namespaces: Namespaces) {
        self.dispatcher.namespaces.store(Arc::new(namespaces));
    }

    /// The roles required by an event type; `None` is everyone.
    #[must_use]
    pub fn type_roles(&self, event_type: &EventType) -> Option<Arc<[Arc<str>]>> {
        let roles = self.type_roles.load();
        if roles.is_empty() {
            None
        } else {
            roles.get(event_type).cloned()
        }
    }

    /// The required roles of all restricted event types.
    pub(in crate::hub) fn all_type_roles(&self) -> Arc<TypeRoles> {
        self.type_roles.load_full()
    }

    /// Replaces the required roles of event types.
    pub fn set_type_roles(&self, roles: TypeRoles) {
        self.type_roles.store(Arc::new(roles));
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.dispatcher.metrics
    }

    /// The tracer.
    #[must_use]
    pub fn tracing(&self) -> &Arc<Tracing> {
        &self.dispatcher.tracing
    }

    /// Which shards have subscribers of which channels.
    #[must_use]
    pub fn routes(&self) -> &InterestTable {
        &self.dispatcher.routes
    }

    pub(in crate::hub) fn filter_numbers(&self) -> Arc<FilterNumbers> {
        Arc::clone(&self.filter_numbers)
    }

    /// Registers a shard's interest in a channel or pattern. A channel without history counts among
    /// the channels while it has subscribers.
    pub(in crate::hub) fn follow(&self, pattern: &ChannelPattern, shard: usize) -> Arc<Interest> {
        let route = self.dispatcher.routes.add(pattern, shard);
        // After the route: an event that the broker delivers from now on must find the shard.
        self.broker.set_interest(pattern, true);
        if let ChannelPattern::Exact(channel) = pattern
            && self.namespaces().of(channel).history.size == 0
            && route.count()
        {
            self.metrics().channels_changed(1);
        }
        route
    }

    pub(in crate::hub) fn unfollow(&self, pattern: &ChannelPattern, shard: usize) {
        self.broker.set_interest(pattern, false);
        if self
            .dispatcher
            .routes
            .remove(pattern, shard)
            .is_some_and(|route| route.is_counted())
        {
            self.metrics().channels_changed(-1);
        }
    }

    /// The registry of dialects.
    #[must_use]
    pub fn dialects(&self) -> &DialectIds {
        &self.dialects
    }

    /// Microseconds since the hub was built.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.dispatcher.clock_us()
    }

    /// Tells the table of interest how much time has passed. Called about once a second.
    pub fn tick(&self) {
        let second = self.clock_us() / 1_000_000;
        let second = u32::try_from(second).unwrap_or(u32::MAX - 1);
        self.dispatcher.routes.set_second(second);
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.dispatcher.queues.len()
    }

    /// The tasks of the hub and its clients; shutdown waits for them.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Spawns a task on the runtime; shutdown waits for it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(future, &self.runtime);
    }

    /// Waits until every shard's queue is below its high-water mark. Publishers that outrun the
    /// shards wait here; a slow subscriber never makes a publisher wait.
    pub async fn ready(&self) {
        self.dispatcher.ready().await;
    }

    /// True if publishers should await [`Hub::ready`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.dispatcher.is_full()
    }

    /// The hub's node in the cluster.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The users in a channel.
    #[must_use]
    pub fn present(&self, channel: &ChannelName, limit: usize) -> Present {
        self.presence.of(channel, limit)
    }

    /// Renews the leases of this node's presence.
    pub fn renew_presence(&self) {
        self.presence.renew();
    }

    pub(in crate::hub) fn presence_joined(&self, channel: &ChannelName, user: &Arc<str>) {
        if self.presence.join(channel, user) {
            self.notify_presence(channel, user, true);
        }
    }

    pub(in crate::hub) fn presence_left(&self, channel: &ChannelName, user: &Arc<str>) {
        if self.presence.leave(channel, user) {
            self.notify_presence(channel, user, false);
        }
    }

    /// Whether a user is in a channel, on any node.
    #[must_use]
    pub fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        self.presence.is_present(channel, user)
    }

    /// Every user of every channel, over all nodes.
    #[must_use]
    pub fn all_present(&self) -> Vec<(ChannelName, Arc<str>)> {
        self.presence.all()
    }

    /// Notifies the subscribers that watch a channel's presence, and the observer.
    pub fn notify_presence(&self, channel: &ChannelName, user: &Arc<str>, joined: bool) {
        self.observer.presence(channel, user, joined);
        let (shards, _) = self.dispatcher.routes.find(channel);
        for index in 0..self.dispatcher.queues.len() {
            if shards & (1 << index) != 0 {
                let (channel, user) = (channel.clone(), Arc::clone(user));
                let command = ShardCommand::PresenceChanged {
                    channel,
                    user,
                    joined,
                };
                self.send(index, command);
            }
        }
    }

    pub(in crate::hub) fn opened(&self, connection: Seen<'_>) {
        self.observer.opened(connection);
    }

    pub(in crate::hub) fn identified(&self, connection: Seen<'_>) {
        self.observer.identified(connection);
    }

    /// A channel has gained its first subscription on this node, or lost its last.
    pub(in crate::hub) fn occupancy_changed(&self, pattern: &ChannelPattern, occupied: bool) {
        if let ChannelPattern::Exact(channel) = pattern {
            self.observer.occupancy(channel, occupied);
        }
    }

    pub(in crate::hub) fn closed(&self, connection: Seen<'_>, end: End<'_>) {
        self.observer.closed(connection, end);
    }

    /// Closes every connection on the schedule of `departure`, each with its own reconnect delay.
    /// Waits until all are closed or the window has passed.
    pub async fn drain(&self, departure: Departure, window: Duration) {
        let departure = Arc::new(departure);
        for index in 0..self.dispatcher.queues.len() {
            self.send(index, ShardCommand::Drain(Arc::clone(&departure)));
        }
        let deserted = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            for index in 0..self.dispatcher.queues.len() {
                while !self
                    .query(index, |reply| ShardCommand::IsEmpty { reply })
                    .await
                    .unwrap_or(true)
                {
                    look.tick().await;
                }
            }
        };
        if tokio::time::timeout(window, deserted).await.is_err() {
            tracing::info!("some connections were still open at the end of the drain window");
        }
        // Let accepted publishes complete.
        self.tasks.close();
        if tokio::time::timeout(LAST_WORK, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks were still running when the server stopped");
        }
    }

    /// Stops the shards and waits for their threads.
    pub fn stop(&self) {
        for index in 0..self.dispatcher.queues.len() {
            self.send(index, ShardCommand::Stop);
        }
        self.tasks.close();
        for thread in
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
        {
            if thread.join().is_err() {
                tracing::error!("a shard had panicked");
            }
        }
    }
}

/// A shard has panicked, on its thread or in a publisher's round. Its connections would hang and
/// its queue would block every publisher, so the process aborts: it is restarted, and clients
/// resume.
fn end_the_process(shard: usize) -> ! {
    tracing::error!(shard, "a shard has panicked: the process ends");
    std::process::abort();
}
