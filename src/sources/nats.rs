//! The source `nats`: the messages of a JetStream stream, read by a durable pull consumer with
//! explicit acknowledgements.
//!
//! The data is the message's payload. Its headers name the rest: `Tidings-Channel`, `Tidings-Type`,
//! and where needed `Content-Type`, `Tidings-Key`, `Nats-Msg-Id` (the idempotency key), `traceparent`
//! and `Tidings-Header-NAME`.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::{self, AckKind, Message};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr};
use tokio_stream::StreamExt as _;

use super::batch_size::BatchSize;
use super::driver::{Failure, Upstream};
use super::publisher::Dead;
use super::record::{Record, RecordHeaders};
use super::{LONGEST_WAIT, SourceSettings};
use crate::event::Timestamp;

const CONNECT: Duration = Duration::from_secs(5);
/// When a message that is not acknowledged is given to a reader again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// The prefix of a message's header that becomes a header of the event.
const OWN_HEADER: &str = "tidings-header-";

/// Messages of a stream.
pub(super) struct Nats {
    settings: SourceSettings,
    connected: Option<(Client, Consumer<pull::Config>)>,
    size: BatchSize,
    /// Messages that are not acknowledged, by their sequence in the stream.
    unsettled: HashMap<u64, Message>,
}

/// Checks the settings.
///
/// # Errors
/// What is expected of the URL.
pub(super) fn check(settings: &SourceSettings) -> Result<(), String> {
    let url = settings.url.expose();
    let is_url = url.starts_with("nats://") || url.starts_with("tls://");
    if !is_url || url.parse::<ServerAddr>().is_err() {
        return Err(String::from(
            "expected a URL such as \"nats://127.0.0.1:4222\" or \"tls://user:password@nats.example.com:4222\"",
        ));
    }
    Ok(())
}

impl Nats {
    pub(super) fn new(settings: SourceSettings) -> Self {
        Nats {
            connected: None,
            size: BatchSize::new(settings.batch),
            unsettled: HashMap::new(),
            settings,
        }
    }

    async fn options(&self) -> Result<ConnectOptions, Failure> {
        let mut options = ConnectOptions::new()
            .name("tidings source")
            .connection_timeout(CONNECT)
            // The driver connects again.
            .max_reconnects(1);
        if let Some(path) = &self.settings.credentials_file {
            let unreadable = |why| Failure(format!("{}: {why}", path.display()));
            options = options.credentials_file(path).await.map_err(unreadable)?;
        }
        if let Some(path) = &self.settings.ca {
            options = options
                .add_root_certificates(path.clone())
                .require_tls(true);
        }
        Ok(options)
    }

    /// The messages that are there, or the first that comes within `poll`.
    async fn messages(&self) -> Result<Vec<Message>, Failure> {
        let (_, consumer) = self.connected.as_ref().ok_or_else(lost)?;
        let there = consumer.fetch().max_messages(self.size.next());
        let messages = collect(there.messages().await.map_err(failure)?).await?;
        if !messages.is_empty() {
            return Ok(messages);
        }
        let wait = self.settings.poll.min(LONGEST_WAIT);
        let one = consumer.batch().max_messages(1).expires(wait);
        collect(one.messages().await.map_err(failure)?).await
    }
}

async fn collect(mut batch: pull::Batch) -> Result<Vec<Message>, Failure> {
    let mut messages = Vec::new();
    while let Some(message) = batch.next().await {
        messages.push(message.map_err(failure)?);
    }
    Ok(messages)
}

impl Upstream for Nats {
    type Id = u64;

    async fn connect(&mut self) -> Result<(), Failure> {
        self.connected = None;
        // The server gives them to a reader again.
        self.unsettled.clear();
        let options = self.options().await?;
        let client = options.connect(self.settings.url.expose()).await;
        let client = client.map_err(failure)?;
        let context = jetstream::new(client.clone());
        let stream = context.get_stream(&self.settings.stream).await;
        let stream = stream.map_err(failure)?;
        let config = pull::Config {
            durable_name: Some(self.settings.group.clone()),
            description: Some(String::from("a source of Tidings")),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: i64::from(self.settings.batch),
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(&self.settings.group, config);
        let consumer = consumer.await.map_err(failure)?;
        self.connected = Some((client, consumer));
        Ok(())
    }

    async fn fetch(&mut self) -> Result<Vec<Record<u64>>, Failure> {
        let messages = self.messages().await?;
        let bytes = messages.iter().map(|message| message.length).sum();
        self.size.had(messages.len(), bytes);
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            let record = record(&message, self.settings.event_bytes)?;
            self.unsettled.insert(record.id, message);
            records.push(record);
        }
        Ok(records)
    }

    async fn settle(&mut self, done: Vec<u64>, dead: Vec<Dead<u64>>) -> Result<(), Failure> {
        let done = done.into_iter().map(|id| (id, AckKind::Ack));
        // Without a redelivery; the message stays in the stream as long as the stream keeps it.
        let dead = dead.into_iter().map(|dead| (dead.id, AckKind::Term));
        for (id, kind) in done.chain(dead) {
            if let Some(message) = self.unsettled.remove(&id) {
                message.ack_with(kind).await.map_err(boxed)?;
            }
        }
        let (client, _) = self.connected.as_ref().ok_or_else(lost)?;
        client.flush().await.map_err(failure)
    }

    async fn hold(&mut self) -> Result<(), Failure> {
        for message in self.unsettled.values() {
            message.ack_with(AckKind::Progress).await.map_err(boxed)?;
        }
        Ok(())
    }

    async fn lag(&mut self) -> Result<Option<u64>, Failure> {
        let (_, consumer) = self.connected.as_mut().ok_or_else(lost)?;
        let info = consumer.info().await.map_err(failure)?;
        let pending = u64::try_from(info.num_ack_pending).unwrap_or(0);
        Ok(Some(info.num_pending.saturating_add(pending)))
    }

    async fn close(&mut self) {
        if let Some((client, _)) = self.connected.take()
            && client.drain().await.is_err()
        {
            tracing::debug!("the connection of a source was closed already");
        }
    }
}

/// The record of a message.
fn record(message: &Message, event_bytes: usize) -> Result<Record<u64>, Failure> {
    let info = message.info().map_err(boxed)?;
    let nanos = info.published.unix_timestamp_nanos();
    let sequence = info.stream_sequence;
    let empty = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&empty);
    let mut record = Record {
        id: sequence,
        data: (message.payload.len() <= event_bytes).then(|| message.payload.clone()),
        time: i64::try_from(nanos / 1000).ok().map(Timestamp::from_micros),
        // The time tells a message from one with the same number in a stream that was created again.
        repeat_key: format!("{sequence}/{nanos}"),
        ..Record::default()
    };
    let mut pairs = Vec::new();
    for (name, values) in headers.iter() {
        let (Some(value), name) = (values.first(), name.to_string().to_ascii_lowercase()) else {
            continue;
        };
        let value = value.to_string();
        match name.as_str() {
            "tidings-channel" => record.channel = value,
            "tidings-type" => record.event_type = value,
            "tidings-key" => record.key = value,
            "content-type" => record.content_type = value,
            "nats-msg-id" => record.idempotency_key = value,
            "traceparent" | "tracestate" => pairs.push((name, value)),
            _ => {
                if let Some(own) = name.strip_prefix(OWN_HEADER) {
                    pairs.push((own.to_owned(), value));
                }
            }
        }
    }
    record.headers = RecordHeaders::Pairs(pairs);
    Ok(record)
}

/// The failure as a text. It names no address, which may hold a password.
fn failure(error: impl std::fmt::Display) -> Failure {
    Failure(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn boxed(error: async_nats::Error) -> Failure {
    Failure(error.to_string())
}

fn lost() -> Failure {
    Failure(String::from("the connection was lost"))
}
