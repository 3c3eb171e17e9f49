//! The sessions of polling clients, by their `sid`.
//!
//! A session's `sid` is a bearer secret: it is random, never logged, and not the connection's id, which
//! operators and other clients may see.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::namespace_set::NamespaceSet;
use crate::error::{CloseCode, Error, Result};
use crate::event::ConnectionId;
use crate::hub::{Hub, PipeReader};
use crate::telemetry::Metrics;

/// How long an ended session is kept, so that the next poll of the client can report its end.
const LINGER: Duration = Duration::from_secs(5);
/// The longest time between two sweeps that counts: they are normally a second apart.
const MOST: Duration = Duration::from_secs(2);
/// Ended sessions that may wait for their clients, beyond limits.connections.
const ENDED: usize = 1024;

/// The session of a polling client.
pub(super) struct Session {
    pub(super) id: ConnectionId,
    pub(super) namespace_set: Arc<NamespaceSet>,
    /// Locked by the poll.
    pub(super) poll: AsyncMutex<Poll>,
    /// Locked by the POST.
    pub(super) posting: AsyncMutex<()>,
    /// The client is probing a WebSocket.
    pub(super) upgrading: AtomicBool,
    /// Ends a waiting poll, because the client upgrades.
    pub(super) nudge: Notify,
    /// For how long the connection has been over.
    ended: Mutex<Option<Duration>>,
}

/// The state that successive polls share.
pub(super) struct Poll {
    pub(super) reader: PipeReader,
    /// The client has received everything but CLOSE.
    pub(super) closing: bool,
}

impl Session {
    pub(super) fn new(namespace_set: Arc<NamespaceSet>, reader: PipeReader) -> Self {
        Session {
            id: reader.id(),
            namespace_set,
            poll: AsyncMutex::new(Poll {
                reader,
                closing: false,
            }),
            posting: AsyncMutex::new(()),
            upgrading: AtomicBool::new(false),
            nudge: Notify::new(),
            ended: Mutex::default(),
        }
    }

    /// Begins an upgrade; false if another one is under way.
    pub(super) fn begin_upgrade(&self) -> bool {
        !self.upgrading.swap(true, Ordering::AcqRel)
    }

    /// Closes the connection of a client that breaks the protocol.
    pub(super) fn abort(&self, hub: &Hub, reason: &'static str) {
        hub.receive(self.id, Vec::new(), move |cx| {
            cx.close(CloseCode::Protocol, reason);
        });
    }

    /// Adds the passed time and returns whether the session has lingered long enough.
    fn is_stale(&self, passed: Duration) -> bool {
        // A waiting poll learns of the end itself.
        let Ok(poll) = self.poll.try_lock() else {
            return false;
        };
        if !poll.reader.is_over() {
            return false;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ended.map_or(Duration::ZERO, |waited| waited + passed);
        *ended = Some(waited);
        waited >= LINGER
    }
}

/// The sessions by `sid`.
pub(super) struct Sessions {
    table: Mutex<HashMap<Box<str>, Arc<Session>>>,
    /// The time of the last sweep.
    swept: Mutex<Instant>,
    metrics: Arc<Metrics>,
}

impl Sessions {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Sessions {
            table: Mutex::default(),
            swept: Mutex::new(Instant::now()),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A `sid` with 122 random bits.
    pub(super) fn new_name() -> Box<str> {
        uuid::Uuid::new_v4().simple().to_string().into()
    }

    /// Adds a session under a name of [`Sessions::new_name`].
    ///
    /// # Errors
    /// `resource_exhausted` if too many ended sessions wait for their clients.
    pub(super) fn insert(&self, hub: &Hub, name: &str, session: Session) -> Result<()> {
        let most = hub.settings().connections.saturating_add(ENDED);
        let mut table = self.lock();
        if table.len() >= most {
            self.metrics.limit_reached("polling_sessions");
            return Err(
                Error::exhausted("too many sessions that have ended (limits.connections)")
                    .retry_after(LINGER),
            );
        }
        table.insert(name.into(), Arc::new(session));
        self.metrics.polling_sessions(table.len());
        Ok(())
    }

    /// The session of this `sid`.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Session>> {
        self.lock().get(name).cloned()
    }

    /// Removes a session. A connection that still polls ends.
    pub(super) fn remove(&self, name: &str) {
        let mut table = self.lock();
        let gone = table.remove(name);
        self.metrics.polling_sessions(table.len());
        drop(table);
        drop(gone);
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Removes ended sessions whose clients do not poll.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        // Time in which the process was suspended does not count.
        let passed = now.saturating_duration_since(*swept).min(MOST);
        *swept = now;
        drop(swept);
        let mut table = self.lock();
        if table.is_empty() {
            return;
        }
        table.retain(|_, session| !session.is_stale(passed));
        if table.capacity() > 4 * table.len() + 64 {
            table.shrink_to_fit();
        }
        self.metrics.polling_sessions(table.len());
    }
}
