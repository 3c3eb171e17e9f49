//! Requests from the server to the application behind it: one HTTP client with a connection pool,
//! and the signatures by which the application recognizes them.

mod client;
mod forwarded_headers;
mod signature;

pub use client::{Answer, HttpClient, RequestFailed};
pub use forwarded_headers::ForwardedHeaders;
pub use signature::SigningSecret;
