//! A batch under construction. Nothing in it takes effect before it is written.

use std::collections::HashMap;
use std::sync::Arc;

use super::channel::{Channel, epoch};
use super::history::{History, Mark};
use super::queue::{Answer, Publish};
use super::record::{ChannelRecord, EventRecord, KeyRecord, Manifest, Numbers, RevocationRecord};
use super::store::{Batch, Store};
use super::trouble::Trouble;
use super::{Shared, unavailable};
use crate::auth::Revocation;
use crate::broker::clock::millis;
use crate::broker::keys::{KEY_TTL, KeyShare, KeyShares, KeyTable, ScopedKey};
use crate::broker::{Bounds, Receipt};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Epoch, Event, HistoryPolicy, IdempotencyKey, Position};

/// The minimum number of old events of a channel that a batch deletes at once, if there are as
/// many.
const REMOVED_AT_ONCE: u64 = 64;

/// A batch under construction.
pub(super) struct Stage<'s> {
    pub(super) store: &'s Store,
    pub(super) batch: Batch<'s>,
    /// The state after it is written.
    pub(super) manifest: Manifest,
    pub(super) channels: Vec<Staged>,
    pub(super) done: Vec<Done>,
    /// True if the batch must be synced before anything in it is acknowledged, even with
    /// `durability = "async"`.
    pub(super) is_synced: bool,
    now: u64,
    bounds: Bounds,
    by_name: HashMap<ChannelName, usize>,
    keys: HashMap<ScopedKey, usize>,
}

/// The state of a channel after the batch.
pub(super) struct Staged {
    pub(super) channel: Arc<Channel>,
    pub(super) is_new: bool,
    pub(super) history: History,
    pub(super) removed: u64,
    pub(super) events: Vec<Arc<Event>>,
    previous: Numbers,
    marks: Vec<Mark>,
}

/// The results to send once the batch is written, in the order of the requests.
pub(super) enum Done {
    /// An event has an offset.
    Event {
        event: Arc<Event>,
        key: Option<(ScopedKey, KeyShare)>,
        answer: Answer<Receipt>,
    },
    /// A repeat of an earlier event of this batch.
    Repeat { of: usize, answer: Answer<Receipt> },
    /// A revocation is stored.
    Revoked { answer: Answer<()> },
    /// A channel was created.
    Opened {
        channel: Arc<Channel>,
        answer: Answer<Arc<Channel>>,
    },
}

impl<'s> Stage<'s> {
    /// A batch with this manifest.
    pub(super) fn new(store: &'s Store, manifest: Manifest, now: u64, bounds: Bounds) -> Self {
        Stage {
            store,
            batch: store.batch(),
            manifest: Manifest {
                at: now,
                ..manifest
            },
            channels: Vec::new(),
            done: Vec::new(),
            is_synced: false,
            now,
            bounds,
            by_name: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// Assigns an offset to an event, or refuses it.
    pub(super) fn publish(
        &mut self,
        shared: &Shared,
        keys: &KeyTable<u64>,
        key_shares: &Arc<KeyShares>,
        publish: Publish,
    ) {
        let Publish {
            channel: name,
            mut draft,
            answer,
        } = publish;
        let given = draft.idempotency_key.take();
        let mut key = None;
        if let Some(given) = &given {
            let scoped = ScopedKey::new(&name, given);
            if let Some(receipt) = keys.repeat(&scoped) {
                answer.give(Ok(receipt));
                return;
            }
            if let Some(of) = self.keys.get(&scoped).copied() {
                self.done.push(Done::Repeat { of, answer });
                return;
            }
            match key_shares.take(&scoped) {
                Ok(share) => key = Some((scoped, share)),
                Err(error) => {
                    answer.give(Err(error));
                    return;
                }
            }
        }
        let staged = match self.channel(shared, &name) {
            Ok(staged) => staged,
            Err(error) => {
                answer.give(Err(error));
                return;
            }
        };
        let event = self.append(staged, Event::new(draft, None));
        if let (Some(given), Some((scoped, _))) = (&given, &key) {
            self.keep_key(&name, given, *scoped, &event);
        }
        self.done.push(Done::Event { event, key, answer });
    }

    fn append(&mut self, staged: usize, mut event: Event) -> Arc<Event> {
        let Some(staged) = self.channels.get_mut(staged) else {
            return Arc::new(event);
        };
        let (offset, mark) = staged.history.append(self.now, event.weight());
        let epoch = staged.channel.epoch;
        event.position = Some(Position { epoch, offset });
        let record = EventRecord::new(&event, mark.at, mark.before);
        self.batch.put_event(staged.channel.id, offset, &record);
        let event = Arc::new(event);
        staged.marks.push(mark);
        staged.events.push(Arc::clone(&event));
        event
    }

    fn keep_key(
        &mut self,
        name: &ChannelName,
        key: &IdempotencyKey,
        scoped: ScopedKey,
        event: &Event,
    ) {
        let Some(position) = event.position else {
            return;
        };
        let record = KeyRecord {
            channel: name.as_str().to_owned(),
            key: key.key.to_string(),
            publisher: key.publisher.to_string(),
            id: event.id.as_bytes().to_vec(),
            epoch: position.epoch.to_bits() ^ self.manifest.era,
            offset: position.offset,
        };
        let index = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let expires = self.now.saturating_add(millis(KEY_TTL));
        self.batch
            .put_key(expires, self.manifest.batch, index, &record);
        self.keys.insert(scoped, self.done.len());
    }

    /// Stores a revocation.
    pub(super) fn revoke(&mut self, revocation: &Revocation, answer: Answer<()>) {
        self.batch
            .put_revocation(&RevocationRecord::new(revocation));
        self.is_synced = true;
        self.done.push(Done::Revoked { answer });
    }

    /// Loads a channel, or creates it. Answers immediately if it exists.
    pub(super) fn open(
        &mut self,
        shared: &Shared,
        name: &ChannelName,
        answer: Answer<Arc<Channel>>,
    ) {
        if let Some(channel) = shared.table.get(name) {
            answer.give(Ok(channel));
            return;
        }
        let place = self.channel(shared, name);
        match place.map(|place| self.channels.get(place)) {
            Ok(Some(staged)) if staged.is_new => {
                let channel = Arc::clone(&staged.channel);
                self.done.push(Done::Opened { channel, answer });
            }
            Ok(Some(staged)) => {
                answer.give(Ok(Arc::clone(&staged.channel)));
            }
            Ok(None) => drop(answer),
            Err(error) => {
                answer.give(Err(error));
            }
        }
    }

    /// The index of a channel among the staged ones.
    fn channel(&mut self, shared: &Shared, name: &ChannelName) -> Result<usize> {
        if let Some(place) = self.by_name.get(name) {
            return Ok(*place);
        }
        let staged = match shared.table.get(name) {
            Some(channel) => Staged::of(channel, false),
            None => self.load(shared, name)?,
        };
        let place = self.channels.len();
        self.by_name.insert(name.clone(), place);
        self.channels.push(staged);
        Ok(place)
    }

    /// A channel from disk, or a new one.
    fn load(&mut self, shared: &Shared, name: &ChannelName) -> Result<Staged> {
        let found = self.store.channel(name).map_err(|trouble| {
            shared.metrics.store().damaged(1);
            tracing::error!(channel = %name, %trouble, "a channel can't be read");
            unavailable()
        })?;
        let era = self.manifest.era;
        if let Some(record) = found {
            let channel = Arc::new(Channel::new(name.clone(), &record, era, self.now));
            shared.table.insert(&channel);
            return Ok(Staged::of(channel, false));
        }
        let most = u64::try_from(self.bounds.channels).unwrap_or(u64::MAX);
        if self.manifest.channels >= most {
            shared.metrics.limit_reached("limits.channels");
            return Err(Error::exhausted("too many channels (limits.channels)"));
        }
        let record = ChannelRecord {
            id: self.manifest.next_id,
            epoch: Epoch::random().to_bits() ^ era,
            now: History::EMPTY,
            removed: 1,
            ..ChannelRecord::default()
        };
        self.manifest.next_id += 1;
        self.manifest.channels += 1;
        debug_assert_ne!(epoch(record.epoch, era).to_bits(), 0, "0 names no epoch");
        let channel = Channel::new(name.clone(), &record, era, self.now);
        Ok(Staged::of(Arc::new(channel), true))
    }

    /// Completes the batch: applies retention, and writes the state of all changed channels.
    pub(super) fn complete(&mut self, shared: &Shared) {
        for staged in &mut self.channels {
            if !staged.is_changed() {
                continue;
            }
            let policy = shared.policy(&staged.channel.name);
            if let Err(trouble) = staged.trim(self.store, &policy, self.now) {
                // The only effect is that old events are kept longer.
                shared.metrics.store().damaged(1);
                tracing::error!(channel = %staged.channel.name, %trouble, "old events can't be read");
            }
            staged.remove_old(&mut self.batch);
            let record = staged.record(self.manifest.batch, self.now);
            self.batch.put_channel(&staged.channel.name, &record);
        }
        if !self.batch.is_empty() {
            self.batch.put_manifest(&mut self.manifest);
        }
    }
}

impl Staged {
    fn of(channel: Arc<Channel>, is_new: bool) -> Self {
        let (history, removed) = {
            let state = channel.state();
            (state.history.clone(), state.removed)
        };
        Staged {
            previous: *history.numbers(),
            channel,
            is_new,
            history,
            removed,
            marks: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_new || !self.events.is_empty()
    }

    fn trim(&mut self, store: &Store, policy: &HistoryPolicy, now: u64) -> Result<(), Trouble> {
        let (id, stored, staged) = (self.channel.id, self.previous.last, &self.marks);
        let mut look_up = |from: u64, limit: usize| {
            if from <= stored {
                let found = store.marks(id, from..=stored, limit)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            let from = from.max(stored + 1);
            let skip = usize::try_from(from - stored - 1).unwrap_or(usize::MAX);
            let run: Vec<Mark> = staged.iter().skip(skip).take(limit).copied().collect();
            Ok((!run.is_empty()).then_some((from, run)))
        };
        self.history.trim_with(policy, now, &mut look_up)
    }

    /// Deletes events that expired in earlier batches. Those that expire in this one stay until the
    /// next, so that it can be reverted completely.
    fn remove_old(&mut self, batch: &mut Batch<'_>) {
        let published = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        let at_once = published.saturating_mul(2).max(REMOVED_AT_ONCE);
        let until = self
            .previous
            .first
            .min(self.removed.saturating_add(at_once));
        for offset in self.removed..until {
            batch.remove_event(self.channel.id, offset);
        }
        self.removed = self.removed.max(until);
    }

    fn record(&self, batch: u64, now: u64) -> ChannelRecord {
        ChannelRecord {
            id: self.channel.id,
            epoch: self.channel.own_epoch,
            now: *self.history.numbers(),
            removed: self.removed,
            used: now,
            batch,
            previous: (!self.is_new).then_some(self.previous),
        }
    }
}
