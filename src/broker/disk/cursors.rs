//! Stores cursors of durable subscriptions.
//!
//! All of them are in memory, and each change is written beside the manifest, in the batch of the
//! events that wait at that moment. Nobody waits for it.

use super::queue::Op;
use super::record::{CursorRecord, unseal};
use super::recover::OnDamage;
use super::store::{CURSORS, Store};
use super::trouble::Trouble;
use super::{Disk, Shared};
use crate::broker::cursors::CursorIndex;
use crate::broker::{Cursor, CursorKey, CursorQuery, CursorStore, Share};
use crate::event::{ChannelName, Position, Timestamp};
use crate::maybe_ready::MaybeReady;

/// A change of a cursor: its new state, or `None` where it is removed.
pub(super) type CursorChange = (CursorKey, Option<Cursor>);

impl CursorStore for Disk {
    fn get(&self, key: &CursorKey) -> MaybeReady<Option<Cursor>> {
        MaybeReady::ok(self.shared.cursors.get(key))
    }

    fn set(&self, key: &CursorKey, position: Position) -> MaybeReady<()> {
        let changed = self.shared.cursors.set(key, position, Timestamp::now());
        MaybeReady::Ready(changed.map(|cursor| {
            if let Some(cursor) = cursor {
                write(&self.shared, vec![(key.clone(), Some(cursor))]);
            }
        }))
    }

    fn set_later(&self, key: &CursorKey, position: Position) {
        // It is done at once, and the write is queued.
        drop(self.set(key, position));
    }

    fn list(&self, query: &CursorQuery) -> MaybeReady<Vec<(CursorKey, Cursor)>> {
        MaybeReady::ok(self.shared.cursors.list(query))
    }

    fn forget(&self, user: &str, channel: Option<&ChannelName>) -> MaybeReady<u64> {
        let gone = self.shared.cursors.forget(user, channel);
        let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        write(&self.shared, removed(gone));
        MaybeReady::ok(count)
    }
}

fn removed(keys: Vec<CursorKey>) -> Vec<CursorChange> {
    keys.into_iter().map(|key| (key, None)).collect()
}

/// Queues changes. If the queue is full, a later change of the same cursor is written instead, and
/// a crash before that has events delivered again.
fn write(shared: &Shared, changes: Vec<CursorChange>) {
    if !changes.is_empty() {
        let op = Op::Cursors(changes);
        shared.queue.push(Share::OWN, op).unwrap_or_default();
    }
}

/// Removes some of the cursors that were not used for too long.
pub(super) fn sweep(shared: &Shared) {
    write(shared, removed(shared.cursors.sweep(Timestamp::now())));
}

/// Loads the cursors of a store. Where damage is tolerated, those that can't be read are left out:
/// their subscriptions begin anew.
pub(super) fn load(store: &Store, index: &CursorIndex, on_damage: OnDamage) -> Result<(), Trouble> {
    for entry in store.meta_from(CURSORS) {
        let read = entry.and_then(|(key, record)| {
            let record: CursorRecord = unseal(&key, &record)?;
            Ok(record.cursor()?)
        });
        match read {
            Ok((key, cursor)) => index.restore(key, cursor),
            Err(trouble @ Trouble::Damaged(_)) if on_damage == OnDamage::NewEpoch => {
                tracing::warn!(%trouble, "a cursor can't be read");
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}
