//! The types that HTTP, the command line and the OpenAPI document share: one serde type for
//! each response.
//!
//! A type derives `Serialize` and `ToSchema`, is built from domain values, and is named by the
//! `utoipa::path` annotation of its handler. Constraints that an annotation can't express are set
//! by a function beside the type. The document is assembled in `transport/http/openapi.rs`.

mod catalog;
mod channels;
mod connections;
pub(crate) mod names;
pub mod older;
pub mod problem;
mod publish;
pub mod refusals;
mod stats;

pub use catalog::{EventType, EventTypePage, Judgement, Violation};
pub use channels::{Channel, ChannelPage, History, Presence, PresentUser};
pub use connections::{
    Connection, ConnectionPage, ConnectionsParams, Disconnected, EndParams, Subscription,
};
pub use publish::{
    Audience, BatchEntry, CloudEvent, CloudEventBatch, ErrorBody, ErrorDetails, Event,
    PublishRequest, PublishResult, Published,
};
pub use stats::{Bytes, ConnectionCounts, EventCounts, Latency, Stats};

use serde_json::Value;

/// What JSON Schema says of several members of a type together, by the name of its schema: keywords
/// that an annotation can't say.
#[must_use]
pub fn conditions() -> [(&'static str, Vec<(&'static str, Value)>); 4] {
    [
        ("Audience", Audience::conditions()),
        ("Broadcast", older::Broadcast::conditions()),
        ("CloudEvent", CloudEvent::conditions()),
        ("PublishRequest", PublishRequest::conditions()),
    ]
}
