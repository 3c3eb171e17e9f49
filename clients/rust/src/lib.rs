#![doc = include_str!("../README.md")]

mod admin;
mod backoff;
mod client;
mod connect;
mod error;
mod event;
mod history;
mod positions;
mod publisher;
mod step;
mod steps;
mod subscription;
mod token;

pub use admin::{Admin, Presence};
pub use backoff::Backoff;
pub use client::Client;
pub use connect::Builder;
pub use error::{Code, Error, Result, code_name};
pub use event::{Event, Gap, NewEvent, Position, Published, PublishedIn};
pub use history::{History, HistoryEvents, HistoryPage};
pub use publisher::{Publisher, Receipt};
pub use step::{Joined, Step};
pub use steps::Steps;
pub use subscription::{Subscribe, Subscription};
pub use token::TokenError;

/// The generated messages and clients of `proto/tidings/v1`, for everything without a method here.
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

/// The generated messages, client and service of `proto/tidings/hooks/v1`: an application implements
/// the service to answer hooks over gRPC.
#[cfg(feature = "hooks")]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]
pub mod hooks {
    tonic::include_proto!("tidings.hooks.v1");
}
