//! The types that HTTP, the command line and the OpenAPI document share: one serde type for
//! each response.
//!
//! A type derives `Serialize` and `ToSchema`, is built from domain values, and is named by the
//! `utoipa::path` annotation of its handler. Constraints that an annotation can't express are set
//! by a function beside the type. The document is assembled in `transport/http/openapi.rs`.

pub mod operations;
pub mod problem;
pub mod refusals;
pub mod sources;
mod stats;

pub use stats::{Bytes, ConnectionCounts, EventCounts, Latency, Stats};
