//! Limits on open sockets, in total and per address, and eviction when a limit is reached.
//!
//! A socket without a request in progress can be evicted for a new one: its client has received
//! everything that it requested, and reconnects when it needs more.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::evictions::Evictions;
use super::timeout_io::Activity;
use crate::auth::rate_limit_key;
use crate::telemetry::Metrics;

/// The minimum time before a new socket may be evicted.
const MIN_AGE: Duration = Duration::from_millis(250);
/// How long an unauthenticated request may be in progress before its connection may be evicted.
const UNAUTHENTICATED_MIN_AGE: Duration = Duration::from_secs(10);
/// The most idle sockets that are examined for one eviction.
const MAX_EXAMINED: usize = 64;
/// The fraction (1/16) of the slots that is reserved for addresses with few sockets, such as those
/// of probes.
const RESERVED: usize = 16;
/// The number of sockets up to which an address has few.
const FEW: usize = 8;

/// Tracks the sockets of a listener that are handshaking, not upgraded yet, or speaking HTTP.
pub(crate) struct SocketLimiter {
    most: usize,
    /// Whether unauthenticated connections may be evicted although a request is in progress. If so,
    /// authenticated connections are never evicted.
    tokens: bool,
    taken: Mutex<Taken>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    sockets: HashMap<u64, Socket>,
    queues: Queues,
    /// Keyed by rate-limit key: the /64 of an IPv6 address.
    by_address: HashMap<IpAddr, OfAddress>,
    /// How many sockets were examined.
    #[cfg(test)]
    examined: usize,
}

/// Sockets in the order in which they entered their state, oldest first.
#[derive(Default)]
struct Queues {
    idle: BTreeMap<u64, u64>,
    /// Sockets with a request in progress that may be unauthenticated. Empty if tokens do not
    /// matter.
    pending: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Pending,
}

#[derive(Default)]
struct OfAddress {
    count: usize,
    queues: Queues,
    evictions: Evictions,
}

struct Socket {
    address: IpAddr,
    /// When it became idle or busy.
    since: Instant,
    /// Requests in progress.
    open: usize,
    /// Its position in the queues.
    order: Option<(State, u64)>,
    holder: Arc<SlotHolder>,
}

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The limit in total.
    All,
    /// The limit of this address.
    Address,
}

impl SocketLimiter {
    /// A limiter for this many sockets. With `tokens`, authenticated connections are never evicted.
    pub(crate) fn new(most: usize, tokens: bool, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(SocketLimiter {
            most,
            tokens,
            taken: Mutex::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Acquires a slot for a socket of this address, which may have `most` of them. The slot is
    /// released on drop. The connection is cancelled with `closing`, or by itself when it is
    /// evicted.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        most: Option<usize>,
        closing: &CancellationToken,
    ) -> Result<Slot, Full> {
        let address = rate_limit_key(address);
        let mut taken = self.lock();
        while let Some(full) = self.full(&taken, address, most) {
            if !self.evict_for(&mut taken, address, full) {
                return Err(full);
            }
        }
        let id = taken.next;
        taken.next += 1;
        let holder = Arc::new(SlotHolder {
            limiter: Arc::clone(self),
            id,
            activity: Arc::default(),
            leave: closing.child_token(),
            evicted: AtomicBool::new(false),
        });
        let socket = Socket {
            address,
            since: Instant::now(),
            open: 0,
            order: None,
            holder: Arc::clone(&holder),
        };
        taken.sockets.insert(id, socket);
        taken.by_address.entry(address).or_default().count += 1;
        taken.enter(id, State::Idle);
        Ok(Slot(holder))
    }

    /// Evicts the socket that has been idle for longest.
    pub(crate) fn evict_longest_idle(&self) -> bool {
        let mut taken = self.lock();
        let oldest = taken.queues.idle.first_key_value().map(|(_, id)| *id);
        oldest.is_some_and(|id| self.evict(&mut taken, id))
    }

    fn full(&self, taken: &Taken, address: IpAddr, most: Option<usize>) -> Option<Full> {
        let of_address = taken.count_of(address);
        let all = taken.sockets.len();
        if all >= self.most {
            return Some(Full::All);
        }
        if most.is_some_and(|most| of_address >= most) {
            return Some(Full::Address);
        }
        let kept = all.saturating_add(self.most / RESERVED) >= self.most;
        (kept && of_address >= FEW).then_some(Full::All)
    }

    /// Evicts a socket for one of this address: an idle one of the same address if that reached its
    /// limit, or else one of an address that has at least as many.
    fn evict_for(&self, taken: &mut Taken, address: IpAddr, full: Full) -> bool {
        if !taken.may_evict(address) {
            return false;
        }
        let idle = taken.find(State::Idle, address, full, MIN_AGE);
        let found = match idle {
            None if self.tokens => {
                taken.find(State::Pending, address, full, UNAUTHENTICATED_MIN_AGE)
            }
            idle => idle,
        };
        if let Some(of_address) = taken.by_address.get_mut(&address)
            && found.is_some()
        {
            of_address.evictions.take();
        }
        found.is_some_and(|id| self.evict(taken, id))
    }

    /// Cancels a connection and releases its slot.
    fn evict(&self, taken: &mut Taken, id: u64) -> bool {
        let Some(socket) = taken.remove(id) else {
            return false;
        };
        self.metrics.limit_reached("idle_sockets");
        socket.holder.evicted.store(true, Ordering::Release);
        socket.holder.leave.cancel();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn of(&self, state: State) -> &BTreeMap<u64, u64> {
        match state {
            State::Idle => &self.idle,
            State::Pending => &self.pending,
        }
    }

    fn of_mut(&mut self, state: State) -> &mut BTreeMap<u64, u64> {
        match state {
            State::Idle => &mut self.idle,
            State::Pending => &mut self.pending,
        }
    }
}

impl Taken {
    fn count_of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).map_or(0, |of| of.count)
    }

    /// Whether another socket may be evicted for this address. An address with few sockets, such as
    /// that of a probe, may always evict.
    fn may_evict(&mut self, address: IpAddr) -> bool {
        let of_address = self.by_address.get_mut(&address);
        of_address.is_none_or(|of| of.evictions.refill() > 0 || of.count < FEW)
    }

    /// The oldest socket that may be evicted for one of this address. Examines a bounded number of
    /// sockets.
    fn find(
        &mut self,
        state: State,
        address: IpAddr,
        full: Full,
        min_age: Duration,
    ) -> Option<u64> {
        let own = self.count_of(address);
        let now = Instant::now();
        let mut after = 0;
        for _ in 0..MAX_EXAMINED {
            let queues = match full {
                Full::Address => &self.by_address.get(&address)?.queues,
                Full::All => &self.queues,
            };
            let (order, id) = queues.of(state).range(after..).next()?;
            let (order, id) = (*order, *id);
            after = order + 1;
            #[cfg(test)]
            {
                self.examined += 1;
            }
            let socket = self.sockets.get(&id)?;
            // All later sockets in the queue have waited even less.
            if now.duration_since(socket.since) < min_age {
                return None;
            }
            if state == State::Pending && socket.holder.activity.is_proven() {
                // A connection stays authenticated.
                self.leave_queue(id);
            } else if self.count_of(socket.address) >= own {
                return Some(id);
            }
        }
        None
    }

    /// Moves a socket to a state.
    fn enter(&mut self, id: u64, state: State) {
        self.leave_queue(id);
        let order = self.next;
        self.next += 1;
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.since = Instant::now();
            socket.order = Some((state, order));
            self.queues.of_mut(state).insert(order, id);
            if let Some(of_address) = self.by_address.get_mut(&socket.address) {
                of_address.queues.of_mut(state).insert(order, id);
            }
        }
    }

    fn leave_queue(&mut self, id: u64) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && let Some((state, order)) = socket.order.take()
        {
            self.queues.of_mut(state).remove(&order);
            if let Some(of_address) = self.by_address.get_mut(&socket.address) {
                of_address.queues.of_mut(state).remove(&order);
            }
        }
    }

    /// A request begins. The first one ends the socket's idle time.
    fn begin(&mut self, id: u64, pending: bool) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.open += 1;
        if socket.open > 1 {
            return;
        }
        socket.since = Instant::now();
        if pending {
            self.enter(id, State::Pending);
        } else {
            self.leave_queue(id);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Socket> {
        self.leave_queue(id);
        let socket = self.sockets.remove(&id)?;
        if let Some(of_address) = self.by_address.get_mut(&socket.address) {
            of_address.count -= 1;
            if of_address.count == 0 {
                self.by_address.remove(&socket.address);
            }
        }
        Some(socket)
    }
}

/// The slot of one socket, released on drop.
pub(crate) struct Slot(Arc<SlotHolder>);

impl Slot {
    /// The connection that holds the slot.
    pub(crate) fn holder(&self) -> &Arc<SlotHolder> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.0.limiter.lock().remove(self.0.id));
    }
}

/// The state of the connection that holds a slot.
pub(crate) struct SlotHolder {
    limiter: Arc<SocketLimiter>,
    id: u64,
    activity: Arc<Activity>,
    leave: CancellationToken,
    evicted: AtomicBool,
}

impl SlotHolder {
    /// The requests in progress.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Cancelled when the connection should close.
    pub(crate) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// Waits until the connection is evicted.
    pub(crate) async fn wait_until_evicted(&self) {
        self.leave.cancelled().await;
        if !self.evicted.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }

    /// A request begins. It is in progress until the returned guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> RequestGuard {
        self.activity.begin();
        let mut taken = self.limiter.lock();
        taken.begin(self.id, self.limiter.tokens && !self.activity.is_proven());
        drop(taken);
        RequestGuard(Arc::clone(self))
    }
}

/// Guards a request in progress.
pub(crate) struct RequestGuard(Arc<SlotHolder>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let SlotHolder {
            limiter,
            id,
            activity,
            ..
        } = &*self.0;
        self.0.activity.end();
        let mut taken = limiter.lock();
        let Some(socket) = taken.sockets.get_mut(id) else {
            return;
        };
        socket.open -= 1;
        if socket.open == 0 {
            if limiter.tokens && activity.is_proven() {
                taken.leave_queue(*id);
            } else {
                taken.enter(*id, State::Idle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evictions::{EVICTION_INTERVAL, EVICTIONS};
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    struct Test {
        limiter: Arc<SocketLimiter>,
        closing: CancellationToken,
    }

    impl Test {
        fn new(most: usize, tokens: bool) -> Self {
            Test {
                limiter: SocketLimiter::new(most, tokens, &Metrics::new("test")),
                closing: CancellationToken::new(),
            }
        }

        fn take(&self, address: &str, most: Option<usize>) -> Result<Slot, Full> {
            self.limiter.take(ip(address), most, &self.closing)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_counted_in_total_and_per_address() {
        let test = Test::new(3, false);
        let (one, two) = ("2001:db8::1", "2001:db8::2");
        let first = test.take(one, Some(2)).ok().unwrap();
        let _second = test.take(two, Some(2)).ok().unwrap();
        assert_eq!(test.take(one, Some(2)).err(), Some(Full::Address));
        let _third = test.take("10.0.0.1", Some(2)).ok().unwrap();
        assert_eq!(test.take("10.0.0.2", None).err(), Some(Full::All));
        drop(first);
        assert!(test.take(one, Some(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn released_slot_leaves_no_state() {
        let test = Test::new(3, false);
        let slot = test.take("10.0.0.1", None).ok().unwrap();
        drop(slot.holder().begin());
        drop(slot);
        let taken = test.limiter.lock();
        assert!(
            taken.sockets.is_empty() && taken.by_address.is_empty() && taken.queues.idle.is_empty()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn longest_idle_socket_is_evicted() {
        let test = Test::new(3, false);
        let slots: Vec<Slot> = (0..3)
            .map(|_| test.take("10.0.0.1", None).ok().unwrap())
            .collect();
        // All are past the minimum time. The first is busy, the second was busy until now.
        let _at_work = slots[0].holder().begin();
        let was = slots[1].holder().begin();
        tokio::time::advance(MIN_AGE).await;
        drop(was);
        let _fourth = test.take("10.0.0.1", None).ok().unwrap();
        let left: Vec<bool> = slots
            .iter()
            .map(|slot| slot.holder().leave().is_cancelled())
            .collect();
        assert_eq!(left, [false, false, true]);
        assert!(!test.closing.is_cancelled());
        // The others are too new.
        assert_eq!(test.take("10.0.0.1", None).err(), Some(Full::All));
    }

    #[tokio::test(start_paused = true)]
    async fn busy_address_does_not_evict_small_address() {
        let test = Test::new(4, false);
        let quiet = test.take("10.0.0.2", None).ok().unwrap();
        let many: Vec<Slot> = (0..3)
            .map(|_| test.take("10.0.0.1", None).ok().unwrap())
            .collect();
        let busy: Vec<RequestGuard> = many.iter().map(|p| p.holder().begin()).collect();
        tokio::time::advance(MIN_AGE).await;
        assert_eq!(test.take("10.0.0.1", None).err(), Some(Full::All));
        assert!(!quiet.holder().leave().is_cancelled());
        // Not vice versa.
        drop(busy);
        tokio::time::advance(MIN_AGE).await;
        let _third = test.take("10.0.0.3", None).ok().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn last_slots_are_reserved_for_small_addresses() {
        let test = Test::new(32, false);
        let mut many = Vec::new();
        while let Ok(slot) = test.take("10.0.0.1", None) {
            many.push((slot.holder().begin(), slot));
        }
        assert_eq!(many.len(), 30);
        assert!(test.take("10.0.0.2", None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn only_unauthenticated_long_request_is_evicted() {
        let test = Test::new(2, true);
        let slots: Vec<Slot> = (0..2)
            .map(|_| test.take("10.0.0.1", None).ok().unwrap())
            .collect();
        slots[0].holder().activity().prove();
        drop(slots[0].holder().begin());
        let _watches = slots[1].holder().begin();
        tokio::time::advance(MIN_AGE).await;
        assert_eq!(test.take("10.0.0.1", None).err(), Some(Full::All));
        tokio::time::advance(UNAUTHENTICATED_MIN_AGE).await;
        let _probe = test.take("10.0.0.1", None).ok().unwrap();
        assert!(!slots[0].holder().leave().is_cancelled());
        assert!(slots[1].holder().leave().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn refusing_a_flood_examines_one_socket_each() {
        let test = Test::new(4000, true);
        let share = Some(1000);
        let held: Vec<Slot> = (0..1000)
            .map(|_| test.take("10.0.0.1", share).ok().unwrap())
            .collect();
        // None is past the minimum time.
        for _ in 0..1000 {
            assert_eq!(test.take("10.0.0.1", share).err(), Some(Full::Address));
        }
        assert!(test.limiter.lock().examined <= 1000);
        // All have an unauthenticated request in progress, none for long.
        let _busy: Vec<RequestGuard> = held.iter().map(|p| p.holder().begin()).collect();
        for _ in 0..1000 {
            assert_eq!(test.take("10.0.0.1", share).err(), Some(Full::Address));
        }
        assert!(test.limiter.lock().examined <= 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn flood_evicts_few_own_idle_sockets() {
        let test = Test::new(4000, false);
        let share = Some(1000);
        let held: Vec<Slot> = (0..1000)
            .map(|_| test.take("10.0.0.1", share).ok().unwrap())
            .collect();
        tokio::time::advance(MIN_AGE).await;
        let gone = || {
            let left = held.iter().map(|p| p.holder().leave().is_cancelled());
            left.filter(|left| *left).count()
        };
        let mut more = Vec::new();
        more.extend((0..1000).filter_map(|_| test.take("10.0.0.1", share).ok()));
        let burst = usize::try_from(EVICTIONS).unwrap();
        assert_eq!(gone(), burst);
        // After the burst, one is evicted per interval.
        tokio::time::advance(EVICTION_INTERVAL * 3).await;
        more.extend((0..1000).filter_map(|_| test.take("10.0.0.1", share).ok()));
        assert_eq!(gone(), burst + 3);
        assert!(test.limiter.lock().examined <= 2 * burst);
    }

    #[tokio::test(start_paused = true)]
    async fn authenticated_sockets_are_skipped_once() {
        let test = Test::new(128, true);
        let held: Vec<Slot> = (0..112)
            .map(|_| test.take("10.0.0.1", None).ok().unwrap())
            .collect();
        let _busy: Vec<RequestGuard> = held.iter().map(|p| p.holder().begin()).collect();
        let others = held.iter().skip(1);
        others.for_each(|p| p.holder().activity().prove());
        tokio::time::advance(UNAUTHENTICATED_MIN_AGE).await;
        drop(test.take("10.0.0.1", Some(112)).ok().unwrap());
        assert!(held[0].holder().leave().is_cancelled());
        for _ in 0..10 {
            drop(test.take("10.0.0.1", Some(111)));
        }
        let examined = test.limiter.lock().examined;
        assert!(examined <= 1 + 111, "{examined}");
        assert!(test.limiter.lock().queues.pending.is_empty());
    }
}
