#![doc = include_str!("../README.md")]

mod backoff;
mod client;
mod connect;
mod error;
mod event;
mod places;
mod subscription;
mod token;

pub use backoff::Backoff;
pub use client::Client;
pub use connect::Builder;
pub use error::{Code, Error, Result};
pub use event::{Event, Gap, NewEvent, Position, Published, PublishedIn};
pub use subscription::{Joined, Step, Subscribe, Subscription};
pub use token::TokenError;

/// The generated messages and clients of `proto/tidings/v1`, for what has no method here.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]
pub mod proto {
    tonic::include_proto!("tidings.v1");
}
