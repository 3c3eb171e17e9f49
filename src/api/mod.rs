//! The types that HTTP, the command line and the OpenAPI document share: one serde type for
//! each response.
//!
//! To add an HTTP operation:
//!
//! 1. Its request and response are types here, which derive `Serialize` (a request: `Deserialize`) and
//!    `ToSchema` and are built from domain values. The doc comments become the descriptions. A type for
//!    many query parameters derives `IntoParams`.
//! 2. Its handler in `transport/http/` has the annotation `utoipa::path`. The first line of the doc
//!    comment is the summary, the rest the description. `responses` names the types of [`refusals`];
//!    every operation that needs a token names `Guarded`. The query parameters that the annotation
//!    names are those that the server accepts.
//! 3. The handler is listed in `paths(…)` of `transport/http/openapi.rs`, and its route in `api()` of
//!    `transport/http/mod.rs`.
//!
//! Schemas of names and other small values are functions in `names`, for `schema_with`. What JSON
//! Schema says about several members together is a function `conditions` of the type, listed in
//! [`conditions`]. `.ci/run schemathesis` compares the document with the server.

mod catalog;
mod channels;
mod connections;
mod follow;
pub(crate) mod names;
pub mod older;
pub mod operations;
pub mod problem;
mod publish;
pub mod refusals;
pub mod rpc;
pub mod server;
pub mod sources;
mod stats;
pub mod webhooks;

pub use catalog::{EventType, EventTypePage, Judgement, Violation};
pub use channels::{
    Channel, ChannelPage, ChannelsParams, History, HistoryParams, Presence, PresentUser,
    PurgeParams, Purged,
};
pub use connections::{
    Connection, ConnectionPage, ConnectionsParams, Disconnected, EndParams, Subscription,
};
pub use follow::FollowParams;
pub use publish::{
    Audience, BatchEntry, CloudEvent, CloudEventBatch, ErrorBody, ErrorDetails, Event,
    PublishRequest, PublishResult, Published,
};
pub use stats::{Bytes, ClusterStats, ConnectionCounts, EventCounts, Latency, Stats};

use serde_json::Value;

/// The keywords of JSON Schema for several members of a type together, which an annotation can't
/// express, by the name of the schema.
#[must_use]
pub fn conditions() -> [(&'static str, Vec<(&'static str, Value)>); 5] {
    [
        ("Audience", Audience::conditions()),
        ("Broadcast", older::Broadcast::conditions()),
        ("CloudEvent", CloudEvent::conditions()),
        ("Explain", operations::Explain::conditions()),
        ("PublishRequest", PublishRequest::conditions()),
    ]
}
