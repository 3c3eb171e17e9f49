//! Single flight: equal questions at the same time are asked once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::answer::{Answer, Failure};
use super::question::Key;

type Outcome = Result<Arc<Answer>, Failure>;
type Slot = Option<Outcome>;

/// The questions that are being asked.
#[derive(Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Key, watch::Receiver<Slot>>>>);

/// The part of one of several equal questions.
pub(super) enum Role {
    /// It is asked.
    Leader(Flight),
    /// It gets the leader's outcome.
    Follower(Landing),
}

/// A question that is being asked. Dropped without an outcome, its followers ask again.
pub(super) struct Flight {
    key: Key,
    outcome: watch::Sender<Slot>,
    all: Arc<Mutex<HashMap<Key, watch::Receiver<Slot>>>>,
}

/// The outcome of the leader.
pub(super) struct Landing(watch::Receiver<Slot>);

impl Flights {
    /// Leads, or follows an equal question that is being asked.
    pub(super) fn join(&self, key: Key) -> Role {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = all.get(&key) {
            return Role::Follower(Landing(flight.clone()));
        }
        let (outcome, landing) = watch::channel(None);
        all.insert(key, landing);
        Role::Leader(Flight {
            key,
            outcome,
            all: Arc::clone(&self.0),
        })
    }
}

impl Flight {
    /// Passes the outcome on.
    pub(super) fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.key);
    }
}

impl Landing {
    /// Waits for the outcome; `None` if the leader was dropped without one.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn followers_get_the_outcome_or_lead_themselves() {
        let flights = Flights::default();
        let key = Key::of(b"question");
        let Role::Leader(first) = flights.join(key) else {
            panic!("the first one leads");
        };
        let Role::Follower(mut second) = flights.join(key) else {
            panic!("the second one follows");
        };
        first.land(Err(Failure::Timeout));
        assert!(matches!(
            second.outcome().await,
            Some(Err(Failure::Timeout))
        ));
        let Role::Leader(third) = flights.join(key) else {
            panic!("the flight has landed");
        };
        let Role::Follower(mut fourth) = flights.join(key) else {
            panic!("the fourth one follows");
        };
        drop(third);
        assert!(fourth.outcome().await.is_none());
        assert!(matches!(flights.join(key), Role::Leader(_)));
    }
}
