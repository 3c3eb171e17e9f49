//! Cursors of durable subscriptions in a stream of their own, the same for every node.
//!
//! A cursor is the last message of its subject. Each write names the sequence of the one that it
//! replaces, so that concurrent acknowledgements never move a cursor back. The stream's limits bound
//! the number of cursors, and each message's TTL removes a cursor that nobody uses.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::messages::pb;
use super::nats::{NatsLink, Put, error_of};
use crate::broker::{
    Cursor, CursorBounds, CursorKey, CursorQuery, CursorStore, move_in_background,
};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Epoch, Position, Timestamp};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;

/// JetStream's codes of a subject without a message, and of a stream that does not exist.
const NO_MESSAGE: u64 = 10037;
const NO_STREAM: u64 = 10059;
/// How often a write is tried again that another node's write came before.
const ATTEMPTS: usize = 8;
/// The time of use is stored only so often that the lifetime is right by an hour.
const STALE_MICROS: i64 = 3_600_000_000;

/// The cursors of a cluster.
#[derive(Clone)]
pub struct NatsCursors {
    link: Arc<NatsLink>,
    replicas: u8,
    bounds: CursorBounds,
    metrics: Arc<Metrics>,
    runtime: Handle,
}

impl NatsCursors {
    /// Makes the stream. The bounds hold for all nodes together.
    ///
    /// # Errors
    /// `unavailable` if the servers do not answer.
    pub async fn open(
        link: Arc<NatsLink>,
        replicas: u8,
        bounds: CursorBounds,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let cursors = NatsCursors {
            link,
            replicas,
            bounds,
            metrics,
            runtime: Handle::current(),
        };
        cursors.make().await?;
        Ok(cursors)
    }

    async fn make(&self) -> Result<()> {
        let config = json!({
            "name": self.stream(),
            "subjects": [format!("{}.>", self.subjects())],
            "retention": "limits",
            "storage": "file",
            "max_msgs_per_subject": 1,
            "max_msgs": self.bounds.total,
            "max_bytes": -1, "max_age": 0, "max_consumers": -1,
            "discard": "new",
            "allow_direct": true,
            "allow_msg_ttl": true,
        });
        self.link.make_stream(config, self.replicas).await
    }

    fn stream(&self) -> String {
        format!("{}_cursors", self.link.prefix())
    }

    fn subjects(&self) -> String {
        format!("{}.k", self.link.prefix())
    }

    /// The subject of a cursor, or of several: a part that is not given matches any.
    fn subject(&self, user: Option<&str>, name: Option<&str>, channel: Option<&str>) -> String {
        // A part may contain any character, a subject's token may not.
        let token = |part: Option<&str>| {
            part.map_or_else(|| "*".to_owned(), |part| URL_SAFE_NO_PAD.encode(part))
        };
        let (user, name, channel) = (token(user), token(name), token(channel));
        format!("{}.{user}.{name}.{channel}", self.subjects())
    }

    fn subject_of(&self, key: &CursorKey) -> String {
        self.subject(Some(&key.user), Some(&key.name), Some(key.channel.as_str()))
    }

    async fn api(&self, operation: &str, body: Value) -> Result<Value> {
        let subject = format!("$JS.API.STREAM.{operation}.{}", self.stream());
        let answer = self
            .link
            .request(subject.clone(), None, body.clone())
            .await?;
        if !matches!(error_of(&answer), Some((NO_STREAM, _))) {
            return Ok(answer);
        }
        // Somebody has removed the stream: its cursors are gone, and new ones begin.
        self.make().await?;
        self.link.request(subject, None, body).await
    }

    /// A cursor as the leader has it, with its sequence.
    async fn read(&self, subject: &str) -> Result<Option<(Cursor, u64)>> {
        let answer = self
            .api("MSG.GET", json!({"last_by_subj": subject}))
            .await?;
        match error_of(&answer) {
            None => {}
            Some((NO_MESSAGE, _)) => return Ok(None),
            Some((_, why)) => return Err(refused(&why)),
        }
        let message = answer.get("message").ok_or_else(unreadable)?;
        let sequence = message.get("seq").and_then(Value::as_u64);
        let data = message.get("data").and_then(Value::as_str);
        let data = STANDARD.decode(data.ok_or_else(unreadable)?);
        let (_, cursor) = cursor(data.map_err(|_| unreadable())?.into())?;
        Ok(Some((cursor, sequence.ok_or_else(unreadable)?)))
    }

    /// The number of a user's cursors.
    async fn count(&self, user: &str) -> Result<usize> {
        let filter = self.subject(Some(user), None, None);
        let answer = self.api("INFO", json!({"subjects_filter": filter})).await?;
        if let Some((_, why)) = error_of(&answer) {
            return Err(refused(&why));
        }
        let found = answer.pointer("/state/subjects").and_then(Value::as_object);
        Ok(found.map_or(0, serde_json::Map::len))
    }

    async fn write(&self, key: CursorKey, position: Position) -> Result<()> {
        let subject = self.subject_of(&key);
        for _ in 0..ATTEMPTS {
            let now = Timestamp::now();
            let (position, sequence) = match self.read(&subject).await? {
                None => {
                    if self.count(&key.user).await? >= self.bounds.per_user {
                        return Err(self.bounds.user_is_full(&self.metrics));
                    }
                    (position, 0)
                }
                Some((cursor, sequence)) => {
                    let had = cursor.position;
                    let moves = position.epoch != had.epoch || position.offset > had.offset;
                    let age = now.as_micros().saturating_sub(cursor.used_at.as_micros());
                    if !moves && age < STALE_MICROS {
                        return Ok(());
                    }
                    (if moves { position } else { had }, sequence)
                }
            };
            let used_at = now;
            let record = record(&key, Cursor { position, used_at });
            let ttl = self.bounds.ttl;
            let put = self
                .link
                .put_to(&subject, Some(sequence), ttl, record)
                .await?;
            match put {
                Put::Stored(_) => return Ok(()),
                Put::Full => return Err(self.bounds.is_full(&self.metrics)),
                Put::WrongLast => {}
            }
        }
        Err(Error::unavailable("the cursor is being moved by others")
            .retry_after(Duration::from_secs(1)))
    }

    async fn find(&self, query: CursorQuery) -> Result<Vec<(CursorKey, Cursor)>> {
        let channel = query.channel.as_ref().map(ChannelName::as_str);
        let filter = self.subject(query.user.as_deref(), query.name.as_deref(), channel);
        let records = self.link.records_of(&self.stream(), &filter).await;
        let records = if let Ok(records) = records {
            records
        } else {
            // Nobody answers for a stream that somebody has removed.
            self.make().await?;
            self.link.records_of(&self.stream(), &filter).await?
        };
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            let (key, cursor) = cursor(record)?;
            if query.after.as_ref().is_none_or(|after| key > *after) {
                found.push((key, cursor));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.truncate(query.limit);
        Ok(found)
    }

    async fn remove(&self, user: Arc<str>, channel: Option<ChannelName>) -> Result<u64> {
        let channel = channel.as_ref().map(ChannelName::as_str);
        let filter = self.subject(Some(&user), None, channel);
        let answer = self.api("PURGE", json!({"filter": filter})).await?;
        if let Some((_, why)) = error_of(&answer) {
            return Err(refused(&why));
        }
        Ok(answer.get("purged").and_then(Value::as_u64).unwrap_or(0))
    }
}

impl CursorStore for NatsCursors {
    fn get(&self, key: &CursorKey) -> MaybeReady<Option<Cursor>> {
        let (this, subject) = (self.clone(), self.subject_of(key));
        MaybeReady::later(async move {
            let found = this.read(&subject).await?;
            Ok(found.map(|(cursor, _)| cursor))
        })
    }

    fn set(&self, key: &CursorKey, position: Position) -> MaybeReady<()> {
        let (this, key) = (self.clone(), key.clone());
        MaybeReady::later(async move { this.write(key, position).await })
    }

    fn set_later(&self, key: &CursorKey, position: Position) {
        move_in_background(&self.runtime, self.set(key, position));
    }

    fn list(&self, query: &CursorQuery) -> MaybeReady<Vec<(CursorKey, Cursor)>> {
        let (this, query) = (self.clone(), query.clone());
        MaybeReady::later(async move { this.find(query).await })
    }

    fn forget(&self, user: &str, channel: Option<&ChannelName>) -> MaybeReady<u64> {
        let (this, user, channel) = (self.clone(), Arc::from(user), channel.cloned());
        MaybeReady::later(async move { this.remove(user, channel).await })
    }
}

fn unreadable() -> Error {
    Error::unavailable("cluster.nats: a cursor is unreadable")
}

fn refused(why: &str) -> Error {
    Error::unavailable(format!("cluster.nats: {why}"))
}

fn record(key: &CursorKey, cursor: Cursor) -> Bytes {
    let record = pb::DurableCursor {
        user: key.user.to_string(),
        name: key.name.to_string(),
        channel: key.channel.to_string(),
        epoch: cursor.position.epoch.to_bits(),
        offset: cursor.position.offset,
        used_at_us: cursor.used_at.as_micros(),
    };
    record.encode_to_vec().into()
}

fn cursor(record: Bytes) -> Result<(CursorKey, Cursor)> {
    let record = pb::DurableCursor::decode(record).map_err(|_| unreadable())?;
    let key = CursorKey {
        user: record.user.into(),
        name: record.name.into(),
        channel: ChannelName::new(record.channel).map_err(|_| unreadable())?,
    };
    let position = Position {
        epoch: Epoch::from_bits(record.epoch),
        offset: record.offset,
    };
    let used_at = Timestamp::from_micros(record.used_at_us);
    Ok((key, Cursor { position, used_at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::TestNatsServer;
    use crate::broker::contract::cursors::{BOUNDS, cursors_are_kept};

    #[tokio::test]
    async fn cursors_are_kept_in_nats() {
        let server = TestNatsServer::start();
        let open = async || {
            let client = async_nats::connect(server.url()).await.unwrap();
            let link = NatsLink::open(client, "t".to_owned(), 1).await.unwrap();
            let metrics = Metrics::new("test");
            NatsCursors::open(link, 1, BOUNDS, metrics).await.unwrap()
        };
        let (a, b) = (open().await, open().await);
        cursors_are_kept(&a, &b).await;
        let gone = a.api("DELETE", json!({})).await.unwrap();
        assert_eq!(gone["success"], true);
        // The stream is made again, and the cursors start from nothing.
        let query = crate::broker::CursorQuery {
            limit: 9,
            ..crate::broker::CursorQuery::default()
        };
        let key = CursorKey {
            user: "zoe".into(),
            name: "inbox".into(),
            channel: ChannelName::new("a:1").unwrap(),
        };
        let position = Position {
            epoch: Epoch::from_bits(1),
            offset: 1,
        };
        b.set(&key, position).await.unwrap();
        assert_eq!(a.list(&query).await.unwrap().len(), 1);
    }
}
