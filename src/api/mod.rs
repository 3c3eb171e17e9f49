//! Types shared by HTTP, the command line and the OpenAPI document: one serde type for each
//! response.

pub mod operations;
pub mod problem;
