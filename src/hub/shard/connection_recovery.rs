//! The subscriptions of one connection that are in recovery.

use crate::event::Position;
use crate::hub::shard::connection::{Connection, RecoveryState};

impl Connection {
    /// The recovery of a subscription.
    pub(super) fn recovery(&self, topic: u32) -> Option<&RecoveryState> {
        self.recoveries().find(|c| c.topic == topic)
    }

    /// The same, mutably.
    pub(super) fn recovery_mut(&mut self, topic: u32) -> Option<&mut RecoveryState> {
        self.recoveries
            .as_mut()?
            .iter_mut()
            .find(|c| c.topic == topic)
    }

    fn recoveries(&self) -> impl Iterator<Item = &RecoveryState> {
        self.recoveries.iter().flat_map(|all| all.iter())
    }

    /// Removes the recovery of a subscription.
    pub(super) fn end_recovery(&mut self, topic: u32) {
        let Some(recoveries) = &mut self.recoveries else {
            return;
        };
        recoveries.retain(|c| c.topic != topic);
        if recoveries.is_empty() {
            self.recoveries = None;
        }
    }

    /// From now on the subscription reads history after `after`; false if it ends anyway.
    pub(super) fn begin_recovery(&mut self, topic: u32, after: Position) -> bool {
        let (Some(subscription), None) = (self.subscription(topic), &self.ending) else {
            return false;
        };
        let recovery = RecoveryState::behind(topic, subscription.serial, after);
        self.recoveries.get_or_insert_default().push(recovery);
        true
    }

    /// Lets the connection's other subscriptions read before this one continues, so that a channel
    /// whose history never ends starves none of them.
    pub(super) fn recover_last(&mut self, topic: u32) {
        let Some(recoveries) = self.recoveries.as_mut() else {
            return;
        };
        if let Some(at) = recoveries.iter().position(|c| c.topic == topic) {
            let recovery = recoveries.remove(at);
            recoveries.push(recovery);
        }
    }

    /// The topics to continue with, those with a page in memory first: no other page is read before
    /// that one is sent. Topics whose page or verdicts are pending off the shard are left out.
    pub(super) fn next_recoveries(&self) -> Vec<u32> {
        let ready = self.recoveries().filter(|c| !c.reading);
        let (with_page, without): (Vec<&RecoveryState>, Vec<&RecoveryState>) =
            ready.partition(|c| !c.waiting.is_empty());
        with_page
            .into_iter()
            .chain(without)
            .map(|c| c.topic)
            .collect()
    }

    /// True if a subscription must wait with its next page, because others of the connection have
    /// one. A connection holds one page at a time, however many of its subscriptions are in
    /// recovery, and a second one while a filter is evaluated on the first: a subscription without
    /// a filter (`filtered`) does not wait for the filter of another. Events that are held back and
    /// that no history keeps have their own limit.
    pub(super) fn others_have_pages(&self, topic: u32, filtered: bool) -> bool {
        let mut evaluated = 0;
        for other in self.recoveries() {
            if other.topic == topic || other.loose.is_some() {
                continue;
            }
            match (other.reading, other.waiting.is_empty()) {
                (false, true) => {}
                (true, false) => evaluated += 1,
                _ => return true,
            }
        }
        evaluated > usize::from(!filtered)
    }

    /// The bytes that its subscriptions hold back for their filters; `None` if none is in recovery.
    pub(super) fn held_back(&self) -> Option<usize> {
        let recoveries = self.recoveries.as_ref()?;
        let held = recoveries.iter().filter_map(|one| one.loose.or(one.kept));
        Some(held.sum())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Epoch;
    use crate::filter::tests::event;
    use crate::hub::shard::connection::{Subscription, Waiting};
    use crate::hub::shard::fixture::connection;

    fn in_recovery(topics: &[u32]) -> Connection {
        let mut connection = connection(None);
        let after = Position {
            epoch: Epoch::from_bits(0),
            offset: 0,
        };
        for &topic in topics {
            connection.subscriptions.push(Subscription {
                topic,
                at: 0,
                present: false,
                serial: topic,
            });
            assert!(connection.begin_recovery(topic, after));
        }
        assert!(
            !connection.begin_recovery(99, after),
            "no such subscription"
        );
        connection
    }

    fn give_page(connection: &mut Connection, topic: u32) {
        let event = Waiting::from(Arc::new(event("a", "1", "")));
        let recovery = connection.recovery_mut(topic).unwrap();
        recovery.waiting.push_back(event);
    }

    #[test]
    fn subscription_with_a_page_goes_first() {
        let mut connection = in_recovery(&[1, 2, 3]);
        give_page(&mut connection, 3);
        connection.recovery_mut(1).unwrap().reading = true;
        assert_eq!(connection.next_recoveries(), [3, 2]);
        connection.recovery_mut(1).unwrap().reading = false;
        connection.recover_last(1);
        assert_eq!(connection.next_recoveries(), [3, 2, 1]);
    }

    #[test]
    fn second_page_is_read_only_while_a_filter_is_evaluated() {
        let mut connection = in_recovery(&[1, 2]);
        assert!(!connection.others_have_pages(1, true));
        give_page(&mut connection, 2);
        assert!(connection.others_have_pages(1, false));
        connection.recovery_mut(2).unwrap().reading = true;
        assert!(!connection.others_have_pages(1, false));
        assert!(connection.others_have_pages(1, true));
    }

    #[test]
    fn last_recovery_frees_its_memory() {
        let mut connection = in_recovery(&[1, 2]);
        connection.end_recovery(1);
        assert!(connection.recovery(1).is_none() && connection.recovery(2).is_some());
        connection.end_recovery(2);
        assert!(connection.recoveries.is_none() && connection.held_back().is_none());
    }
}
