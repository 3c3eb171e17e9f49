//! Settings of the hub.

use std::time::Duration;

use crate::filter::FilterLimits;

/// The hub's limits and times; every shard applies new ones from its next round on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one user.
    pub connections_per_user: usize,
    /// The most connections from one address.
    pub connections_per_ip: usize,
    /// The most subscriptions of one connection.
    pub subscriptions_per_connection: usize,
    /// The most bytes queued for one connection.
    pub outbox_bytes: usize,
    /// The limits of filters.
    pub filters: FilterLimits,
    /// The average rate of messages per second that a client may send; 0 is no limit.
    pub messages_per_second: u32,
    /// The burst of messages that a client may send.
    pub messages_burst: u32,
    /// The interval of heartbeats to a silent client.
    pub heartbeat_interval: Duration,
    /// The silence after which a client is closed.
    pub heartbeat_timeout: Duration,
    /// How long a client may take to present a token.
    pub auth_deadline: Duration,
    /// The share of events outside of recorded traces for which clients are asked to confirm the
    /// delivery.
    pub confirmations: f64,
    /// The most connections of one event that get a span of their own or are asked to confirm.
    pub connections_per_event: usize,
    /// Whether many sends are batched into one system call by `io_uring`, where the system allows
    /// it. Read when a shard starts.
    pub io_uring: bool,
}

/// The configuration declares the server's defaults. These are for tests and measurements.
#[cfg(any(test, feature = "parts"))]
impl Settings {
    /// Settings that few tests reach the limits of.
    #[must_use]
    pub fn sample() -> Self {
        Settings {
            connections: 10_000,
            connections_per_user: 100,
            connections_per_ip: 1_000,
            subscriptions_per_connection: 128,
            outbox_bytes: 1 << 20,
            filters: FilterLimits::sample(),
            messages_per_second: 50,
            messages_burst: 200,
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_mins(1),
            auth_deadline: Duration::from_secs(10),
            confirmations: 0.0,
            connections_per_event: 8,
            io_uring: true,
        }
    }
}
