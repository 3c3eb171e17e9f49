//! Permits for connections: in total, per address and per user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::settings::Settings;
use crate::auth::rate_limit_key;
use crate::error::{Error, Result};
use crate::telemetry::Metrics;

/// When a client that was refused a permit should retry.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The connections there are, by address and by user, held to the limits.
pub struct Permits {
    settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
    connections: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
    per_user: Mutex<HashMap<Arc<str>, u32>>,
}

/// A permit for one connection, released on drop unless a shard keeps it.
pub struct ConnectionPermit {
    permits: Option<Arc<Permits>>,
    ip: IpAddr,
}

impl ConnectionPermit {
    /// The connection was registered: its shard releases the permit.
    pub(in crate::hub) fn keep(&mut self) {
        self.permits = None;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(permits) = self.permits.take() {
            permits.release(self.ip);
        }
    }
}

impl Permits {
    /// No connections yet.
    pub(in crate::hub) fn new(settings: Arc<ArcSwap<Settings>>, metrics: Arc<Metrics>) -> Self {
        Permits {
            settings,
            metrics,
            connections: AtomicUsize::new(0),
            per_ip: Mutex::default(),
            per_user: Mutex::default(),
        }
    }

    /// Takes a permit for a connection from this address.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Result<ConnectionPermit, PermitError> {
        let ip = rate_limit_key(ip);
        let mut per_ip = lock(&self.per_ip);
        self.check_counts(per_ip.get(&ip).copied())?;
        *per_ip.entry(ip).or_default() += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(ConnectionPermit {
            permits: Some(Arc::clone(self)),
            ip,
        })
    }

    /// Whether [`Permits::take`] would return a permit now; takes none.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn check(&self, ip: IpAddr) -> Result<(), PermitError> {
        let ip = rate_limit_key(ip);
        let of_address = lock(&self.per_ip).get(&ip).copied();
        self.check_counts(of_address)
    }

    fn check_counts(&self, of_address: Option<u32>) -> Result<(), PermitError> {
        let settings = self.settings.load();
        let of_address = usize::try_from(of_address.unwrap_or_default()).unwrap_or(usize::MAX);
        let full = if self.connections() >= settings.connections {
            PermitError::Server
        } else if of_address >= settings.connections_per_ip {
            PermitError::Address
        } else {
            return Ok(());
        };
        self.metrics.limit_reached(full.limit());
        Err(full)
    }

    /// The number of connections, including those that are about to be registered.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Releases the permit of a connection from this address.
    pub(in crate::hub) fn release(&self, ip: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        release(&mut lock(&self.per_ip), &rate_limit_key(ip));
    }

    /// Counts a connection of this user.
    pub(in crate::hub) fn acquire_user(&self, user: &Arc<str>) -> Result<()> {
        let mut per_user = lock(&self.per_user);
        let count = per_user.get(user).copied();
        self.check_user_count(count).map_err(PermitError::error)?;
        *per_user.entry(Arc::clone(user)).or_default() += 1;
        Ok(())
    }

    /// A connection of this user has ended.
    pub(in crate::hub) fn release_user(&self, user: &Arc<str>) {
        release(&mut lock(&self.per_user), user);
    }

    /// The connections of these users.
    pub(in crate::hub) fn of_users(&self, users: &[Arc<str>]) -> u64 {
        let per_user = lock(&self.per_user);
        let counts = users.iter().filter_map(|user| per_user.get(user));
        counts.map(|count| u64::from(*count)).sum()
    }

    /// Whether the user may have another connection. The shard counts the user at registration:
    /// this check is for a rejection that can still be an HTTP status.
    ///
    /// # Errors
    ///
    /// [`PermitError::User`].
    pub fn check_user(&self, user: &str) -> Result<(), PermitError> {
        let of_user = lock(&self.per_user).get(user).copied();
        self.check_user_count(of_user)
    }

    fn check_user_count(&self, of_user: Option<u32>) -> Result<(), PermitError> {
        let of_user = usize::try_from(of_user.unwrap_or_default()).unwrap_or(usize::MAX);
        if of_user < self.settings.load().connections_per_user {
            return Ok(());
        }
        self.metrics.limit_reached(PermitError::User.limit());
        Err(PermitError::User)
    }
}

/// The limit on connections that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermitError {
    /// `limits.connections`.
    Server,
    /// `limits.connections_per_ip`.
    Address,
    /// `limits.connections_per_user`.
    User,
}

impl PermitError {
    /// The limit's key.
    const fn limit(self) -> &'static str {
        match self {
            PermitError::Server => "connections",
            PermitError::Address => "connections_per_ip",
            PermitError::User => "connections_per_user",
        }
    }

    /// The client's error: `resource_exhausted`, with a retry time.
    #[must_use]
    pub fn error(self) -> Error {
        let text = match self {
            PermitError::Server => "the server is full (limits.connections)",
            PermitError::Address => {
                "too many connections from this address (limits.connections_per_ip)"
            }
            PermitError::User => "too many connections of this user (limits.connections_per_user)",
        };
        Error::exhausted(text).retry_after(RETRY_AFTER)
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

fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
