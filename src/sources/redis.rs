//! The source `redis`: the entries of a stream, read by a consumer group.
//!
//! An entry's fields are `channel`, `type`, `data`, and where needed `content_type`, `key`,
//! `idempotency_key` and `headers`, a JSON object of strings. A reader first gets what it had read and
//! not acknowledged before a restart, then new entries, and now and then what other readers left
//! unacknowledged for a minute.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, TlsCertificates, Value, cmd, pipe};
use tokio::time::Instant;

use super::batch_size::BatchSize;
use super::driver::{Failure, Upstream};
use super::publisher::Dead;
use super::record::{Record, RecordHeaders};
use super::{LONGEST_WAIT, SourceSettings};
use crate::event::Timestamp;

const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take, besides the time that a read waits for entries.
const ANSWER: Duration = Duration::from_secs(10);
/// How often entries of other readers are looked at.
const CLAIM_EVERY: Duration = Duration::from_secs(15);
/// How long an entry must have been unacknowledged before another reader takes it.
const ABANDONED: Duration = Duration::from_mins(1);
/// The most dead letters in the stream for them, about.
const DEAD_LETTERS: u32 = 10_000;

/// Entries of a stream.
pub(super) struct Redis {
    settings: SourceSettings,
    connection: Option<MultiplexedConnection>,
    size: BatchSize,
    /// After which entry of its own the reader goes on, as long as it has unacknowledged ones.
    own_after: Option<String>,
    claim_at: Instant,
    /// Entries that were read and are not acknowledged.
    unsettled: Vec<String>,
}

/// An entry: its id and its fields. `None` if it was trimmed.
type Entry = (String, Option<Vec<(Vec<u8>, Vec<u8>)>>);

/// Checks the settings.
///
/// # Errors
/// What is expected of the URL.
pub(super) fn check(settings: &SourceSettings) -> Result<(), String> {
    let url = settings.url.expose();
    let is_url = url.starts_with("redis://") || url.starts_with("rediss://");
    if !is_url || Client::open(url).is_err() {
        return Err(String::from(
            "expected a URL such as \"redis://127.0.0.1:6379\" or \"rediss://user:password@redis.example.com:6379\"",
        ));
    }
    Ok(())
}

impl Redis {
    pub(super) fn new(settings: SourceSettings) -> Self {
        Redis {
            connection: None,
            size: BatchSize::new(settings.batch),
            own_after: None,
            claim_at: Instant::now(),
            unsettled: Vec::new(),
            settings,
        }
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, Failure> {
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        let answer = connection.send_packed_command(command).await;
        match answer.map_err(failure)? {
            Value::ServerError(error) => Err(failure(error.into())),
            value => Ok(value),
        }
    }

    /// Reads entries behind `after`: `>` for new ones, else unacknowledged ones of this reader.
    async fn read(&mut self, after: &str, wait: Option<Duration>) -> Result<Vec<Entry>, Failure> {
        let (group, consumer) = (&self.settings.group, &self.settings.consumer);
        let mut command = cmd("XREADGROUP");
        command.arg("GROUP").arg(group).arg(consumer);
        command.arg("COUNT").arg(self.size.next());
        if let Some(wait) = wait {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            command.arg("BLOCK").arg(ms);
        }
        command.arg("STREAMS").arg(&self.settings.stream).arg(after);
        let streams = match self.ask(&command).await? {
            Value::Array(streams) => streams,
            Value::Map(streams) => streams
                .into_iter()
                .map(|(name, entries)| Value::Array(vec![name, entries]))
                .collect(),
            _ => return Ok(Vec::new()),
        };
        let mut entries = Vec::new();
        for stream in streams {
            if let Value::Array(parts) = stream {
                entries.extend(parts.into_iter().nth(1).map(entries_of).unwrap_or_default());
            }
        }
        Ok(entries)
    }

    /// Takes over what other readers have left unacknowledged.
    async fn claim(&mut self) -> Result<Vec<Entry>, Failure> {
        let mut command = cmd("XAUTOCLAIM");
        command.arg(&self.settings.stream).arg(&self.settings.group);
        command.arg(&self.settings.consumer);
        command.arg(u64::try_from(ABANDONED.as_millis()).unwrap_or(u64::MAX));
        command.arg("0").arg("COUNT").arg(self.size.next());
        let Value::Array(parts) = self.ask(&command).await? else {
            return Ok(Vec::new());
        };
        Ok(parts.into_iter().nth(1).map(entries_of).unwrap_or_default())
    }

    /// The records of entries. Trimmed entries are acknowledged: nothing is left of them.
    async fn records(&mut self, entries: Vec<Entry>) -> Result<Vec<Record<String>>, Failure> {
        let (mut records, mut trimmed, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        let count = entries.len();
        for (id, fields) in entries {
            match fields {
                Some(fields) => {
                    let sizes = fields.iter().map(|(name, value)| name.len() + value.len());
                    bytes = bytes.saturating_add(sizes.sum());
                    records.push(record(id, fields, self.settings.event_bytes));
                }
                None => trimmed.push(id),
            }
        }
        self.size.had(count, bytes);
        if !trimmed.is_empty() {
            self.settle(trimmed, Vec::new()).await?;
        }
        self.unsettled = records.iter().map(|record| record.id.clone()).collect();
        Ok(records)
    }

    /// The fields of an entry, flat, for the stream of dead letters.
    async fn fields(&mut self, id: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Failure> {
        let mut command = cmd("XRANGE");
        command.arg(&self.settings.stream).arg(id).arg(id);
        let found = entries_of(self.ask(&command).await?).into_iter().next();
        Ok(found.and_then(|(_, fields)| fields).unwrap_or_default())
    }
}

impl Upstream for Redis {
    type Id = String;

    async fn connect(&mut self) -> Result<(), Failure> {
        self.connection = None;
        let url = self.settings.url.expose();
        let client = match &self.settings.ca {
            None => Client::open(url).map_err(failure)?,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                let unreadable = |why| Failure(format!("{}: {why}", path.display()));
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(read.map_err(unreadable)?),
                };
                Client::build_with_tls(url, certificates).map_err(failure)?
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(LONGEST_WAIT + ANSWER));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        self.connection = Some(connecting.await.map_err(failure)?);
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&self.settings.stream);
        create.arg(&self.settings.group).arg("0").arg("MKSTREAM");
        match self.ask(&create).await {
            Err(Failure(text)) if !text.contains("BUSYGROUP") => return Err(Failure(text)),
            _ => {}
        }
        self.own_after = Some(String::from("0"));
        self.claim_at = Instant::now() + CLAIM_EVERY;
        Ok(())
    }

    async fn fetch(&mut self) -> Result<Vec<Record<String>>, Failure> {
        while let Some(after) = self.own_after.take() {
            let entries = self.read(&after, None).await?;
            let Some((last, _)) = entries.last() else {
                break;
            };
            self.own_after = Some(last.clone());
            let records = self.records(entries).await?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        if self.claim_at <= Instant::now() {
            self.claim_at = Instant::now() + CLAIM_EVERY;
            let entries = self.claim().await?;
            if !entries.is_empty() {
                // There may be more.
                self.claim_at = Instant::now();
                return self.records(entries).await;
            }
        }
        let wait = self.settings.poll.min(LONGEST_WAIT);
        let entries = self.read(">", Some(wait)).await?;
        self.records(entries).await
    }

    async fn settle(&mut self, done: Vec<String>, dead: Vec<Dead<String>>) -> Result<(), Failure> {
        let mut commands = pipe();
        commands.atomic();
        for Dead { id, reason } in &dead {
            let fields = self.fields(id).await?;
            commands
                .cmd("XADD")
                .arg(format!("{}:dead-letters", self.settings.stream))
                .arg("MAXLEN")
                .arg("~")
                .arg(DEAD_LETTERS)
                .arg("*")
                .arg("entry")
                .arg(id)
                .arg("reason")
                .arg(reason)
                .arg(fields)
                .ignore();
        }
        let dead = dead.into_iter().map(|dead| dead.id);
        let settled: Vec<String> = done.into_iter().chain(dead).collect();
        self.unsettled.retain(|id| !settled.contains(id));
        if settled.is_empty() {
            return Ok(());
        }
        commands
            .cmd("XACK")
            .arg(&self.settings.stream)
            .arg(&self.settings.group)
            .arg(settled)
            .ignore();
        let connection = self.connection.as_mut().ok_or_else(lost)?;
        let () = commands.query_async(connection).await.map_err(failure)?;
        Ok(())
    }

    async fn hold(&mut self) -> Result<(), Failure> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let mut command = cmd("XCLAIM");
        command.arg(&self.settings.stream).arg(&self.settings.group);
        command.arg(&self.settings.consumer).arg(0);
        command.arg(&self.unsettled).arg("JUSTID");
        self.ask(&command).await.map(drop)
    }

    async fn lag(&mut self) -> Result<Option<u64>, Failure> {
        let mut command = cmd("XINFO");
        command.arg("GROUPS").arg(&self.settings.stream);
        let answer = self.ask(&command).await?;
        let groups: Vec<HashMap<String, Value>> =
            redis::from_redis_value(answer).map_err(|error| Failure(error.to_string()))?;
        let own = groups.into_iter().find(|group| {
            matches!(group.get("name"), Some(Value::BulkString(name))
                if name == self.settings.group.as_bytes())
        });
        let number = |name: &str| match own.as_ref()?.get(name)? {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        // The server does not know the lag after entries were deleted in the middle.
        Ok(number("lag").map(|lag| lag + number("pending").unwrap_or(0)))
    }

    async fn close(&mut self) {
        self.connection = None;
    }
}

/// The entries in an answer.
fn entries_of(value: Value) -> Vec<Entry> {
    let Value::Array(entries) = value else {
        return Vec::new();
    };
    let entry = |value: Value| {
        let Value::Array(parts) = value else {
            return None;
        };
        let mut parts = parts.into_iter();
        let id = text(bytes(parts.next()?)?);
        let fields = match parts.next() {
            Some(Value::Array(flat)) => {
                let mut flat = flat.into_iter();
                let mut fields = Vec::with_capacity(flat.len() / 2);
                while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                    fields.push((bytes(name)?, bytes(value)?));
                }
                Some(fields)
            }
            _ => None,
        };
        Some((id, fields))
    };
    entries.into_iter().filter_map(entry).collect()
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The record of an entry. Unknown fields are ignored.
fn record(id: String, fields: Vec<(Vec<u8>, Vec<u8>)>, event_bytes: usize) -> Record<String> {
    let ms = id.split('-').next().and_then(|ms| ms.parse::<i64>().ok());
    let mut record = Record {
        repeat_key: id.clone(),
        id,
        // A missing field is an empty payload, which is not JSON.
        data: Some(Bytes::new()),
        time: ms.map(|ms| Timestamp::from_micros(ms.saturating_mul(1000))),
        ..Record::default()
    };
    for (name, value) in fields {
        match name.as_slice() {
            b"channel" => record.channel = text(value),
            b"type" => record.event_type = text(value),
            b"data" => record.data = (value.len() <= event_bytes).then(|| Bytes::from(value)),
            b"content_type" => record.content_type = text(value),
            b"key" => record.key = text(value),
            b"idempotency_key" => record.idempotency_key = text(value),
            b"headers" => record.headers = RecordHeaders::Json(text(value)),
            _ => {}
        }
    }
    record
}

/// The failure as a text, without the address, which may hold a password.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn failure(error: RedisError) -> Failure {
    Failure(error.to_string())
}

fn lost() -> Failure {
    Failure(String::from("the connection was lost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn entries_are_read_with_and_without_fields() {
        let answer = Value::Array(vec![
            Value::Array(vec![
                bulk("1700000000123-4"),
                Value::Array(["channel", "room:1", "data", "{}"].map(bulk).to_vec()),
            ]),
            Value::Array(vec![bulk("5-0"), Value::Nil]),
        ]);
        let mut entries = entries_of(answer);
        assert_eq!(entries.pop(), Some((String::from("5-0"), None)));
        let (id, fields) = entries.pop().unwrap();
        let read = record(id, fields.unwrap(), 10);
        assert_eq!(
            (read.channel.as_str(), read.data.as_deref()),
            ("room:1", Some(&b"{}"[..]))
        );
        assert_eq!(read.time.unwrap().as_millis(), 1_700_000_000_123);
        let large = vec![(b"data".to_vec(), vec![b'1'; 11])];
        assert_eq!(record(String::from("1-0"), large, 10).data, None);
    }
}
