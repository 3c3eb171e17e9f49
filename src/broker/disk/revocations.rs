//! Stores revocations of tokens, so that they survive a restart.
//!
//! They are in the keyspace `meta` beside the manifest. Hence, each is part of a batch, is written
//! with one sync, and is covered by damage detection and by backups. A batch with a revocation is
//! always synced, even with `durability = "async"`. The committer does all writes.

use std::sync::Arc;

use super::committer::Committer;
use super::queue::Op;
use super::record::{RevocationRecord, unseal};
use super::recover::OnDamage;
use super::store::{Batch, Commit, REVOCATIONS, Store};
use super::trouble::Trouble;
use super::{Disk, Shared, answered, unavailable};
use crate::auth::{Revocation, RevocationWatcher, Revocations};
use crate::broker::Share;
use crate::error::{Error, Result};
use crate::maybe_ready::MaybeReady;

impl Revocations for Disk {
    fn add(&self, revocation: Revocation) -> MaybeReady<()> {
        let add = |answer| Op::Revoke(Box::new(revocation), answer);
        match self.shared.ask(Share::OWN, add) {
            Ok(later) => MaybeReady::later(answered(later)),
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    fn list(&self) -> MaybeReady<Vec<Revocation>> {
        MaybeReady::Ready(list(&self.shared))
    }

    fn remove(&self, ended: Vec<Revocation>) {
        let op = Op::RemoveRevocations(ended);
        // If the queue is full, they stay until the next start removes them.
        self.shared.queue.push(Share::OWN, op).unwrap_or_default();
    }

    /// One process uses the store, so there is no other writer.
    fn watch(&self, _: RevocationWatcher) {}
}

fn list(shared: &Shared) -> Result<Vec<Revocation>> {
    let Some(store) = shared.store.load_full() else {
        return Err(unavailable());
    };
    let unreadable = |trouble: Trouble| {
        let why = trouble.of_a_store();
        Error::precondition(format!("history.path: revocations can't be read: {why}"))
    };
    load(&store, shared.on_damage).map_err(unreadable)
}

/// The revocations in a store. If damage is tolerated, unreadable ones are left out with a warning:
/// their tokens are valid again.
pub(super) fn load(store: &Store, on_damage: OnDamage) -> Result<Vec<Revocation>, Trouble> {
    let mut found = Vec::new();
    for entry in store.meta_from(REVOCATIONS) {
        let read = entry.and_then(|(key, record)| {
            let record: RevocationRecord = unseal(&key, &record)?;
            Ok(record.revocation()?)
        });
        match read {
            Ok(revocation) => found.push(revocation),
            Err(trouble @ Trouble::Damaged(_)) if on_damage == OnDamage::NewEpoch => {
                tracing::error!(
                    %trouble,
                    "a revocation can't be read: the revoked tokens are valid again; revoke them again"
                );
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(found)
}

impl Committer {
    /// Removes revocations that have ended, unless later ones have replaced them.
    pub(super) fn remove_revocations(&mut self, store: &Store, ended: &[Revocation]) {
        let mut batch = store.batch();
        for one in ended {
            let record = RevocationRecord::new(one);
            match store.revocation(&record) {
                Ok(Some(kept)) if !kept.is_later_than(&record) => batch.remove_revocation(&kept),
                Ok(_) => {}
                // The next start removes it, or reports the problem.
                Err(trouble) => tracing::debug!(%trouble, "an ended revocation can't be read"),
            }
        }
        if let Err(trouble) = self.commit_revocations(batch, Commit::Buffered) {
            self.fail(&trouble, None);
        }
    }

    /// Writes revocations into a store that was recreated because the last one was damaged.
    pub(super) fn restore_revocations(
        &mut self,
        store: &Store,
        kept: &[Revocation],
    ) -> Result<(), Trouble> {
        let mut batch = store.batch();
        for one in kept {
            batch.put_revocation(&RevocationRecord::new(one));
        }
        self.commit_revocations(batch, Commit::Synced)
    }

    fn commit_revocations(&mut self, mut batch: Batch<'_>, how: Commit) -> Result<(), Trouble> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut manifest = self.next_manifest();
        manifest.at = self.shared.clock.now();
        self.next_batch = manifest.batch + 1;
        batch.put_manifest(&mut manifest);
        batch.commit(how)?;
        self.wrote(manifest);
        Ok(())
    }

    /// The revocations of a store that is about to be reopened.
    pub(super) fn kept_revocations(&self) -> Vec<Revocation> {
        let store: Option<Arc<Store>> = self.shared.store.load_full();
        let kept = store.map(|store| load(&store, OnDamage::NewEpoch));
        kept.and_then(Result::ok).unwrap_or_default()
    }
}
