//! Webhooks, as operators see them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::event::Timestamp;
use crate::webhooks::WebhookStatus;

/// The webhooks of a node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Webhooks {
    /// In the order of the configuration.
    pub webhooks: Vec<Webhook>,
}

/// A webhook.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Webhook {
    /// Its address, without the query.
    pub url: String,
    /// The events that it gets.
    pub events: Vec<String>,
    /// `delivering`, `retrying`, or `stopped` after an answer 410.
    #[schema(pattern = "^(delivering|retrying|stopped)$")]
    pub state: String,
    /// Events in its queue.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// How long the oldest has waited.
    #[schema(minimum = 0)]
    pub lag_seconds: f64,
    /// Events delivered since the node started.
    pub delivered: u64,
    /// Requests that failed since the node started.
    pub failures: u64,
    /// Why the last one failed; empty if none has.
    pub last_error: String,
    /// When the next attempt is due, while it is retrying.
    #[schema(format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// Events that were given up and are kept.
    pub dead_letters: u64,
    /// Events that did not fit, since the node started.
    pub dropped: u64,
}

/// How many events were queued again.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Resent {
    /// The number of events.
    pub resent: u64,
}

impl From<Vec<WebhookStatus>> for Webhooks {
    fn from(webhooks: Vec<WebhookStatus>) -> Self {
        Webhooks {
            webhooks: webhooks.into_iter().map(Webhook::from).collect(),
        }
    }
}

impl From<WebhookStatus> for Webhook {
    fn from(status: WebhookStatus) -> Self {
        Webhook {
            url: status.url,
            events: status.events.into_iter().map(str::to_owned).collect(),
            state: status.state.to_owned(),
            queued: status.queued,
            queued_bytes: status.queued_bytes,
            lag_seconds: status.lag.as_secs_f64(),
            delivered: status.delivered,
            failures: status.failures,
            last_error: status.last_error,
            next_attempt_at: status.next_attempt_at.map(Timestamp::to_rfc3339),
            dead_letters: status.dead_letters,
            dropped: status.dropped,
        }
    }
}
