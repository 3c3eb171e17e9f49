//! Statistics over time, refusals, and the answers of the rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::Type;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType};

use super::names;
use crate::audit::{self, Recent};
use crate::auth;
use crate::telemetry::{STATS_STEP, StatsSample};

/// The statistics of the last hour.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsHistory {
    /// The time between two samples.
    #[schema(minimum = 0)]
    pub step_seconds: f64,
    /// The samples, oldest first.
    pub samples: Vec<Sample>,
}

/// The statistics of one step. Counts are of the step; levels are those at its end.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Sample {
    /// When the step ended.
    #[schema(format = DateTime)]
    pub time: String,
    /// The length of the step: five seconds, unless the process was stopped.
    #[schema(minimum = 0)]
    pub seconds: f64,
    /// Open connections.
    pub connections: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Channels.
    pub channels: u64,
    /// Bytes in outboxes.
    pub outbox_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// Processor time of the process.
    #[schema(minimum = 0)]
    pub cpu_seconds: f64,
    /// Connections that were opened.
    pub opened: u64,
    /// Events accepted from publishers.
    pub published: u64,
    /// Events delivered to connections.
    pub delivered: u64,
    /// Of these, replayed from history.
    pub replayed: u64,
    /// Events dropped for slow connections.
    pub dropped: u64,
    /// Events replaced by newer ones.
    pub conflated: u64,
    /// Errors sent to clients, refused tokens and reached rate limits.
    pub refused: u64,
    /// How often an outbox was full.
    pub slow_consumers: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// The median time from an accepted publish to the socket.
    #[schema(minimum = 0)]
    pub latency_p50_ms: f64,
    /// The 99th percentile of this time.
    #[schema(minimum = 0)]
    pub latency_p99_ms: f64,
}

impl From<&StatsSample> for Sample {
    fn from(sample: &StatsSample) -> Self {
        // Named one by one, so that a new member is not forgotten.
        let StatsSample {
            time,
            seconds,
            connections,
            subscriptions,
            channels,
            outbox_bytes,
            resident_bytes,
            cpu_seconds,
            opened,
            published,
            delivered,
            replayed,
            dropped,
            conflated,
            refused,
            slow_consumers,
            bytes_in,
            bytes_out,
            latency_p50_ms,
            latency_p99_ms,
        } = *sample;
        Sample {
            time: time.to_rfc3339(),
            seconds,
            connections,
            subscriptions,
            channels,
            outbox_bytes,
            resident_bytes,
            cpu_seconds,
            opened,
            published,
            delivered,
            replayed,
            dropped,
            conflated,
            refused,
            slow_consumers,
            bytes_in,
            bytes_out,
            latency_p50_ms,
            latency_p99_ms,
        }
    }
}

impl From<&[StatsSample]> for StatsHistory {
    fn from(samples: &[StatsSample]) -> Self {
        StatsHistory {
            step_seconds: STATS_STEP.as_secs_f64(),
            samples: samples.iter().map(Sample::from).collect(),
        }
    }
}

/// A question to the rules.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// A user, for a token without other claims.
    #[serde(default)]
    #[schema(schema_with = names::user_or_none, required = false)]
    pub user: String,
    /// The claims of a token, instead of `user`: an object, or its JSON as a string.
    #[serde(default)]
    #[schema(schema_with = claims, required = false)]
    pub claims: Option<Value>,
    /// Roles, besides those of the claims.
    #[serde(default)]
    #[schema(schema_with = names::user_roles, required = false)]
    pub roles: Vec<String>,
    /// What somebody wants to do.
    #[schema(schema_with = action)]
    pub action: String,
    /// The channel.
    #[schema(schema_with = names::channel)]
    pub channel: String,
    /// The event type; any if absent.
    #[serde(default)]
    #[schema(pattern = "^([A-Za-z][A-Za-z0-9_.-]{0,127})?$")]
    pub event_type: String,
}

/// Claims have no `type`, because generators of clients support only one.
fn claims() -> Object {
    let types = json!({ "type": ["object", "string", "null"] });
    let description =
        "The claims of a token, instead of `user`: an object, or its JSON as a string.";
    ObjectBuilder::new()
        .schema_type(SchemaType::any())
        .description(Some(description))
        .extensions(Some(names::keywords([
            ("if", types),
            ("else", false.into()),
        ])))
        .build()
}

fn action() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(auth::Action::ALL.map(auth::Action::as_str)))
        .build()
}

/// About whom a question is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The user; empty if the claims name it, or nobody does.
    pub user: String,
    /// The claims as JSON; empty if there are none.
    pub claims: String,
}

impl Explain {
    /// A question is about a user or about claims.
    pub(super) fn conditions() -> Vec<(&'static str, Value)> {
        let has_claims = json!({ "properties": {
            "claims": { "type": ["object", "string"], "minLength": 1 },
        } });
        let no_user = json!({ "properties": { "user": { "maxLength": 0 } } });
        let claims = json!({ "if": has_claims, "then": no_user });
        vec![("dependentSchemas", json!({ "claims": claims }))]
    }

    /// About whom it is.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let claims = match &self.claims {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(claims) => claims.to_string(),
        };
        Subject {
            user: self.user.clone(),
            claims,
        }
    }
}

/// Whether a client may do something, and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that decided, in CEL; empty if none was evaluated.
    pub rule: String,
    /// Where the decision comes from.
    pub source: String,
    /// What the rule read.
    pub inputs: BTreeMap<String, Value>,
    /// The answer as a sentence.
    pub reason: String,
}

impl From<auth::Explanation> for Explanation {
    fn from(explained: auth::Explanation) -> Self {
        Explanation {
            allowed: explained.allowed,
            rule: explained.rule,
            source: explained.source,
            inputs: explained
                .inputs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            reason: explained.reason,
        }
    }
}

/// The newest refusals, and closes with a reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Refusals {
    /// Newest first.
    pub refusals: Vec<Refusal>,
    /// How many more there were that are not in this answer.
    pub missed: u64,
}

/// Some refusals of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct RefusalStream {
    /// Oldest first.
    pub refusals: Vec<Refusal>,
    /// How many in between were left out.
    pub missed: u64,
}

/// A refusal, or a close that has a reason. Texts are cut off at 256 bytes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Refusal {
    /// Its number since the start of the node.
    pub sequence: u64,
    /// When it happened.
    #[schema(format = DateTime)]
    pub time: String,
    /// `refused`, `authentication_failed`, `subscribe_refused`, `publish_refused` or `disconnect`.
    #[schema(
        pattern = "^(refused|authentication_failed|subscribe_refused|publish_refused|disconnect)$"
    )]
    pub kind: String,
    /// The error's code; empty for a close.
    pub code: String,
    /// The close code; 0 unless a connection was closed.
    pub close_code: u16,
    /// The reason.
    pub reason: String,
    /// The user; empty if unknown.
    pub user: String,
    /// The client's address; empty if unknown.
    pub address: String,
    /// The transport; empty if unknown.
    pub transport: String,
    /// The channel, as requested.
    pub channel: String,
    /// The event type.
    pub event_type: String,
    /// The connection.
    pub connection_id: String,
    /// Who closed the connection: `client`, `server`, or an operator's name.
    pub by: String,
}

impl From<&Arc<audit::Refusal>> for Refusal {
    fn from(refusal: &Arc<audit::Refusal>) -> Self {
        Refusal {
            sequence: refusal.sequence,
            time: refusal.time.to_rfc3339(),
            kind: refusal.kind.to_owned(),
            code: refusal.code.to_owned(),
            close_code: refusal.close_code,
            reason: refusal.reason.clone(),
            user: refusal.user.clone(),
            address: refusal.address.clone(),
            transport: refusal.transport.to_owned(),
            channel: refusal.channel.clone(),
            event_type: refusal.event_type.clone(),
            connection_id: refusal.connection.clone(),
            by: refusal.by.clone(),
        }
    }
}

impl Refusals {
    /// The same, newest first.
    #[must_use]
    pub fn newest_first(recent: &Recent) -> Self {
        Refusals {
            refusals: recent.refusals.iter().rev().map(Refusal::from).collect(),
            missed: recent.missed,
        }
    }
}

impl From<&Recent> for RefusalStream {
    fn from(recent: &Recent) -> Self {
        RefusalStream {
            refusals: recent.refusals.iter().map(Refusal::from).collect(),
            missed: recent.missed,
        }
    }
}
