//! The clients that poll, by the name under which they come back.
//!
//! Whoever knows a session's name can read its events, so it is a random one, stands in no log,
//! and is not the connection's id, which operators and other clients may see.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as RequestCtx, Notify};

use super::namespace_set::NamespaceSet;
use crate::error::{CloseCode, Error, Result};
use crate::event::ConnectionId;
use crate::hub::{Hub, PipeReader};
use crate::telemetry::Metrics;

/// How long the end of a connection waits for a client to poll for it.
const LINGER: Duration = Duration::from_secs(5);
/// The most time between two sweeps that counts: they are a second apart.
const MOST: Duration = Duration::from_secs(2);
/// Sessions that have ended and wait for a client, beyond those that limits.connections allows.
const ENDED: usize = 1024;

/// A client that polls.
pub(super) struct Session {
    pub(super) id: ConnectionId,
    pub(super) namespace_set: Arc<NamespaceSet>,
    /// Held by the request that polls.
    pub(super) poll: RequestCtx<Poll>,
    /// Held by the request that brings packets.
    pub(super) posting: RequestCtx<()>,
    /// The client tries a WebSocket.
    pub(super) upgrading: AtomicBool,
    /// Ends a poll that waits, as the client wants to leave polling.
    pub(super) nudge: Notify,
    /// For how long the connection has been seen ended.
    ended: Mutex<Option<Duration>>,
}

/// What polls go on with, one after the other.
pub(super) struct Poll {
    pub(super) reader: PipeReader,
    /// The client has everything but the word that the connection ends.
    pub(super) closing: bool,
}

impl Session {
    pub(super) fn new(namespace_set: Arc<NamespaceSet>, reader: PipeReader) -> Self {
        Session {
            id: reader.id(),
            namespace_set,
            poll: RequestCtx::new(Poll {
                reader,
                closing: false,
            }),
            posting: RequestCtx::new(()),
            upgrading: AtomicBool::new(false),
            nudge: Notify::new(),
            ended: Mutex::default(),
        }
    }

    /// Begins to try a WebSocket; false if another one is being tried.
    pub(super) fn begin_upgrade(&self) -> bool {
        !self.upgrading.swap(true, Ordering::AcqRel)
    }

    /// Closes the connection of a client that breaks the protocol.
    pub(super) fn break_off(&self, hub: &Hub, reason: &'static str) {
        hub.receive(self.id, Vec::new(), move |cx| {
            cx.close(CloseCode::Protocol, reason);
        });
    }

    /// True if it has been over for long enough, now that this much more time has passed.
    fn is_stale(&self, passed: Duration) -> bool {
        // A request that polls hears of the end itself.
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

/// All of them.
pub(super) struct Sessions {
    table: Mutex<HashMap<Box<str>, Arc<Session>>>,
    /// When they were swept last.
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

    /// A name that nobody can guess: 122 random bits.
    pub(super) fn new_name() -> Box<str> {
        uuid::Uuid::new_v4().simple().to_string().into()
    }

    /// Adds a session under a name of [`Sessions::new_name`].
    ///
    /// # Errors
    /// `resource_exhausted` where too many that have ended wait for their clients.
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

    /// The session of this name.
    pub(super) fn get(&self, name: &str) -> Option<Arc<Session>> {
        self.lock().get(name).cloned()
    }

    /// Forgets a session. If its connection still polls, it ends.
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

    /// Forgets those that have ended and whose clients do not come for it.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        // While the process stood still nobody could come.
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
