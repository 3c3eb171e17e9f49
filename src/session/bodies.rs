//! The bytes of request bodies in memory: in total, per user and per connection.
//!
//! A reader reserves the bytes of a body before it reads them, and keeps the reservation until the
//! request is answered. A request without a reservation is rejected, so a flood of unfinished bodies
//! affects only its sender.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::Identity;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// When a rejected request may be retried: bodies in flight end soon.
const AGAIN: Duration = Duration::from_secs(1);

/// How many bytes of bodies may be in memory at once. A single body is never rejected for its size
/// alone: it fits wherever it is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// In total.
    pub all: usize,
    /// Per user, or per address of anonymous clients.
    pub per_user: usize,
    /// Per connection.
    pub per_connection: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            all: 256 * 1024 * 1024,
            per_user: 64 * 1024 * 1024,
            per_connection: 32 * 1024 * 1024,
        }
    }
}

/// Counts the reserved bytes.
pub struct Bodies {
    held: Mutex<Held>,
    metrics: Arc<Metrics>,
}

struct Held {
    limits: BodyLimits,
    all: usize,
    /// Those of users, not of services.
    of_users: usize,
    by_account: HashMap<Arc<str>, usize>,
}

/// The account that a body counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySender {
    /// See [`Identity::account`].
    account: Arc<str>,
    is_service: bool,
}

impl BodySender {
    /// The account of an identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        BodySender {
            account: identity.account(),
            is_service: identity.is_service(),
        }
    }

    /// The account of an address whose identity is not known yet.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::of(&Identity::anonymous_from(address))
    }

    /// A user's account.
    #[must_use]
    pub fn user(account: &str) -> Self {
        BodySender {
            account: Arc::from(account),
            is_service: false,
        }
    }
}

/// The reserved bytes of one connection, shared by its requests.
#[derive(Debug, Clone, Default)]
pub struct ConnectionBodies(Arc<AtomicUsize>);

impl Bodies {
    /// No bytes are reserved.
    #[must_use]
    pub fn new(limits: BodyLimits, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Bodies {
            held: Mutex::new(Held {
                limits,
                all: 0,
                of_users: 0,
                by_account: HashMap::new(),
            }),
            metrics: Arc::clone(metrics),
        })
    }

    /// Sets other limits; reservations stay.
    pub(super) fn set_limits(&self, limits: BodyLimits) {
        self.lock().limits = limits;
    }

    /// An empty reservation for a sender and, where several requests share one, a connection.
    #[must_use]
    pub fn reserve(
        self: &Arc<Self>,
        sender: BodySender,
        connection: Option<ConnectionBodies>,
    ) -> Reservation {
        Reservation {
            bodies: Arc::clone(self),
            sender,
            connection: connection.unwrap_or_default(),
            bytes: 0,
        }
    }

    /// The reserved bytes in total.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Which limit `more` bytes would exceed, for a request with `own` reserved bytes.
    ///
    /// All users together get half of the total; the other half is kept for services. A sender's share
    /// shrinks as the total fills: a sender with a reservation may not exceed what is still free
    /// (dynamic thresholds, Choudhury and Hahne 1998). So a few senders can't fill the total, and a
    /// sender without a reservation gets one.
    fn full(
        &self,
        sender: &BodySender,
        of_connection: usize,
        own: usize,
        more: usize,
    ) -> Option<Full> {
        let of_account = self
            .by_account
            .get(&sender.account)
            .copied()
            .unwrap_or_default();
        let BodyLimits {
            all,
            per_user,
            per_connection,
        } = self.limits;
        let exceeds = |held: usize, limit: usize| held.saturating_add(more) > limit;
        if self.all > own && exceeds(self.all, all) {
            return Some(Full::All);
        }
        let (held, room) = if sender.is_service {
            (self.all, all)
        } else {
            (self.of_users, all / 2)
        };
        if held > own && exceeds(held, room) {
            return Some(Full::All);
        }
        if of_connection > own && exceeds(of_connection, per_connection) {
            return Some(Full::Connection);
        }
        if of_account > own && exceeds(of_account, per_user) {
            return Some(Full::User);
        }
        let free = all.saturating_sub(self.all).min(room.saturating_sub(held));
        (of_account > own && exceeds(of_account, free)).then_some(Full::All)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    All,
    User,
    Connection,
}

impl Full {
    fn limit(self) -> (&'static str, &'static str) {
        match self {
            Full::All => (
                "body_bytes",
                "too many bytes of requests are in progress (limits.body_bytes)",
            ),
            Full::User => (
                "body_bytes_per_user",
                "too many bytes of this user's requests are in progress \
                 (limits.body_bytes_per_user)",
            ),
            Full::Connection => (
                "body_bytes_per_connection",
                "too many bytes of this connection's requests are in progress \
                 (limits.body_bytes_per_connection)",
            ),
        }
    }
}

/// The reserved bytes of one request, released on drop.
pub struct Reservation {
    bodies: Arc<Bodies>,
    sender: BodySender,
    connection: ConnectionBodies,
    bytes: usize,
}

impl Reservation {
    /// The reserved bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows the reservation to at least this size.
    ///
    /// # Errors
    /// `resource_exhausted` naming the limit; the reservation is unchanged.
    pub fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.bodies.lock();
        // Only changed under the lock.
        let of_connection = self.connection.0.load(Ordering::Relaxed);
        if let Some(full) = held.full(&self.sender, of_connection, self.bytes, more) {
            drop(held);
            let (limit, text) = full.limit();
            self.bodies.metrics.limit_reached(limit);
            return Err(Error::exhausted(text).retry_after(AGAIN));
        }
        held.all += more;
        if !self.sender.is_service {
            held.of_users += more;
        }
        let account = Arc::clone(&self.sender.account);
        *held.by_account.entry(account).or_default() += more;
        self.connection.0.fetch_add(more, Ordering::Relaxed);
        drop(held);
        self.bytes = bytes;
        Ok(())
    }

    /// Shrinks the reservation to this size.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        if less == 0 {
            return;
        }
        self.bytes -= less;
        let mut held = self.bodies.lock();
        held.all = held.all.saturating_sub(less);
        if !self.sender.is_service {
            held.of_users = held.of_users.saturating_sub(less);
        }
        if let Some(of_account) = held.by_account.get_mut(&self.sender.account) {
            *of_account = of_account.saturating_sub(less);
            if *of_account == 0 {
                held.by_account.remove(&self.sender.account);
            }
        }
        self.connection.0.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies(all: usize, per_user: usize, per_connection: usize) -> Arc<Bodies> {
        let limits = BodyLimits {
            all,
            per_user,
            per_connection,
        };
        Bodies::new(limits, &Metrics::new("test"))
    }

    fn of(bodies: &Arc<Bodies>, user: &str) -> Reservation {
        bodies.reserve(BodySender::user(user), None)
    }

    fn refusal(refused: Result<()>) -> String {
        refused.unwrap_err().message()
    }

    #[test]
    fn exceeded_limit_is_named_in_the_error() {
        let bodies = bodies(1200, 300, 200);
        let mut first = of(&bodies, "ann");
        first.grow_to(250).unwrap();
        let mut second = of(&bodies, "ann");
        assert!(refusal(second.grow_to(100)).contains("limits.body_bytes_per_user"));
        second.grow_to(50).unwrap();
        let line = ConnectionBodies::default();
        let mut one = bodies.reserve(BodySender::user("bob"), Some(line.clone()));
        let mut two = bodies.reserve(BodySender::user("eve"), Some(line));
        one.grow_to(150).unwrap();
        assert!(refusal(two.grow_to(100)).contains("limits.body_bytes_per_connection"));
        two.grow_to(50).unwrap();
        assert!(refusal(of(&bodies, "joe").grow_to(600)).contains("(limits.body_bytes)"));
        drop((first, second, one, two));
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn single_body_of_any_size_fits() {
        let bodies = bodies(10, 10, 10);
        let mut alone = of(&bodies, "ann");
        alone.grow_to(8).unwrap();
        alone.grow_to(500).unwrap();
        assert!(of(&bodies, "bob").grow_to(1).is_err());
    }

    #[test]
    fn few_users_cannot_fill_the_total() {
        let bodies = bodies(1000, 500, 500);
        let mut greedy = Vec::new();
        for user in ["a", "b", "c", "d", "e"] {
            loop {
                let mut body = of(&bodies, user);
                if body.grow_to(10).is_err() {
                    break;
                }
                greedy.push(body);
            }
        }
        assert!(bodies.held() < 1000, "{}", bodies.held());
        of(&bodies, "quiet").grow_to(10).unwrap();
    }

    #[test]
    fn users_get_half_of_the_total() {
        let bodies = bodies(1000, 500, 500);
        let users: Vec<Reservation> = (0..100)
            .filter_map(|n| {
                let mut body = of(&bodies, &n.to_string());
                body.grow_to(10).ok().map(|()| body)
            })
            .collect();
        assert_eq!((users.len(), bodies.held()), (50, 500));
        assert!(refusal(of(&bodies, "ann").grow_to(1)).contains("(limits.body_bytes)"));
        let service = BodySender {
            is_service: true,
            ..BodySender::user("service")
        };
        let mut event = bodies.reserve(service, None);
        event.grow_to(450).unwrap();
        // Reservations of services do not count against the users' half.
        drop(users);
        of(&bodies, "ann").grow_to(500).unwrap();
    }

    proptest! {
        #[test]
        fn reservations_stay_within_limits_and_are_released(
            steps in proptest::collection::vec((0_usize..4, 0_usize..3, 0_usize..120), 0..200)
        ) {
            let bodies = bodies(400, 150, 100);
            let lines = [ConnectionBodies::default(), ConnectionBodies::default()];
            let mut open: Vec<Reservation> = Vec::new();
            for (user, action, bytes) in steps {
                match action {
                    0 => {
                        let line = lines.get(user % 2).cloned();
                        let sender = BodySender {
                            account: Arc::from(user.to_string()),
                            is_service: user == 3,
                        };
                        open.push(bodies.reserve(sender, line));
                    }
                    1 => if let Some(last) = open.last_mut() { drop(last.grow_to(bytes)); },
                    _ => drop((!open.is_empty()).then(|| open.swap_remove(bytes % open.len()))),
                }
                let sum: usize = open.iter().map(Reservation::bytes).sum();
                prop_assert_eq!(sum, bodies.held());
                prop_assert!(sum <= 400);
                let users = open.iter().filter(|r| !r.sender.is_service);
                prop_assert!(users.map(Reservation::bytes).sum::<usize>() <= 200);
                for user in 0..4_usize {
                    let of_user = open.iter().filter(|r| *r.sender.account == *user.to_string());
                    prop_assert!(of_user.map(Reservation::bytes).sum::<usize>() <= 150);
                }
            }
            open.clear();
            prop_assert_eq!(bodies.held(), 0);
            let held = bodies.lock();
            prop_assert!(held.by_account.is_empty() && held.of_users == 0);
        }
    }
}
