//! What is asked of shards, and what they are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Hub;
use crate::auth::Identity;
use crate::clock::{Elapsed, timeout};
use crate::error::{Error, Result};
use crate::event::{ChannelPattern, ConnectionId};
use crate::hub::inbox::Inbound;
use crate::hub::shard::{ConnCtx, Opening, Shard, TransportUpgrade};

impl Hub {
    /// Hands a connection to a shard, which owns it from then on.
    pub fn open(&self, opening: Opening) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        self.on_shard(turn, move |shard| shard.open(opening));
    }

    pub(in crate::hub) fn on_shard(
        &self,
        index: usize,
        task: impl FnOnce(&mut Shard) + Send + 'static,
    ) {
        if let Some(inbox) = self.inboxes.get(index) {
            inbox.push(Inbound::Task(Box::new(task)));
        }
    }

    /// Asks a shard something.
    ///
    /// # Errors
    /// `unavailable` where there is no such shard, or it has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        index: usize,
        question: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.on_shard(index, move |shard| {
            // Nobody waits for the answer if the asker has gone.
            drop(answer.send(question(shard)));
        });
        let gone = |_| Error::unavailable("the server stops");
        timeout(Duration::from_secs(10), answered)
            .await
            .map_err(|Elapsed| Error::unavailable("the shard is too busy to answer"))?
            .map_err(gone)
    }

    /// Ends a connection on the word of `by`; true if it was there.
    ///
    /// # Errors
    /// `unavailable` where the shard has stopped.
    pub async fn disconnect(&self, id: ConnectionId, reason: String, by: Arc<str>) -> Result<bool> {
        if usize::from(id.shard()) >= self.inboxes.len() {
            return Ok(false);
        }
        self.ask(usize::from(id.shard()), move |shard| {
            shard.disconnect(id, &reason, &by)
        })
        .await
    }

    /// Who a connection is: nobody until it has shown a token, `None` where it has gone.
    ///
    /// # Errors
    /// `unavailable` where the shard has stopped.
    pub async fn identity_of(&self, id: ConnectionId) -> Result<Option<Arc<Identity>>> {
        if usize::from(id.shard()) >= self.inboxes.len() {
            return Ok(None);
        }
        self.ask(usize::from(id.shard()), move |shard| shard.identity_of(id))
            .await
    }

    /// Ends all connections of a user on the word of `by`; answers how many there were.
    ///
    /// # Errors
    /// `unavailable` where a shard has stopped.
    pub async fn disconnect_user(&self, user: &str, reason: &str, by: &Arc<str>) -> Result<u64> {
        let mut count = 0;
        for index in 0..self.inboxes.len() {
            let (user, reason, by) = (user.to_owned(), reason.to_owned(), Arc::clone(by));
            count += self
                .ask(index, move |shard| {
                    shard.disconnect_user(&user, &reason, &by)
                })
                .await?;
        }
        Ok(count)
    }

    /// Ends every subscription that `allowed` refuses: after the rules have changed.
    pub fn check_rights(
        &self,
        allowed: impl Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()>
        + Clone
        + Send
        + Sync
        + 'static,
    ) {
        for index in 0..self.inboxes.len() {
            let allowed = allowed.clone();
            self.on_shard(index, move |shard| shard.check_all_rights(&allowed));
        }
    }

    /// Bytes of a client have come by another way than its link; `first` is done before they are
    /// read. Both are forgotten where the connection has gone, or over to a socket.
    pub fn hear(
        &self,
        id: ConnectionId,
        bytes: Vec<u8>,
        first: impl FnOnce(&mut ConnCtx<'_>) + Send + 'static,
    ) {
        let first = Box::new(first);
        self.on_shard(usize::from(id.shard()), move |shard| {
            shard.hear_from(id, bytes, first);
        });
    }

    /// Gives a connection with a pipe a socket instead. The socket is closed where the connection
    /// has gone meanwhile.
    pub fn cross(&self, id: ConnectionId, crossing: TransportUpgrade) {
        self.on_shard(usize::from(id.shard()), move |shard| {
            shard.cross(id, crossing);
        });
    }

    /// There is room in a pipe again.
    pub(in crate::hub) fn refill(&self, id: ConnectionId) {
        self.on_shard(usize::from(id.shard()), move |shard| shard.refill(id));
    }

    /// Nobody reads a pipe any more.
    pub(in crate::hub) fn reader_gone(&self, id: ConnectionId) {
        self.on_shard(usize::from(id.shard()), move |shard| shard.reader_gone(id));
    }

    /// Looks at everybody's identity again, and closes with 4401 where it is no longer good.
    pub fn check_identities(&self) {
        for index in 0..self.inboxes.len() {
            self.on_shard(index, Shard::check_identities);
        }
    }
}
