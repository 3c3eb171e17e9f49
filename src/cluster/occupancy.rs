//! Which channels have subscribers on other nodes.
//!
//! Only webhooks need this, so nodes exchange it only if webhooks are configured. Each node notifies
//! the others when a channel gains its first subscriber there or loses its last.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::messages::pb;
use crate::event::{ChannelName, NodeId};

/// The most changes that wait to be sent.
const QUEUED: usize = 65_536;

/// Is called when a channel gains its first other node, or loses its last.
pub(super) type OnOccupancy = Box<dyn Fn(&ChannelName, bool) + Send + Sync>;

/// A change on this node, to send to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OccupancyChange {
    /// A channel gained its first subscriber, or lost its last.
    One(ChannelName, bool),
    /// The process with this number needs everything, or all need it.
    Everything(Option<u64>),
}

/// The channels with subscribers on other nodes.
pub struct ClusterOccupancy {
    elsewhere: Mutex<HashMap<ChannelName, BTreeSet<NodeId>>>,
    changes: Sender<OccupancyChange>,
    overflowed: AtomicBool,
    on_change: OnOccupancy,
}

impl ClusterOccupancy {
    /// No channel anywhere; and the changes of this node, to send to the others.
    #[must_use]
    pub fn new(on_change: OnOccupancy) -> (Arc<Self>, Receiver<OccupancyChange>) {
        let (changes, receiver) = channel(QUEUED);
        let occupancy = ClusterOccupancy {
            elsewhere: Mutex::default(),
            changes,
            overflowed: AtomicBool::new(false),
            on_change,
        };
        (Arc::new(occupancy), receiver)
    }

    fn elsewhere(&self) -> MutexGuard<'_, HashMap<ChannelName, BTreeSet<NodeId>>> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a channel has subscribers on another node.
    #[must_use]
    pub fn is_occupied(&self, channel: &ChannelName) -> bool {
        self.elsewhere().contains_key(channel)
    }

    /// All channels with subscribers on other nodes.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelName> {
        self.elsewhere().keys().cloned().collect()
    }

    /// Notifies the other nodes of a channel's occupancy on this one.
    pub fn announce(&self, channel: &ChannelName, occupied: bool) {
        self.send(OccupancyChange::One(channel.clone(), occupied));
    }

    /// Sends the other nodes all occupied channels.
    pub fn announce_all(&self) {
        self.send(OccupancyChange::Everything(None));
    }

    /// Sends all occupied channels to a process that has just joined.
    pub(super) fn announce_all_to(&self, process: u64) {
        self.send(OccupancyChange::Everything(Some(process)));
    }

    fn send(&self, change: OccupancyChange) {
        if self.changes.try_send(change).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// True if changes were lost; false from then on.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Another node has sent changes; `reset`: no channel is occupied there before them.
    pub(super) fn changed_elsewhere(&self, node: NodeId, changes: &pb::OccupancyChanges) {
        if changes.reset {
            self.node_lost(node);
        }
        for change in &changes.changes {
            let Ok(channel) = ChannelName::new(&change.channel) else {
                continue;
            };
            if self.set(node, &channel, change.occupied) {
                (self.on_change)(&channel, change.occupied);
            }
        }
    }

    /// True if the channel has gained its first other node, or lost its last.
    fn set(&self, node: NodeId, channel: &ChannelName, occupied: bool) -> bool {
        let mut elsewhere = self.elsewhere();
        if occupied {
            let nodes = elsewhere.entry(channel.clone()).or_default();
            let is_first = nodes.is_empty();
            return nodes.insert(node) && is_first;
        }
        let Some(nodes) = elsewhere.get_mut(channel) else {
            return false;
        };
        nodes.remove(&node);
        let is_last = nodes.is_empty();
        if is_last {
            elsewhere.remove(channel);
        }
        is_last
    }

    /// A node is gone, and its subscribers with it.
    pub(super) fn node_lost(&self, node: NodeId) {
        let mut gone = Vec::new();
        self.elsewhere().retain(|channel, nodes| {
            if nodes.remove(&node) && nodes.is_empty() {
                gone.push(channel.clone());
            }
            !nodes.is_empty()
        });
        gone.iter()
            .for_each(|channel| (self.on_change)(channel, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_occupied_by_its_first_node_and_vacated_by_its_last() {
        let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let note = move |_: &ChannelName, occupied| noted.lock().unwrap().push(occupied);
        let (occupancy, _changes) = ClusterOccupancy::new(Box::new(note));
        let channel = ChannelName::new("room:1").unwrap();
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        let receive = |node, occupied, reset| {
            let change = pb::OccupancyChange {
                channel: channel.to_string(),
                occupied,
            };
            let changes = vec![change];
            occupancy.changed_elsewhere(node, &pb::OccupancyChanges { changes, reset });
        };
        receive(one, true, false);
        receive(two, true, false);
        receive(two, true, true);
        receive(one, false, false);
        assert!(occupancy.is_occupied(&channel));
        occupancy.node_lost(two);
        assert!(!occupancy.is_occupied(&channel));
        assert_eq!(*seen.lock().unwrap(), [true, false]);
    }
}
