//! Sending which channels are occupied on this node.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::Receiver;

use super::{CHANGES, Remote};
use crate::cluster::link::Address;
use crate::cluster::messages::pb;
use crate::cluster::occupancy::{ClusterOccupancy, OccupancyChange};

/// Sends changes in their order. Everything is sent by the same task, so that no change overtakes a
/// later state.
pub(super) async fn send_changes(remote: Weak<Remote>, mut changes: Receiver<OccupancyChange>) {
    let mut batch = Vec::new();
    while changes.recv_many(&mut batch, CHANGES).await > 0 {
        let Some(remote) = remote.upgrade() else {
            return;
        };
        let mut one_by_one = Vec::with_capacity(batch.len());
        for change in batch.drain(..) {
            match change {
                OccupancyChange::One(channel, occupied) => {
                    one_by_one.push(pb::OccupancyChange {
                        channel: channel.to_string(),
                        occupied,
                    });
                }
                OccupancyChange::Everything(to) => {
                    let before = std::mem::take(&mut one_by_one);
                    remote.send_part(Address::All, before, false).await;
                    remote
                        .send_everything(to.map_or(Address::All, Address::Process))
                        .await;
                }
            }
        }
        remote.send_part(Address::All, one_by_one, false).await;
        let overflowed = |occupancy: &Arc<ClusterOccupancy>| occupancy.take_overflow();
        if remote.occupancy.as_ref().is_some_and(overflowed) {
            remote.send_everything(Address::All).await;
        }
    }
}

impl Remote {
    /// Sends which channels are occupied, in the place of everything sent before.
    async fn send_everything(&self, to: Address) {
        let all = self.hub.routes().list("", "", usize::MAX);
        let all: Vec<pb::OccupancyChange> = all
            .into_iter()
            .filter(|(_, subscriptions)| *subscriptions > 0)
            .map(|(channel, _)| pb::OccupancyChange {
                channel: channel.to_string(),
                occupied: true,
            })
            .collect();
        self.send_part(to, Vec::new(), true).await;
        for part in all.chunks(CHANGES) {
            self.send_part(to, part.to_vec(), false).await;
        }
    }

    async fn send_part(&self, to: Address, changes: Vec<pb::OccupancyChange>, reset: bool) {
        if changes.is_empty() && !reset {
            return;
        }
        let changes = pb::OccupancyChanges { changes, reset };
        let message = self.envelope(0, pb::envelope::Body::Occupancy(changes));
        if let Err(why) = self.link.send(to, message).await {
            tracing::warn!(%why, "occupied channels were not sent to other nodes");
        }
    }
}
