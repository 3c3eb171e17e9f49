//! Revocations of tokens, kept in Redis until the tokens have ended, and watched by every node.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::RedisBus;
use crate::auth::{Revocation, RevocationWatcher, Revocations, RevokedSubject};
use crate::broker::disk::RevocationRecord;
use crate::broker::record::{seal, unseal};
use crate::error::{Error, Result};
use crate::maybe_ready::MaybeReady;

/// The key of the records' checksums.
const KEY: &[u8] = b"revocation";
/// The pause before another attempt to read them.
const PAUSE: Duration = Duration::from_secs(1);

/// The register of a cluster's revocations.
pub struct RedisRevocations {
    bus: Arc<RedisBus>,
    watching: Mutex<Option<AbortHandle>>,
    runtime: tokio::runtime::Handle,
}

impl RedisRevocations {
    /// The register of the cluster that this bus belongs to.
    #[must_use]
    pub fn new(bus: Arc<RedisBus>) -> Self {
        RedisRevocations {
            bus,
            watching: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl Drop for RedisRevocations {
    fn drop(&mut self) {
        let watching = self.watching.get_mut();
        if let Some(task) = watching.unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// The name of a subject's entry.
fn name(subject: &RevokedSubject) -> String {
    match subject {
        RevokedSubject::Token(token) => {
            format!("t:{:032x}", u128::from_be_bytes(*token.as_bytes()))
        }
        RevokedSubject::User(user) => format!("u:{user}"),
    }
}

async fn list(bus: &RedisBus) -> Result<Vec<(Vec<u8>, Revocation)>> {
    let read = |record: Vec<u8>| {
        let read: std::result::Result<RevocationRecord, _> = unseal(KEY, &record);
        let revocation = read.and_then(RevocationRecord::revocation);
        let revocation = revocation.map_err(|why| {
            Error::precondition(format!("a revocation in Redis can't be read: {why}"))
        })?;
        Ok((record, revocation))
    };
    bus.entries().await?.into_iter().map(read).collect()
}

impl Revocations for RedisRevocations {
    fn add(&self, revocation: Revocation) -> MaybeReady<()> {
        let bus = Arc::clone(&self.bus);
        MaybeReady::later(async move {
            let name = name(&revocation.subject);
            let record = seal(KEY, &RevocationRecord::new(&revocation));
            let until = u64::try_from(revocation.until.as_millis()).unwrap_or(0);
            bus.put(&name, &record, until).await
        })
    }

    fn list(&self) -> MaybeReady<Vec<Revocation>> {
        let bus = Arc::clone(&self.bus);
        MaybeReady::later(async move {
            let listed = list(&bus).await?;
            Ok(listed
                .into_iter()
                .map(|(_, revocation)| revocation)
                .collect())
        })
    }

    fn remove(&self, _: Vec<Revocation>) {
        let bus = Arc::clone(&self.bus);
        self.runtime.spawn(async move {
            // What stays is removed with the next one that is added.
            bus.prune().await.unwrap_or_default();
        });
    }

    fn watch(&self, watcher: RevocationWatcher) {
        let bus = Arc::clone(&self.bus);
        let task = self.runtime.spawn(async move {
            let mut known: HashSet<Vec<u8>> = HashSet::new();
            loop {
                bus.changed().await;
                let listed = loop {
                    match list(&bus).await {
                        Ok(listed) => break listed,
                        Err(error) => {
                            tracing::warn!(%error, "revocations can't be read from Redis");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                };
                let mut now = HashSet::with_capacity(listed.len());
                for (record, revocation) in listed {
                    if !known.contains(&record) {
                        watcher(revocation);
                    }
                    now.insert(record);
                }
                known = now;
            }
        });
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = watching.replace(task.abort_handle()) {
            before.abort();
        }
    }
}
