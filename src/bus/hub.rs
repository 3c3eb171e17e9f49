//! The hub: the shards, and the way to them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::delivery::Delivery;
use super::dialect_ids::DialectIds;
use super::filter_numbers::FilterNumbers;
use super::inbox::{HIGH_WATER, Inbound, Inbox};
use super::observer::{End, Observer, Seen};
use super::presence::{Presence, Present};
use super::route::{MAX_SHARDS, Route, Routes};
use super::shard::{Crossing, Cx, Opening, Shard};
use crate::auth::{Identity, neighbours};
use crate::broker::{Broker, Sink};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, ConnectionId, Event, EventType, Namespaces};
use crate::telemetry::{FanoutSpan, Metrics, Tracing};

/// The bus's limits and times; taken over by every shard within one round.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one user.
    pub connections_per_user: usize,
    /// The most connections from one address.
    pub connections_per_ip: usize,
    /// The most subscriptions of one connection.
    pub subscriptions_per_connection: usize,
    /// What may wait for one connection, in bytes.
    pub outbox_bytes: usize,
    /// Messages a second that a client may send on average; 0 is no limit.
    pub messages_per_second: u32,
    /// Messages that a client may send at once.
    pub messages_burst: u32,
    /// How often the server says something to a silent client.
    pub heartbeat_interval: Duration,
    /// After what silence it gives a client up.
    pub heartbeat_timeout: Duration,
    /// How long a client may take to show a token.
    pub auth_deadline: Duration,
    /// The share of events outside of recorded traces whose arrival clients are asked to confirm.
    pub confirmations: f64,
    /// The most connections of one event that get a span of their own or are asked to confirm.
    pub connections_per_event: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connections: 10_000,
            connections_per_user: 100,
            connections_per_ip: 1_000,
            subscriptions_per_connection: 128,
            outbox_bytes: 1 << 20,
            messages_per_second: 50,
            messages_burst: 100,
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_mins(1),
            auth_deadline: Duration::from_secs(10),
            confirmations: 0.0,
            connections_per_event: 8,
        }
    }
}

/// How long publishes that were accepted may take to end after the last connection has gone.
const LAST_WORK: Duration = Duration::from_secs(1);

/// For which roles each event type is meant; types that are not here are for everyone.
pub type TypeRoles = HashMap<EventType, Arc<[Arc<str>]>>;

/// Says whether an identity is still good.
type Voucher = Box<dyn Fn(&Identity) -> Result<()> + Send + Sync>;

/// The bus of one process: publishers come in through [`Sink::deliver`], connections live in the
/// shards.
pub struct Hub {
    inboxes: Box<[Arc<Inbox>]>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    routes: Routes,
    filter_numbers: Arc<FilterNumbers>,
    dialects: DialectIds,
    presence: Presence,
    broker: OnceLock<Arc<dyn Broker>>,
    observer: OnceLock<Arc<dyn Observer>>,
    voucher: OnceLock<Voucher>,
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
        for (index, (poll, inbox)) in (0_u16..).zip(polls.into_iter().zip(&hub.inboxes)) {
            let (hub_of_shard, inbox) = (Arc::clone(&hub), Arc::clone(inbox));
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || {
                    let shard = Shard::new(index, hub_of_shard, inbox, poll);
                    let run = std::panic::AssertUnwindSafe(|| shard.run());
                    if std::panic::catch_unwind(run).is_err() {
                        // Its connections would hang and its inbox stop every publisher: better
                        // to be started again, and for clients to resume.
                        tracing::error!(shard = index, "a shard has panicked: the process ends");
                        std::process::abort();
                    }
                })?;
            hub.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(hub)
    }

    /// The bus, and what each of its shards will wait at.
    pub(super) fn without_threads(
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
            inboxes.push(Arc::new(Inbox::new(waker, HIGH_WATER)));
            polls.push(poll);
        }
        let hub = Arc::new(Hub {
            inboxes: inboxes.into(),
            threads: Mutex::default(),
            routes: Routes::new(),
            filter_numbers: Arc::default(),
            dialects: DialectIds::default(),
            presence: Presence::new(),
            broker: OnceLock::new(),
            observer: OnceLock::new(),
            voucher: OnceLock::new(),
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
    pub(super) fn inbox(&self, index: usize) -> Option<&Arc<Inbox>> {
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
    pub fn vouch_by(&self, voucher: impl Fn(&Identity) -> Result<()> + Send + Sync + 'static) {
        if self.voucher.set(Box::new(voucher)).is_err() {
            tracing::error!("the hub has a voucher already");
        }
    }

    /// Whether an identity is still good.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn vouch(&self, identity: &Identity) -> Result<()> {
        self.voucher.get().map_or(Ok(()), |vouch| vouch(identity))
    }

    /// Looks at everybody's identity again, and closes with 4401 where it is no longer good.
    pub fn check_identities(&self) {
        for index in 0..self.inboxes.len() {
            self.on_shard(index, Shard::check_identities);
        }
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
    pub(super) fn all_type_roles(&self) -> Arc<TypeRoles> {
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

    pub(super) fn filter_numbers(&self) -> Arc<FilterNumbers> {
        Arc::clone(&self.filter_numbers)
    }

    /// A shard wants a channel, or a pattern of channels, from now on. A channel that no broker
    /// keeps counts among the channels while it is followed.
    pub(super) fn follow(&self, pattern: &ChannelPattern, shard: usize) -> Arc<Route> {
        let route = self.routes.add(pattern, shard);
        if let ChannelPattern::Exact(channel) = pattern
            && self.namespaces().of(channel).history.size == 0
            && route.count()
        {
            self.metrics.channels_changed(1);
        }
        route
    }

    pub(super) fn unfollow(&self, pattern: &ChannelPattern, shard: usize) {
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
    pub async fn room(&self) {
        for inbox in &self.inboxes {
            inbox.room().await;
        }
    }

    /// True if publishers should wait at [`Hub::room`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inboxes.iter().any(|inbox| inbox.is_full())
    }

    /// Takes a place among the connections.
    ///
    /// # Errors
    /// `resource_exhausted` where the server is full or the address has too many connections.
    pub fn seat(self: &Arc<Self>, ip: IpAddr) -> Result<Seat> {
        let settings = self.settings.load();
        let ip = neighbours(ip);
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if self.connections.load(Ordering::Relaxed) >= settings.connections {
            self.metrics.limit_reached("connections");
            return Err(Error::exhausted("the server is full (limits.connections)")
                .retry_after(Duration::from_secs(5)));
        }
        let count = per_ip.entry(ip).or_default();
        if usize::try_from(*count).unwrap_or(usize::MAX) >= settings.connections_per_ip {
            self.metrics.limit_reached("connections_per_ip");
            return Err(Error::exhausted(
                "too many connections from this address (limits.connections_per_ip)",
            )
            .retry_after(Duration::from_secs(5)));
        }
        *count += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Seat {
            hub: Some(Arc::clone(self)),
            ip,
        })
    }

    /// True if `limits.connections` is reached.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.settings.load().connections
    }

    pub(super) fn unseat(&self, ip: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        release(&mut per_ip, &neighbours(ip));
    }

    pub(super) fn seat_user(&self, user: &Arc<str>) -> Result<()> {
        let limit = self.settings.load().connections_per_user;
        let mut per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_user.entry(Arc::clone(user)).or_default();
        if usize::try_from(*count).unwrap_or(usize::MAX) >= limit {
            self.metrics.limit_reached("connections_per_user");
            return Err(Error::exhausted(
                "too many connections of this user (limits.connections_per_user)",
            )
            .retry_after(Duration::from_secs(5)));
        }
        *count += 1;
        Ok(())
    }

    pub(super) fn unseat_user(&self, user: &Arc<str>) {
        let mut per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        release(&mut per_user, user);
    }

    /// True if the user may have one connection more: a look before the upgrade, so that the
    /// refusal can still be an HTTP status.
    #[must_use]
    pub fn user_has_room(&self, user: &str) -> bool {
        let limit = self.settings.load().connections_per_user;
        let per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        per_user
            .get(user)
            .is_none_or(|count| usize::try_from(*count).unwrap_or(usize::MAX) < limit)
    }

    /// A part of an id that was not used before.
    #[must_use]
    pub fn new_nonce() -> u64 {
        fastrand::u64(1..)
    }

    /// Hands a connection to a shard, which owns it from then on.
    pub fn open(&self, opening: Opening) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        self.on_shard(turn, move |shard| shard.open(opening));
    }

    fn on_shard(&self, index: usize, task: impl FnOnce(&mut Shard) + Send + 'static) {
        if let Some(inbox) = self.inboxes.get(index) {
            inbox.push(Inbound::Task(Box::new(task)));
        }
    }

    /// Asks a shard something.
    ///
    /// # Errors
    /// `unavailable` where there is no such shard, or it has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        index: usize,
        question: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.on_shard(index, move |shard| {
            // Nobody waits for the answer if the asker has gone.
            drop(answer.send(question(shard)));
        });
        let gone = |_| Error::unavailable("the server stops");
        tokio::time::timeout(Duration::from_secs(10), answered)
            .await
            .map_err(|_| Error::unavailable("the shard is too busy to answer"))?
            .map_err(gone)
    }

    /// Ends a connection on the word of `by`; true if it was there.
    ///
    /// # Errors
    /// `unavailable` where the shard has stopped.
    pub async fn disconnect(&self, id: ConnectionId, reason: String, by: Arc<str>) -> Result<bool> {
        if usize::from(id.shard()) >= self.inboxes.len() {
            return Ok(false);
        }
        self.ask(usize::from(id.shard()), move |shard| {
            shard.disconnect(id, &reason, &by)
        })
        .await
    }

    /// Who a connection is: nobody until it has shown a token, `None` where it has gone.
    ///
    /// # Errors
    /// `unavailable` where the shard has stopped.
    pub async fn identity_of(&self, id: ConnectionId) -> Result<Option<Arc<Identity>>> {
        if usize::from(id.shard()) >= self.inboxes.len() {
            return Ok(None);
        }
        self.ask(usize::from(id.shard()), move |shard| shard.identity_of(id))
            .await
    }

    /// Ends all connections of a user on the word of `by`; answers how many there were.
    ///
    /// # Errors
    /// `unavailable` where a shard has stopped.
    pub async fn disconnect_user(&self, user: &str, reason: &str, by: &Arc<str>) -> Result<u64> {
        let mut count = 0;
        for index in 0..self.inboxes.len() {
            let (user, reason, by) = (user.to_owned(), reason.to_owned(), Arc::clone(by));
            count += self
                .ask(index, move |shard| {
                    shard.disconnect_user(&user, &reason, &by)
                })
                .await?;
        }
        Ok(count)
    }

    /// Ends every subscription that `allowed` refuses: after the rules have changed.
    pub fn check_rights(
        &self,
        allowed: impl Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()>
        + Clone
        + Send
        + Sync
        + 'static,
    ) {
        for index in 0..self.inboxes.len() {
            let allowed = allowed.clone();
            self.on_shard(index, move |shard| shard.check_all_rights(&allowed));
        }
    }

    /// Bytes of a client have come by another way than its link; `first` is done before they are
    /// read. Both are forgotten where the connection has gone.
    pub fn hear(
        &self,
        id: ConnectionId,
        bytes: Vec<u8>,
        first: impl FnOnce(&mut Cx<'_>) + Send + 'static,
    ) {
        let first = Box::new(first);
        self.on_shard(usize::from(id.shard()), move |shard| {
            shard.hear_from(id, bytes, first);
        });
    }

    /// Gives a connection with a pipe a socket instead. The socket is closed where the connection
    /// has gone meanwhile.
    pub fn cross(&self, id: ConnectionId, crossing: Crossing) {
        self.on_shard(usize::from(id.shard()), move |shard| {
            shard.cross(id, crossing);
        });
    }

    /// There is room in a pipe again.
    pub(super) fn refill(&self, id: ConnectionId) {
        self.on_shard(usize::from(id.shard()), move |shard| shard.refill(id));
    }

    /// Nobody reads a pipe any more.
    pub(super) fn reader_gone(&self, id: ConnectionId) {
        self.on_shard(usize::from(id.shard()), move |shard| shard.reader_gone(id));
    }

    /// Who is in a channel.
    #[must_use]
    pub fn present(&self, channel: &ChannelName, limit: usize) -> Present {
        self.presence.of(channel, limit)
    }

    pub(super) fn presence_joined(&self, channel: &ChannelName, user: &Arc<str>) {
        if self.presence.join(channel, user) {
            self.tell_presence(channel, user, true);
        }
    }

    pub(super) fn presence_left(&self, channel: &ChannelName, user: &Arc<str>) {
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

    pub(super) fn opened(&self, connection: Seen<'_>) {
        if let Some(observer) = self.observer.get() {
            observer.opened(connection);
        }
    }

    pub(super) fn closed(&self, connection: Seen<'_>, end: End<'_>) {
        if let Some(observer) = self.observer.get() {
            observer.closed(connection, end);
        }
    }

    /// Sends everyone away, each with its own time within `window` to come back; waits until all
    /// are gone, or until the window is over.
    pub async fn drain(&self, window: Duration) {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        for index in 0..self.inboxes.len() {
            self.on_shard(index, move |shard| shard.send_away(window_ms));
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

impl Sink for Hub {
    fn deliver(&self, event: Arc<Event>, mut span: Option<FanoutSpan>) -> u64 {
        if let Some(span) = &mut span {
            span.begin();
        }
        let (shards, subscribers) = match &event.channel {
            Some(channel) => self.routes.find(channel),
            None => (u64::MAX, self.count_addressed(&event)),
        };
        self.metrics.published(&event.event_type);
        if shards == 0 {
            return 0;
        }
        let mut delivery = Delivery::new(event, subscribers, span);
        if self.is_watched(&delivery) {
            delivery.watch();
        }
        let delivery = Arc::new(delivery);
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if shards & (1 << index) != 0 {
                inbox.push(Inbound::Event(Arc::clone(&delivery)));
            }
        }
        subscribers
    }

    fn is_followed(&self, channel: &ChannelName) -> bool {
        self.routes.subscriptions(channel).is_some()
    }
}

impl Hub {
    /// True for an event whose way to some connections is looked at: each in a recorded trace, and
    /// a share of the others.
    fn is_watched(&self, delivery: &Delivery) -> bool {
        let settings = self.settings.load();
        settings.connections_per_event > 0
            && (delivery.trace().is_some()
                || (settings.confirmations > 0.0 && fastrand::f64() < settings.confirmations))
    }

    /// How many connections a direct event names: those of its users, and those named themselves.
    fn count_addressed(&self, event: &Event) -> u64 {
        let Some(audience) = &event.audience else {
            return 0;
        };
        let per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        let users: u32 = audience
            .users
            .iter()
            .filter_map(|user| per_user.get(user))
            .sum();
        u64::from(users) + u64::try_from(audience.connections.len()).unwrap_or(u64::MAX)
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A place among the server's connections, given back unless a shard keeps it.
pub struct Seat {
    hub: Option<Arc<Hub>>,
    ip: IpAddr,
}

impl Seat {
    /// The connection has been taken in: its shard gives the place back.
    pub(super) fn keep(&mut self) {
        self.hub = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.unseat(self.ip);
        }
    }
}
