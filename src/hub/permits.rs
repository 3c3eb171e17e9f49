//! Who may still come: places among the connections, of an address and of a user.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Hub;
use crate::auth::rate_limit_key;
use crate::error::{Error, Result};

/// A place among the server's connections, given back unless a shard keeps it.
pub struct ConnectionPermit {
    hub: Option<Arc<Hub>>,
    ip: IpAddr,
}

impl ConnectionPermit {
    /// The connection has been taken in: its shard gives the place back.
    pub(in crate::hub) fn keep(&mut self) {
        self.hub = None;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.unseat(self.ip);
        }
    }
}

impl Hub {
    /// Takes a place among the connections.
    ///
    /// # Errors
    /// `resource_exhausted` where the server is full or the address has too many connections.
    pub fn permit(self: &Arc<Self>, ip: IpAddr) -> Result<ConnectionPermit> {
        let settings = self.dispatcher.settings.load();
        let ip = rate_limit_key(ip);
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if self.connections.load(Ordering::Relaxed) >= settings.connections {
            self.metrics().limit_reached("connections");
            return Err(Error::exhausted("the server is full (limits.connections)")
                .retry_after(Duration::from_secs(5)));
        }
        let count = per_ip.entry(ip).or_default();
        if usize::try_from(*count).unwrap_or(usize::MAX) >= settings.connections_per_ip {
            self.metrics().limit_reached("connections_per_ip");
            return Err(Error::exhausted(
                "too many connections from this address (limits.connections_per_ip)",
            )
            .retry_after(Duration::from_secs(5)));
        }
        *count += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(ConnectionPermit {
            hub: Some(Arc::clone(self)),
            ip,
        })
    }

    /// How many connections there are, those included that are about to be taken in.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// True if `limits.connections` is reached.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.dispatcher.settings.load().connections
    }

    pub(in crate::hub) fn unseat(&self, ip: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        release(&mut per_ip, &rate_limit_key(ip));
    }

    pub(in crate::hub) fn seat_user(&self, user: &Arc<str>) -> Result<()> {
        let limit = self.dispatcher.settings.load().connections_per_user;
        let mut per_user = self
            .dispatcher
            .per_user
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = per_user.entry(Arc::clone(user)).or_default();
        if usize::try_from(*count).unwrap_or(usize::MAX) >= limit {
            self.metrics().limit_reached("connections_per_user");
            return Err(Error::exhausted(
                "too many connections of this user (limits.connections_per_user)",
            )
            .retry_after(Duration::from_secs(5)));
        }
        *count += 1;
        Ok(())
    }

    pub(in crate::hub) fn unseat_user(&self, user: &Arc<str>) {
        let mut per_user = self
            .dispatcher
            .per_user
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        release(&mut per_user, user);
    }

    /// True if the user may have one connection more: a look before the upgrade, so that the
    /// refusal can still be an HTTP status.
    #[must_use]
    pub fn user_has_room(&self, user: &str) -> bool {
        let limit = self.dispatcher.settings.load().connections_per_user;
        let per_user = self
            .dispatcher
            .per_user
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        per_user
            .get(user)
            .is_none_or(|count| usize::try_from(*count).unwrap_or(usize::MAX) < limit)
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
