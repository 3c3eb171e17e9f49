//! Requests from the server to the application behind it: one HTTP client with a connection pool,
//! and the signatures by which the application recognizes them.

mod client;
mod signature;

pub use client::{Answer, HttpClient, RequestFailed};
pub use signature::SigningSecret;
