//! The link over NATS: messages on subjects, numbers and revocations in a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::{Client, Message, Request};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::link::{Address, Link, Receive};
use super::messages::pb;
use crate::auth::{Fingerprint, Revocation, RevocationWatcher, Revocations, RevokedSubject};
use crate::error::{Error, Result};
use crate::event::Timestamp;
use crate::maybe_ready::MaybeReady;

/// How long a request takes at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a read waits for its next message.
const NEXT: Duration = Duration::from_secs(2);
/// Revocations per read.
const PAGE: usize = 256;
/// How long revocations are read again after the connection was lost.
const WATCH_PAUSE: Duration = Duration::from_secs(30);
/// JetStream's codes: a compare value that does not fit; a stream that exists already.
const WRONG_LAST: [u64; 2] = [10071, 10164];
const EXISTS: u64 = 10058;
/// JetStream's code of a store that refuses a message, for several reasons.
const FULL: u64 = 10077;

/// The nodes of a cluster, over NATS.
pub struct NatsLink {
    client: Client,
    prefix: String,
    replicas: u8,
    /// The sequences of the claims of this process.
    claims: Mutex<HashMap<u16, u64>>,
}

impl NatsLink {
    /// A link with this prefix of subjects. Makes the registry, a stream of short-lived records.
    ///
    /// # Errors
    /// `unavailable` if the servers do not answer.
    pub async fn open(client: Client, prefix: String, replicas: u8) -> Result<Arc<Self>> {
        let link = NatsLink {
            client,
            prefix,
            replicas,
            claims: Mutex::default(),
        };
        link.make_stream(link.registry(), replicas).await?;
        Ok(Arc::new(link))
    }

    /// The prefix of the cluster's subjects and streams.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Makes a stream if it does not exist. `replicas` as configured: 0 takes three where the servers
    /// are a cluster that has them, else one.
    pub(super) async fn make_stream(&self, config: Value, replicas: u8) -> Result<()> {
        let clustered = self.client.server_info().cluster.is_some();
        let mut replicas = match replicas {
            0 if clustered => 3,
            0 => 1,
            replicas => replicas,
        };
        loop {
            match self.make(&config, replicas).await {
                Err(_) if replicas > 1 => replicas = 1,
                done => return done,
            }
        }
    }

    fn stream(&self) -> String {
        format!("{}_registry", self.prefix)
    }

    fn registry(&self) -> Value {
        let (prefix, name) = (&self.prefix, self.stream());
        json!({
            "name": name,
            "subjects": [format!("{prefix}.r.>")],
            "retention": "limits",
            "storage": "file",
            "max_msgs_per_subject": 1,
            "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
            "discard": "old",
            "allow_direct": true,
            "allow_msg_ttl": true,
            "republish": {"src": format!("{prefix}.r.>"), "dest": format!("{prefix}.w.>")},
        })
    }

    async fn make(&self, config: &Value, replicas: u8) -> Result<()> {
        let name = config
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut config = config.clone();
        if let Some(members) = config.as_object_mut() {
            members.insert("num_replicas".to_owned(), replicas.into());
        }
        let answer = self
            .request(format!("$JS.API.STREAM.CREATE.{name}"), None, config)
            .await?;
        match error_of(&answer) {
            None | Some((EXISTS, _)) => Ok(()),
            Some((_, why)) => Err(Error::unavailable(format!("cluster.nats: {name}: {why}"))),
        }
    }

    pub(super) async fn request(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        body: Value,
    ) -> Result<Value> {
        self.request_bytes(subject, headers, body.to_string().into())
            .await
    }

    async fn request_bytes(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<Value> {
        let mut request = Request::new().payload(body).timeout(Some(PATIENCE));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|error| away(&error))?;
        serde_json::from_slice(&answer.payload).map_err(|error| away(&error))
    }

    /// Appends a record to the registry. `expected` is the sequence of the record before; `None`
    /// appends in any case. Returns the sequence, or `None` if the compare value did not fit.
    async fn put(
        &self,
        key: &str,
        expected: Option<u64>,
        ttl: Duration,
        body: Bytes,
    ) -> Result<Option<u64>> {
        let subject = format!("{}.r.{key}", self.prefix);
        match self.put_to(&subject, expected, ttl, body).await? {
            Put::Stored(sequence) => Ok(Some(sequence)),
            Put::WrongLast => Ok(None),
            Put::Full => Err(Error::unavailable("cluster.nats: the registry is full")),
        }
    }

    /// Stores a record on a subject of a stream that keeps the last one of each.
    pub(super) async fn put_to(
        &self,
        subject: &str,
        expected: Option<u64>,
        ttl: Duration,
        body: Bytes,
    ) -> Result<Put> {
        let mut headers = HeaderMap::new();
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        }
        let seconds = ttl.as_secs().max(1);
        headers.insert("Nats-TTL", format!("{seconds}s"));
        let answer = self
            .request_bytes(subject.to_owned(), Some(headers), body)
            .await?;
        match error_of(&answer) {
            None => {
                let sequence = answer.get("seq").and_then(Value::as_u64);
                let missing = || Error::unavailable("cluster.nats: an answer without a sequence");
                sequence.map(Put::Stored).ok_or_else(missing)
            }
            Some((code, _)) if WRONG_LAST.contains(&code) => Ok(Put::WrongLast),
            Some((FULL, why)) if why.contains("maximum messages exceeded") => Ok(Put::Full),
            Some((_, why)) => Err(Error::unavailable(format!("cluster.nats: {why}"))),
        }
    }

    async fn listen_to(&self, subject: String, receive: Arc<Receive>) -> Result<()> {
        let messages = self.client.subscribe(subject).await;
        let mut messages = messages.map_err(|error| away(&error))?;
        Handle::current().spawn(async move {
            while let Some(message) = messages.next().await {
                receive(message.payload);
            }
        });
        Ok(())
    }

    /// The records of the registry below a key.
    async fn records(&self, key: &str) -> Result<Vec<Bytes>> {
        let filter = format!("{}.r.{key}.>", self.prefix);
        self.records_of(&self.stream(), &filter).await
    }

    /// The records of a stream that a filter matches, from any replica.
    pub(super) async fn records_of(&self, stream: &str, filter: &str) -> Result<Vec<Bytes>> {
        let mut found = Vec::new();
        let mut seq = 1_u64;
        loop {
            let body = json!({"seq": seq, "next_by_subj": filter, "batch": PAGE});
            let inbox = self.client.new_inbox();
            let answers = self.client.subscribe(inbox.clone()).await;
            let mut answers = answers.map_err(|error| away(&error))?;
            let subject = format!("$JS.API.DIRECT.GET.{stream}");
            self.client
                .publish_with_reply(subject, inbox, body.to_string().into())
                .await
                .map_err(|error| away(&error))?;
            let before = found.len();
            loop {
                let message = timeout(NEXT, answers.next()).await;
                let message = message.map_err(|error| away(&error))?;
                let Some(message) = message else {
                    return Err(Error::unavailable("cluster.nats: not connected"));
                };
                match message.status.map(|status| status.as_u16()) {
                    None => {
                        seq = sequence(&message).map_or(seq, |at| at + 1);
                        found.push(message.payload);
                    }
                    Some(204 | 404) => break,
                    Some(status) => {
                        return Err(Error::unavailable(format!("cluster.nats: {status}")));
                    }
                }
            }
            if found.len() < before + PAGE {
                return Ok(found);
            }
        }
    }
}

fn away(error: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!("cluster.nats: {error}"))
}

/// What became of a record.
pub(super) enum Put {
    /// It is stored, at this sequence.
    Stored(u64),
    /// Another record than the expected one is the last.
    WrongLast,
    /// The stream has as many records as it may have.
    Full,
}

pub(super) fn error_of(answer: &Value) -> Option<(u64, String)> {
    let error = answer.get("error")?;
    let code = error.get("err_code").and_then(Value::as_u64).unwrap_or(0);
    let why = error.get("description").and_then(Value::as_str);
    Some((code, why.unwrap_or("refused").to_owned()))
}

fn sequence(message: &Message) -> Option<u64> {
    let headers = message.headers.as_ref()?;
    headers.get("Nats-Sequence")?.as_str().parse().ok()
}

/// The subject of an address.
fn subject(prefix: &str, to: Address) -> String {
    match to {
        Address::Process(process) => format!("{prefix}.n.{process:016x}"),
        Address::All => format!("{prefix}.a"),
    }
}

impl Link for Arc<NatsLink> {
    fn listen(&self, process: u64, receive: Receive) -> MaybeReady<()> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let receive = Arc::new(receive);
            for to in [Address::Process(process), Address::All] {
                let subject = subject(&this.prefix, to);
                this.listen_to(subject, Arc::clone(&receive)).await?;
            }
            Ok(())
        })
    }

    fn send(&self, to: Address, message: Bytes) -> MaybeReady<bool> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let subject = subject(&this.prefix, to);
            this.client
                .publish(subject, message)
                .await
                .map_err(|error| away(&error))?;
            Ok(true)
        })
    }

    fn claim(&self, number: u16, lease: Duration) -> MaybeReady<bool> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let held = {
                let claims = this.claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.get(&number).copied()
            };
            let key = format!("node.{number}");
            let claimed = this.put(&key, Some(held.unwrap_or(0)), lease, Bytes::new());
            let mut seq = match claimed.await {
                Ok(seq) => seq,
                Err(error) => {
                    // The engine may have lost the registry. The next renewal finds it.
                    this.make_stream(this.registry(), this.replicas).await?;
                    return Err(error);
                }
            };
            if seq.is_none() && held.is_some() {
                // The lease may have ended while the engine was away; the number may still be free.
                seq = this.put(&key, Some(0), lease, Bytes::new()).await?;
            }
            let mut claims = this.claims.lock().unwrap_or_else(PoisonError::into_inner);
            match seq {
                Some(seq) => claims.insert(number, seq),
                None => claims.remove(&number),
            };
            Ok(seq.is_some())
        })
    }

    fn release(&self, number: u16) -> MaybeReady<()> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let held = {
                let mut claims = this.claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.remove(&number)
            };
            if let Some(held) = held {
                // The shortest lease that there is.
                let key = format!("node.{number}");
                this.put(&key, Some(held), Duration::from_secs(1), Bytes::new())
                    .await?;
            }
            Ok(())
        })
    }
}

/// A revocation, as its record.
fn record(revocation: &Revocation) -> Bytes {
    let (token, user) = match &revocation.subject {
        RevokedSubject::Token(token) => (Some(token.as_bytes().to_vec()), None),
        RevokedSubject::User(user) => (None, Some(user.to_string())),
    };
    let record = pb::Revocation {
        token,
        user,
        issued_before_us: revocation.issued_before.as_micros(),
        until_us: revocation.until.as_micros(),
    };
    record.encode_to_vec().into()
}

fn revocation(record: Bytes) -> Result<Revocation> {
    let wrong = || Error::unavailable("cluster.nats: a revocation is unreadable");
    let record = pb::Revocation::decode(record).map_err(|_| wrong())?;
    let subject = match (record.token, record.user) {
        (Some(token), None) => {
            let token = token.as_slice().try_into().map_err(|_| wrong())?;
            RevokedSubject::Token(Fingerprint::from_bytes(token))
        }
        (None, Some(user)) => RevokedSubject::User(user.into()),
        _ => return Err(wrong()),
    };
    Ok(Revocation {
        subject,
        issued_before: Timestamp::from_micros(record.issued_before_us),
        until: Timestamp::from_micros(record.until_us),
    })
}

/// The record's key: one for each subject.
fn key(subject: &RevokedSubject) -> String {
    use std::fmt::Write as _;
    let (kind, bytes) = match subject {
        RevokedSubject::Token(token) => ("t", token.as_bytes().to_vec()),
        RevokedSubject::User(user) => ("u", Fingerprint::of(user).as_bytes().to_vec()),
    };
    bytes
        .iter()
        .fold(format!("revoked.{kind}"), |mut key, byte| {
            write!(key, "{byte:02x}").ok();
            key
        })
}

impl Revocations for Arc<NatsLink> {
    fn add(&self, revocation: Revocation) -> MaybeReady<()> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let now = Timestamp::now().as_micros();
            let left = revocation.until.as_micros().saturating_sub(now);
            let ttl = Duration::from_micros(u64::try_from(left).unwrap_or(0));
            // A day more than needed, for clocks that differ; at most a hundred years.
            let day = Duration::from_hours(24);
            let ttl = ttl.saturating_add(day).min(day * 36_500);
            let key = key(&revocation.subject);
            this.put(&key, None, ttl, record(&revocation)).await?;
            Ok(())
        })
    }

    fn list(&self) -> MaybeReady<Vec<Revocation>> {
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let records = this.records("revoked").await?;
            records.into_iter().map(revocation).collect()
        })
    }

    /// Records end by themselves.
    fn remove(&self, _: Vec<Revocation>) {}

    fn watch(&self, watcher: RevocationWatcher) {
        let this = Arc::clone(self);
        Handle::current().spawn(async move {
            let subject = format!("{}.w.revoked.>", this.prefix);
            loop {
                let Ok(mut messages) = this.client.subscribe(subject.clone()).await else {
                    tokio::time::sleep(NEXT).await;
                    continue;
                };
                loop {
                    match timeout(WATCH_PAUSE, messages.next()).await {
                        Ok(Some(message)) => match revocation(message.payload) {
                            Ok(revocation) => watcher(revocation),
                            Err(why) => tracing::error!(%why, "a revocation was not applied"),
                        },
                        Ok(None) => break,
                        // A message may have been lost while the connection was away.
                        Err(_) => {
                            let all = Revocations::list(&this).await;
                            for revocation in all.unwrap_or_default() {
                                watcher(revocation);
                            }
                        }
                    }
                }
            }
        });
    }
}
