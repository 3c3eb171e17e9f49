//! Acknowledges the events of a durable subscription.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

use crate::{Client, Code, Error, Position, Result};

/// What was acknowledged, by channel. A background task sends the newest offset of each channel. A
/// failure is repeated with the next event of the channel, or when the subscription has resumed.
#[derive(Clone)]
pub(crate) struct Acks {
    client: Client,
    durable: Arc<str>,
    state: Arc<Mutex<State>>,
    failed: Arc<dyn Fn(&Error) + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    acked: HashMap<String, Position>,
    unsent: HashSet<String>,
    sending: bool,
    tasks: JoinSet<()>,
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acks")
            .field("durable", &self.durable)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl State {
    fn advance(&mut self, channel: &str, position: Position) -> bool {
        let known = self.acked.get(channel);
        if known.is_some_and(|at| at.epoch == position.epoch && at.offset >= position.offset) {
            return false;
        }
        self.acked.insert(channel.to_owned(), position);
        true
    }
}

impl Acks {
    pub(crate) fn new(
        client: Client,
        durable: &str,
        failed: impl Fn(&Error) + Send + Sync + 'static,
    ) -> Self {
        Acks {
            client,
            durable: durable.into(),
            state: Arc::default(),
            failed: Arc::new(failed),
        }
    }

    /// The subscription has resumed at this cursor. Returns the position behind which events are new.
    pub(crate) fn resumed(&self, channel: &str, cursor: Position) -> Position {
        let mut state = self.state();
        let mine = state
            .acked
            .get(channel)
            .filter(|mine| mine.epoch == cursor.epoch && mine.offset > cursor.offset);
        if let Some(mine) = mine.cloned() {
            // An acknowledgement that the server has not received is repeated, not its events.
            self.put(&mut state, channel);
            return mine;
        }
        state.acked.insert(channel.to_owned(), cursor.clone());
        state.unsent.remove(channel);
        cursor
    }

    /// Acknowledges in the background.
    pub(crate) fn handled(&self, channel: &str, position: Position) {
        let mut state = self.state();
        if state.advance(channel, position) {
            self.put(&mut state, channel);
        }
    }

    /// Acknowledges, and returns once the server has stored it.
    pub(crate) async fn ack(&self, channel: &str, offset: u64) -> Result<()> {
        let moved = {
            let mut state = self.state();
            let Some(known) = state.acked.get(channel) else {
                let text = format!("{channel}: not a durable subscription");
                return Err(Error::new(Code::FailedPrecondition, text));
            };
            let epoch = known.epoch.clone();
            state.advance(channel, Position { epoch, offset })
        };
        if !moved {
            return Ok(());
        }
        self.client.ack(channel, &*self.durable, offset).await
    }

    fn put(&self, state: &mut State, channel: &str) {
        state.unsent.insert(channel.to_owned());
        if !state.sending {
            state.sending = true;
            // A finished task stays in the set until it is joined.
            while state.tasks.try_join_next().is_some() {}
            // It holds the set, so it completes when the subscription is dropped before.
            state.tasks.spawn(self.clone().run());
        }
    }

    async fn run(self) {
        while let Some((channel, offset)) = self.next() {
            if let Err(error) = self.client.ack(channel, &*self.durable, offset).await {
                (self.failed)(&error);
            }
        }
    }

    /// The next acknowledgement to send. Without one, the task ends.
    fn next(&self) -> Option<(String, u64)> {
        let mut state = self.state();
        let channel = state.unsent.iter().next().cloned();
        let Some(channel) = channel else {
            state.sending = false;
            return None;
        };
        state.unsent.remove(&channel);
        let offset = state.acked.get(&channel).map_or(0, |at| at.offset);
        Some((channel, offset))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
