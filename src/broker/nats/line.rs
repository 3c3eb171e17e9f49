//! The connection to the engine: requests, JetStream's API, and the logs behind it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::{Client, Message, Request, RequestErrorKind};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::batch::Stored;
use super::channel::Channel;
use super::error::EngineError;
use super::log::{AppendError, Log};
use super::outage::Outages;

/// How long one attempt of an append or of a read from the leader takes. A step-down drops what is
/// under way without an answer.
const ATTEMPT: Duration = Duration::from_millis(500);
/// How long other requests of the API take.
const API: Duration = Duration::from_secs(5);
/// How long a read waits for its next message.
const NEXT: Duration = Duration::from_secs(1);

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const SEQUENCE: &str = "Nats-Sequence";

/// A connection to the engine.
#[derive(Clone)]
pub(in crate::broker) struct Line {
    client: Client,
    outages: Arc<Outages>,
}

impl Line {
    /// A connection that is established.
    pub(super) fn new(client: Client, outages: Arc<Outages>) -> Self {
        Line { client, outages }
    }

    /// Its outages.
    pub(super) fn outages(&self) -> &Outages {
        &self.outages
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// True while it is connected.
    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Message, EngineError> {
        let mut request = Request::new().payload(payload).timeout(Some(patience));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        self.client
            .send_request(subject, request)
            .await
            .map_err(|error| match error.kind() {
                RequestErrorKind::TimedOut => EngineError::Timeout,
                RequestErrorKind::NoResponders => EngineError::NoResponders,
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => EngineError::Disconnected,
            })
    }

    /// A request of JetStream's API.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, EngineError> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        let subject = format!("$JS.API.{subject}");
        let answer = self.request(subject, None, body.into(), patience).await?;
        let answer: Answer<T> =
            serde_json::from_slice(&answer.payload).map_err(|error| unreadable(&error))?;
        match answer {
            Answer::Refused { error } => Err(EngineError::Refused(
                error.err_code.unwrap_or(error.code),
                error.description,
            )),
            Answer::Done(done) => Ok(done),
        }
    }

    /// The same, with the patience of administrative requests.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        body: &impl Serialize,
    ) -> Result<T, EngineError> {
        self.api(subject, body, API).await
    }

    /// Appends with a compare value that never fits; answers the error code of the leader.
    pub(super) async fn probe(&self, subject: String) -> Option<u32> {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, "1");
        let answer = self
            .request(subject, Some(headers), Bytes::new(), API)
            .await
            .ok()?;
        match serde_json::from_slice::<Answer<serde_json::Value>>(&answer.payload).ok()? {
            Answer::Refused { error } => error.err_code,
            Answer::Done(_) => None,
        }
    }

    /// Messages of a stream, by a direct get with several answers.
    async fn batch(
        &self,
        stream: &str,
        body: &impl Serialize,
    ) -> Result<Vec<Message>, EngineError> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(inbox.clone()).await;
        let mut answers = subscribed.map_err(|_| EngineError::Disconnected)?;
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        self.client
            .publish_with_reply(subject, inbox, body.into())
            .await
            .map_err(|_| EngineError::Disconnected)?;
        let mut found = Vec::new();
        loop {
            let message = timeout(NEXT, answers.next()).await;
            let message = message.map_err(|_| EngineError::Timeout)?;
            let Some(message) = message else {
                return Err(EngineError::Disconnected);
            };
            match message.status.map(|status| status.as_u16()) {
                None => found.push(message),
                // The end, or nothing at all.
                Some(204 | 404) => return Ok(found),
                Some(503) => return Err(EngineError::NoResponders),
                Some(code) => {
                    let why = message.description.unwrap_or_default();
                    return Err(EngineError::Refused(u32::from(code), why));
                }
            }
        }
    }

    /// The newest message of each of these subjects, with its sequence.
    pub(super) async fn newest(
        &self,
        stream: &str,
        subjects: &[String],
    ) -> Result<Vec<(String, u64, Bytes)>, EngineError> {
        #[derive(Serialize)]
        struct Body<'a> {
            multi_last: &'a [String],
        }
        let body = Body {
            multi_last: subjects,
        };
        let messages = self.batch(stream, &body).await?;
        let read = |message: Message| {
            let subject = header(&message, "Nats-Subject")?.to_owned();
            let seq = header(&message, SEQUENCE)?.parse().ok()?;
            Some((subject, seq, message.payload))
        };
        Ok(messages.into_iter().filter_map(read).collect())
    }

    async fn stored(
        &self,
        channel: &Channel,
        body: &impl Serialize,
    ) -> Result<Vec<Stored>, EngineError> {
        let messages = self.batch(&channel.stream.name, body).await?;
        let mut found = Vec::with_capacity(messages.len());
        for message in messages {
            let seq = header(&message, SEQUENCE).and_then(|text| text.parse().ok());
            let seq = seq.ok_or_else(|| EngineError::Unreadable("no sequence".into()))?;
            found.push(read(channel, seq, &message.payload)?);
        }
        Ok(found)
    }

    /// A message of a stream, from the leader.
    async fn ask_leader(
        &self,
        channel: &Channel,
        body: &impl Serialize,
    ) -> Result<Option<Stored>, EngineError> {
        #[derive(Deserialize)]
        struct Got {
            message: Raw,
        }
        #[derive(Deserialize)]
        struct Raw {
            seq: u64,
            #[serde(default)]
            data: String,
        }
        let subject = format!("STREAM.MSG.GET.{}", channel.stream.name);
        let got: Got = match self.api(&subject, body, ATTEMPT).await {
            Ok(got) => got,
            // No message found.
            Err(EngineError::Refused(10037, _)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let data = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            got.message.data.as_bytes(),
        )
        .map_err(|error| EngineError::Unreadable(error.to_string()))?;
        read(channel, got.message.seq, &data).map(Some)
    }
}

fn read(channel: &Channel, seq: u64, body: &[u8]) -> Result<Stored, EngineError> {
    Stored::read(&channel.name, &channel.stream, &channel.subject, seq, body)
        .map_err(|why| EngineError::Unreadable(format!("{}: {why}", channel.name)))
}

fn unreadable(error: &serde_json::Error) -> EngineError {
    EngineError::Unreadable(error.to_string())
}

/// A header of a message.
pub(super) fn header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    let headers = message.headers.as_ref()?;
    headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// An answer of JetStream's API.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: ApiError },
    Done(T),
}

#[derive(Deserialize)]
struct ApiError {
    code: u32,
    err_code: Option<u32>,
    #[serde(default)]
    description: String,
}

#[derive(Serialize)]
struct Next<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(rename = "next_by_subj")]
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
}

impl Log for Line {
    fn is_current(&self) -> bool {
        self.outages.is_over()
    }

    async fn append(
        &self,
        channel: &Channel,
        expected: u64,
        body: Bytes,
    ) -> Result<u64, AppendError> {
        #[derive(Deserialize)]
        struct Ack {
            seq: u64,
        }
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, expected.to_string());
        let answer = self
            .request(channel.subject.clone(), Some(headers), body, ATTEMPT)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(EngineError::NoResponders) => return Err(AppendError::NoLeader),
            Err(_) => return Err(AppendError::Unclear),
        };
        let answer: Answer<Ack> =
            serde_json::from_slice(&answer.payload).map_err(|_| AppendError::Unclear)?;
        let error = match answer {
            Answer::Done(ack) => return Ok(ack.seq),
            Answer::Refused { error } => error,
        };
        Err(match error.err_code.unwrap_or(0) {
            10071 => AppendError::Conflict,
            10164 => AppendError::Busy,
            10008 | 10167 => AppendError::NoLeader,
            10023 | 10047 => AppendError::Exhausted(error.description),
            10054 | 10077 => AppendError::TooLarge(error.description),
            _ => AppendError::Unclear,
        })
    }

    async fn last(&self, channel: &Channel) -> Result<Option<Stored>, EngineError> {
        #[derive(Serialize)]
        struct Last<'a> {
            last_by_subj: &'a str,
        }
        let body = Last {
            last_by_subj: &channel.subject,
        };
        self.ask_leader(channel, &body).await
    }

    async fn next(&self, channel: &Channel, from: u64) -> Result<Option<Stored>, EngineError> {
        let body = Next {
            seq: Some(from),
            subject: &channel.subject,
            batch: None,
            start_time: None,
        };
        self.ask_leader(channel, &body).await
    }

    async fn page(
        &self,
        channel: &Channel,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        let body = Next {
            seq: Some(from.max(1)),
            subject: &channel.subject,
            batch: Some(limit),
            start_time: None,
        };
        self.stored(channel, &body).await
    }

    async fn page_since(
        &self,
        channel: &Channel,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        let now = jiff::Timestamp::now();
        let start = now.saturating_sub(age).unwrap_or(now);
        let body = Next {
            seq: None,
            subject: &channel.subject,
            batch: Some(limit),
            start_time: Some(start.to_string()),
        };
        self.stored(channel, &body).await
    }
}
