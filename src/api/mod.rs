//! What HTTP, the command line and the OpenAPI document share: one serde type for each answer.
//!
//! A type derives `Serialize` and `ToSchema`, is made from what the domain gives, and is named by the
//! `utoipa::path` annotation of its handler. What an annotation can't say stands in a function beside
//! the type. The document is put together in `transport/http/openapi.rs`.

pub mod problem;
pub mod refusals;
mod stats;

pub use stats::{Bytes, ConnectionCounts, EventCounts, Latency, Stats};
