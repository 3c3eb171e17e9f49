//! What this node follows, and its subscriptions in Redis.
//!
//! A channel is one sharded topic. A namespace, and all channels, are one topic in each bucket; the
//! publishing script finds out which of them have subscribers. A subscription outlives its last
//! follower by a few seconds, so that a page reload costs Redis nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;
use super::keys::{Keys, bucket};
use super::server::Server;
use super::servers::Map;
use crate::error::Error;
use crate::event::{ChannelName, ChannelPattern};

/// How long a subscription outlives its last follower.
const LINGER: Duration = Duration::from_secs(5);
/// Topics of one pipeline.
const BATCH: usize = 512;
/// How long a read waits for a subscription to be in force.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failure, and after a refusal.
const PAUSE: Duration = Duration::from_millis(50);
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What a subscription is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Followed {
    /// One channel.
    Channel(ChannelName),
    /// Every channel of a namespace.
    Namespace(Arc<str>),
    /// Every channel.
    All,
    /// Events that go straight to their audience.
    Direct,
}

impl From<&ChannelPattern> for Followed {
    fn from(pattern: &ChannelPattern) -> Self {
        match pattern {
            ChannelPattern::Exact(channel) => Followed::Channel(channel.clone()),
            ChannelPattern::Namespace(name) => Followed::Namespace(Arc::clone(name)),
            ChannelPattern::All => Followed::All,
        }
    }
}

impl Followed {
    /// True if a channel is among these.
    pub(super) fn includes(&self, channel: &ChannelName) -> bool {
        match self {
            Followed::Channel(own) => own == channel,
            Followed::Namespace(name) => **name == *channel.namespace(),
            Followed::All => true,
            Followed::Direct => false,
        }
    }
}

/// The followed channels and patterns.
pub(super) struct Interest {
    state: Mutex<State>,
    /// There are new ones.
    changed: Notify,
    /// Counts the subscriptions that came into force.
    progress: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Followed, Entry>,
    /// Not subscribed to everywhere yet.
    pending: Vec<Followed>,
    /// Without followers since then.
    left: VecDeque<(Instant, Followed)>,
}

#[derive(Default)]
struct Entry {
    followers: u32,
    /// The numbers of the servers on which the subscription is in force.
    on: Vec<u64>,
}

impl Default for Interest {
    fn default() -> Self {
        Interest {
            state: Mutex::default(),
            changed: Notify::new(),
            progress: watch::Sender::new(0),
        }
    }
}

impl Interest {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard follows a channel or pattern, or does so no longer.
    pub(super) fn set(&self, followed: Followed, wanted: bool) {
        let mut state = self.lock();
        if wanted {
            let mut is_new = false;
            let entry = state.entries.entry(followed.clone()).or_insert_with(|| {
                is_new = true;
                Entry::default()
            });
            entry.followers += 1;
            if is_new {
                state.pending.push(followed);
                drop(state);
                self.changed.notify_one();
            }
            return;
        }
        let Some(entry) = state.entries.get_mut(&followed) else {
            return;
        };
        entry.followers = entry.followers.saturating_sub(1);
        if entry.followers == 0 {
            state.left.push_back((Instant::now(), followed));
        }
    }

    /// True if the channel is subscribed to by its own name.
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        let channel = Followed::Channel(channel.clone());
        self.lock().entries.contains_key(&channel)
    }

    /// The followed patterns.
    pub(super) fn patterns(&self) -> Vec<Followed> {
        let state = self.lock();
        let patterns = state.entries.keys();
        patterns
            .filter(|followed| matches!(followed, Followed::Namespace(_) | Followed::All))
            .cloned()
            .collect()
    }

    /// Waits until the channel's subscription is in force, if it is followed.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub(super) async fn in_force(
        &self,
        channel: &ChannelName,
        shared: &Shared,
    ) -> crate::error::Result<()> {
        let channel = Followed::Channel(channel.clone());
        self.is_subscribed(&channel, shared).await
    }

    /// Waits until a subscription is in force.
    ///
    /// # Errors
    /// `unavailable` while Redis is away.
    pub(super) async fn is_subscribed(
        &self,
        followed: &Followed,
        shared: &Shared,
    ) -> crate::error::Result<()> {
        let is_in_force = || {
            let Some(map) = shared.servers.map() else {
                return false;
            };
            let state = self.lock();
            let entry = state.entries.get(followed);
            entry.is_none_or(|entry| entry.is_on(followed, &map))
        };
        if is_in_force() {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        let waiting = async {
            while !is_in_force() {
                if progress.changed().await.is_err() {
                    return;
                }
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.map_err(|_| Error::unavailable("Redis is away").retry_after(Duration::from_secs(1)))
    }

    fn progressed(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Forgets subscriptions on servers that were replaced. True if there are any to make again.
    fn moved(&self, map: &Map) -> bool {
        let mut state = self.lock();
        let State {
            entries, pending, ..
        } = &mut *state;
        pending.clear();
        let mut again = false;
        for (followed, entry) in entries {
            let before = entry.on.len();
            entry
                .on
                .retain(|id| map.servers.iter().any(|server| server.id == *id));
            if !entry.is_on(followed, map) {
                again |= before > 0;
                pending.push(followed.clone());
            }
        }
        again
    }

    /// Some of the subscriptions to make, for each server its topics.
    fn to_subscribe(&self, map: &Map, keys: &Keys) -> (Vec<Followed>, Vec<Topics>) {
        let mut state = self.lock();
        let (mut all, mut topics) = (Vec::new(), Vec::new());
        let mut count = 0;
        while count < BATCH
            && let Some(followed) = state.pending.pop()
        {
            if let Some(entry) = state.entries.get(&followed) {
                count += add_topics(&followed, Some(entry), map, keys, &mut topics);
                all.push(followed);
            }
        }
        (all, topics)
    }

    /// The subscriptions are in force on these servers.
    fn subscribed(&self, all: &[Followed], map: &Map) {
        let mut state = self.lock();
        for followed in all {
            let Some(entry) = state.entries.get_mut(followed) else {
                continue;
            };
            entry.on = wanted(followed, map).map(|server| server.id).collect();
            entry.on.sort_unstable();
            entry.on.dedup();
            entry.on.shrink_to_fit();
        }
        drop(state);
        self.progressed();
    }

    fn failed(&self, all: Vec<Followed>) {
        self.lock().pending.extend(all);
    }

    /// Removes what nobody has followed for a while, and returns it with its topics.
    fn expired(&self, map: Option<&Map>, keys: &Keys) -> (Vec<Followed>, Vec<Topics>) {
        let mut state = self.lock();
        let (mut all, mut topics) = (Vec::new(), Vec::new());
        while state
            .left
            .front()
            .is_some_and(|(since, _)| since.elapsed() >= LINGER)
        {
            let Some((_, followed)) = state.left.pop_front() else {
                break;
            };
            let entry = state.entries.get(&followed);
            if entry.is_some_and(|entry| entry.followers == 0) {
                state.entries.remove(&followed);
                if let Some(map) = map {
                    add_topics(&followed, None, map, keys, &mut topics);
                }
                all.push(followed);
            }
        }
        if state.entries.capacity() > 64 && state.entries.len() < state.entries.capacity() / 4 {
            state.entries.shrink_to_fit();
        }
        (all, topics)
    }
}

impl Entry {
    fn is_on(&self, followed: &Followed, map: &Map) -> bool {
        wanted(followed, map).all(|server| self.on.contains(&server.id))
    }
}

/// The topics of one server.
struct Topics {
    server: Arc<Server>,
    names: Vec<String>,
}

/// The servers that serve it.
fn wanted<'m>(followed: &Followed, map: &'m Map) -> Box<dyn Iterator<Item = &'m Arc<Server>> + 'm> {
    match followed {
        Followed::Channel(channel) => Box::new(map.of(bucket(channel)).into_iter()),
        Followed::Namespace(_) | Followed::All | Followed::Direct => Box::new(map.servers.iter()),
    }
}

/// Adds the topics on servers on which they are not in force, and counts them.
fn add_topics(
    followed: &Followed,
    entry: Option<&Entry>,
    map: &Map,
    keys: &Keys,
    topics: &mut Vec<Topics>,
) -> usize {
    let mut count = 0;
    let mut add = |bucket: u8, name: String| {
        let Some(server) = map.of(bucket) else { return };
        if entry.is_some_and(|entry| entry.on.contains(&server.id)) {
            return;
        }
        count += 1;
        match topics.iter_mut().find(|part| part.server.id == server.id) {
            Some(part) => part.names.push(name),
            None => topics.push(Topics {
                server: Arc::clone(server),
                names: vec![name],
            }),
        }
    };
    let mut everywhere = |name: &dyn Fn(u8) -> String| {
        for bucket in 0..=u8::MAX {
            add(bucket, name(bucket));
        }
    };
    match followed {
        Followed::Channel(channel) => add(bucket(channel), keys.topic(channel)),
        Followed::Namespace(name) => everywhere(&|bucket| keys.namespace_topic(bucket, name)),
        Followed::All => everywhere(&|bucket| keys.bucket_topic(bucket)),
        Followed::Direct => everywhere(&|bucket| keys.direct_topic(bucket)),
    }
    count
}

/// Keeps the subscriptions as they should be. Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    let interest = &shared.interest;
    let mut maps = shared.servers.watch();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost_since = None;
    let mut made_again = false;
    maps.mark_changed();
    loop {
        tokio::select! {
            changed = maps.changed() => {
                if changed.is_err() {
                    return;
                }
                match &*maps.borrow_and_update() {
                    Some(map) => made_again |= interest.moved(map) || lost_since.is_some(),
                    None => lost_since = lost_since.or(Some(())),
                }
            }
            () = interest.changed.notified() => {}
            _ = ticks.tick() => unsubscribe(&shared).await,
        }
        let Some(map) = shared.servers.map() else {
            continue;
        };
        if let Err(pause) = subscribe(&shared, &map).await {
            shared.servers.look_again();
            tokio::time::sleep(pause).await;
            interest.changed.notify_one();
            continue;
        }
        if std::mem::take(&mut made_again) {
            lost_since = None;
            shared.receiver.verify(true);
        }
    }
}

/// Makes the subscriptions that are missing. If a server failed, says when to try again.
async fn subscribe(shared: &Shared, map: &Map) -> Result<(), Duration> {
    loop {
        let (all, topics) = shared.interest.to_subscribe(map, &shared.keys);
        if all.is_empty() {
            return Ok(());
        }
        for part in topics {
            for names in part.names.chunks(BATCH) {
                if let Err(error) = part.server.subscribe(names).await {
                    shared.interest.failed(all);
                    // A lost connection is reported elsewhere, and a slot that has moved is found.
                    if error.code().is_none_or(|code| code == "MOVED") {
                        return Err(PAUSE);
                    }
                    tracing::warn!(%error, "Redis refuses subscriptions");
                    return Err(REFUSED_PAUSE);
                }
            }
        }
        shared.interest.subscribed(&all, map);
    }
}

async fn unsubscribe(shared: &Shared) {
    let map = shared.servers.map();
    let (all, topics) = shared.interest.expired(map.as_deref(), &shared.keys);
    for part in topics {
        for names in part.names.chunks(BATCH) {
            // A lost server has no subscriptions left.
            part.server.unsubscribe(names).await.unwrap_or_default();
        }
    }
    if !all.is_empty() {
        shared.receiver.left(&all, &shared.interest);
    }
}
