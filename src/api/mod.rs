//! What HTTP, the command line and the OpenAPI document share: one serde type for each answer.

pub mod operations;
pub mod problem;
