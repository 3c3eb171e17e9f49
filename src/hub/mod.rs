//! The fan-out: from a publisher to many connections.
//!
//! The [`Hub`] knows which shards want a channel; a [`Shard`] is one thread that owns its
//! connections; a [`Protocol`] is what a transport supplies. See `ARCHITECTURE.md`.

mod chunk;
mod connection;
mod deliver;
mod delivery;
mod dialect_ids;
mod filter_table;
mod filters;
mod inbox;
mod judge;
mod link;
mod meter;
mod observer;
mod outbox;
mod permits;
mod pipe;
mod presence;
mod protocol;
mod route;
mod settings;
mod shard;
mod shard_cell;
mod shards;
mod shed;
mod slots;
mod sync;
mod wakeups;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

pub use self::dialect_ids::DialectIds;
use self::inbox::{HighWater, Inbound, Inbox};
use self::judge::Judge;
pub use self::observer::{End, Observer, Seen};
use self::presence::Presence;
pub use self::presence::Present;
use self::route::{MAX_SHARDS, Route, Routes};
pub use self::shard::Shard;
use self::shard_cell::ShardCell;
use crate::auth::Identity;
use crate::broker::Broker;
use crate::error::Result;
use crate::event::{Audience, ChannelName, ChannelPattern, EventType, Namespaces};
use crate::filter::FilterNumbers;
use crate::lifecycle::Departure;
use crate::telemetry::{Metrics, Tracing};

pub use connection::{Client, ConnectionInfo};
pub use delivery::DialectId;
pub use inbox::INBOX_BYTES;
pub use link::Link;
pub use permits::{ConnectionPermit, PermitError};
pub use pipe::{Pipe, PipeReader, Piped, Shareable};
pub use protocol::{Joined, Notice, Protocol, Refused};
pub use settings::Settings;
pub use shard::REPLAY_BYTES;
#[cfg(feature = "parts")]
pub use shard::parts;
pub use shard::{
    Arrived, ConnCtx, ConnectionFilter, ConnectionPage, Join, JoinRequest, Opening,
    TransportUpgrade,
};

/// How long publishes that were accepted may take to end after the last connection has gone.
const LAST_WORK: Duration = Duration::from_secs(1);

/// For which roles each event type is meant; types that are not here are for everyone.
pub type TypeRoles = HashMap<EventType, Arc<[Arc<str>]>>;

/// Says whether an identity is still good.
type Revalidator = Box<dyn Fn(&Identity) -> Result<()> + Send + Sync>;

/// The bus of one process: publishers come in through [`Sink::deliver`](crate::broker::Sink::deliver), connections live in the
/// shards.
pub struct Hub {
    inboxes: Box<[Arc<Inbox>]>,
    cells: Box<[ShardCell]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    routes: Routes,
    filter_numbers: Arc<FilterNumbers>,
    judge: Judge,
    dialects: DialectIds,
    presence: Presence,
    broker: OnceLock<Arc<dyn Broker>>,
    observer: OnceLock<Arc<dyn Observer>>,
    revalidator: OnceLock<Revalidator>,
    namespaces: Arc<ArcSwap<Namespaces>>,
    settings: ArcSwap<Settings>,
    type_roles: ArcSwap<TypeRoles>,
    metrics: Arc<Metrics>,
    tracing: Arc<Tracing>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    started: Instant,
    next_shard: AtomicUsize,
    connections: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
    per_user: Mutex<HashMap<Arc<str>, u32>>,
}

impl Hub {
    /// Starts so many shards, each a thread of its own. Call [`Hub::attach`] before anything else.
    ///
    /// # Errors
    /// Where the operating system gives no more threads or event queues.
    pub fn start(
        shards: usize,
        settings: Settings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
    ) -> io::Result<Arc<Self>> {
        let (hub, polls) = Self::without_threads(shards, settings, namespaces, metrics, tracing)?;
        for (index, poll) in (0_u16..).zip(polls) {
            let registry = poll.registry().try_clone()?;
            let hub_of_thread = Arc::clone(&hub);
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || hub_of_thread.work(index, poll, registry))?;
            hub.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(hub)
    }

    /// What the thread of a shard does, from its beginning to its end.
    fn work(self: Arc<Self>, index: u16, poll: mio::Poll, registry: mio::Registry) {
        wakeups::here_is_a_shard();
        let place = usize::from(index);
        let (Some(cell), Some(inbox)) = (self.cells.get(place), self.inboxes.get(place)) else {
            return;
        };
        let shard = Shard::new(index, Arc::clone(&self), Arc::clone(inbox), registry);
        cell.move_in(shard);
        let run = std::panic::AssertUnwindSafe(|| Shard::run(&self, cell, poll));
        if std::panic::catch_unwind(run).is_err() {
            end_the_process(place);
        }
    }

    /// The bus, and what each of its shards will wait at.
    pub(in crate::hub) fn without_threads(
        shards: usize,
        settings: Settings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
    ) -> io::Result<(Arc<Self>, Vec<mio::Poll>)> {
        let shards = shards.clamp(1, MAX_SHARDS);
        let mut polls = Vec::with_capacity(shards);
        let mut inboxes = Vec::with_capacity(shards);
        for _ in 0..shards {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), Shard::wake_token())?;
            inboxes.push(Arc::new(Inbox::new(waker, HighWater::SHARD)));
            polls.push(poll);
        }
        let hub = Arc::new(Hub {
            cells: inboxes.iter().map(|_| ShardCell::new()).collect(),
            inboxes: inboxes.into(),
            threads: Mutex::default(),
            routes: Routes::new(),
            filter_numbers: Arc::default(),
            judge: Judge::default(),
            dialects: DialectIds::default(),
            presence: Presence::new(),
            broker: OnceLock::new(),
            observer: OnceLock::new(),
            revalidator: OnceLock::new(),
            namespaces,
            settings: ArcSwap::from_pointee(settings),
            type_roles: ArcSwap::default(),
            metrics,
            tracing,
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            started: Instant::now(),
            next_shard: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            per_ip: Mutex::default(),
            per_user: Mutex::default(),
        });
        Ok((hub, polls))
    }

    /// The queue of one shard.
    #[cfg(test)]
    pub(in crate::hub) fn inbox(&self, index: usize) -> Option<&Arc<Inbox>> {
        self.inboxes.get(index)
    }

    /// Tells the hub where history is, once.
    pub fn attach(&self, broker: Arc<dyn Broker>) {
        if self.broker.set(broker).is_err() {
            tracing::error!("the hub has a broker already");
        }
    }

    /// Tells the hub who hears of connections, once.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        if self.observer.set(observer).is_err() {
            tracing::error!("the hub has an observer already");
        }
    }

    /// Tells the hub, once, how it can tell whether an identity is still good.
    pub fn set_revalidator(
        &self,
        revalidator: impl Fn(&Identity) -> Result<()> + Send + Sync + 'static,
    ) {
        if self.revalidator.set(Box::new(revalidator)).is_err() {
            tracing::error!("the hub has a revalidator already");
        }
    }

    /// Whether an identity is still good.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(in crate::hub) fn vouch(&self, identity: &Identity) -> Result<()> {
        self.revalidator
            .get()
            .map_or(Ok(()), |vouch| vouch(identity))
    }

    /// Where history is.
    ///
    /// # Panics
    /// Before [`Hub::attach`].
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a hub without a broker is a fault of the start-up code"
    )]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        self.broker.get().expect("the hub has a broker")
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes over new settings.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The namespaces that hold now.
    #[must_use]
    pub fn namespaces(&self) -> arc_swap::Guard<Arc<Namespaces>> {
        self.namespaces.load()
    }

    /// Takes over new namespaces.
    pub fn set_namespaces(&self, namespaces: Namespaces) {
        self.namespaces.store(Arc::new(namespaces));
    }

    /// For which roles an event type is meant; `None` is everyone.
    #[must_use]
    pub fn type_roles(&self, event_type: &EventType) -> Option<Arc<[Arc<str>]>> {
        let roles = self.type_roles.load();
        if roles.is_empty() {
            None
        } else {
            roles.get(event_type).cloned()
        }
    }

    /// The roles of all event types that are limited to some.
    pub(in crate::hub) fn all_type_roles(&self) -> Arc<TypeRoles> {
        self.type_roles.load_full()
    }

    /// Takes over new roles of event types.
    pub fn set_type_roles(&self, roles: TypeRoles) {
        self.type_roles.store(Arc::new(roles));
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The tracer.
    #[must_use]
    pub fn tracing(&self) -> &Arc<Tracing> {
        &self.tracing
    }

    /// Who follows what.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(in crate::hub) fn filter_numbers(&self) -> Arc<FilterNumbers> {
        Arc::clone(&self.filter_numbers)
    }

    /// A shard wants a channel, or a pattern of channels, from now on. A channel that no broker
    /// keeps counts among the channels while it is followed.
    pub(in crate::hub) fn follow(&self, pattern: &ChannelPattern, shard: usize) -> Arc<Route> {
        let route = self.routes.add(pattern, shard);
        if let ChannelPattern::Exact(channel) = pattern
            && self.namespaces().of(channel).history.size == 0
            && route.count()
        {
            self.metrics.channels_changed(1);
        }
        route
    }

    pub(in crate::hub) fn unfollow(&self, pattern: &ChannelPattern, shard: usize) {
        if self
            .routes
            .remove(pattern, shard)
            .is_some_and(|route| route.is_counted())
        {
            self.metrics.channels_changed(-1);
        }
    }

    /// The register of dialects.
    #[must_use]
    pub fn dialects(&self) -> &DialectIds {
        &self.dialects
    }

    /// Microseconds since the bus started.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// What runs for the bus and its clients; it is waited for at the end.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs something on the runtime; it is waited for at the end.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(future, &self.runtime);
    }

    /// Waits until every shard has room for more events. Publishers that outrun the shards wait
    /// here; a slow subscriber makes nobody wait.
    pub async fn ready(&self) {
        for inbox in &self.inboxes {
            inbox.ready().await;
        }
    }

    /// True if publishers should wait at [`Hub::ready`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inboxes.iter().any(|inbox| inbox.is_full())
    }

    /// A part of an id that was not used before.
    #[must_use]
    pub fn new_nonce() -> u64 {
        fastrand::u64(1..)
    }

    /// How many connections an audience includes now. Every connection is looked at.
    ///
    /// # Errors
    /// `unavailable` where the server stops.
    pub async fn count_included(&self, audience: &Arc<Audience>) -> Result<u64> {
        let mut sum = 0;
        for shard in 0..self.shards() {
            let mut from = Some(0);
            while let Some(place) = from {
                let audience = Arc::clone(audience);
                let counted = self.ask(shard, move |shard| shard.count_included(&audience, place));
                let (count, next) = counted.await?;
                sum += count;
                from = next;
            }
        }
        Ok(sum)
    }

    /// Who is in a channel.
    #[must_use]
    pub fn present(&self, channel: &ChannelName, limit: usize) -> Present {
        self.presence.of(channel, limit)
    }

    pub(in crate::hub) fn presence_joined(&self, channel: &ChannelName, user: &Arc<str>) {
        if self.presence.join(channel, user) {
            self.tell_presence(channel, user, true);
        }
    }

    pub(in crate::hub) fn presence_left(&self, channel: &ChannelName, user: &Arc<str>) {
        if self.presence.leave(channel, user) {
            self.tell_presence(channel, user, false);
        }
    }

    fn tell_presence(&self, channel: &ChannelName, user: &Arc<str>, joined: bool) {
        let (shards, _) = self.routes.find(channel);
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if shards & (1 << index) != 0 {
                let (channel, user) = (channel.clone(), Arc::clone(user));
                inbox.push(Inbound::Task(Box::new(move |shard| {
                    shard.tell_presence(&channel, &user, joined);
                })));
            }
        }
    }

    pub(in crate::hub) fn opened(&self, connection: Seen<'_>) {
        if let Some(observer) = self.observer.get() {
            observer.opened(connection);
        }
    }

    pub(in crate::hub) fn closed(&self, connection: Seen<'_>, end: End<'_>) {
        if let Some(observer) = self.observer.get() {
            observer.closed(connection, end);
        }
    }

    /// Sends everyone away as `departure` has it, each with its own time to come back; waits
    /// until all are gone, or until the window is over.
    pub async fn drain(&self, departure: Departure, window: Duration) {
        let departure = Arc::new(departure);
        for index in 0..self.inboxes.len() {
            let departure = Arc::clone(&departure);
            self.on_shard(index, move |shard| shard.send_away(departure));
        }
        let deserted = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            for index in 0..self.inboxes.len() {
                while !self
                    .ask(index, |shard| shard.is_deserted())
                    .await
                    .unwrap_or(true)
                {
                    look.tick().await;
                }
            }
        };
        if tokio::time::timeout(window, deserted).await.is_err() {
            tracing::info!("some connections had not gone when the drain window was over");
        }
        // Publishes that were accepted come to their end.
        self.tasks.close();
        if tokio::time::timeout(LAST_WORK, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some work had not ended when the server stopped");
        }
    }

    /// Stops the shards and waits for their threads.
    pub fn stop(&self) {
        for index in 0..self.inboxes.len() {
            self.on_shard(index, Shard::stop);
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

/// A shard has panicked, on its thread or while a publisher did its work. Its connections would
/// hang and its inbox stop every publisher: better to be started again, and for clients to resume.
fn end_the_process(shard: usize) -> ! {
    tracing::error!(shard, "a shard has panicked: the process ends");
    std::process::abort();
}
