//! Streams of events over HTTP.

use utoipa::IntoParams;

use super::names;

/// The subscriptions of a stream.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FollowParams {
    /// A channel, or a pattern such as `project:*`; may be repeated.
    #[param(explode, min_items = 1)]
    pub channel: Vec<String>,
    /// Exact names or with a trailing `*`, separated by commas.
    pub event_types: Option<String>,
    /// A CEL expression over `event`.
    pub filter: Option<String>,
    /// Replays the newest events first, at most this many.
    #[param(maximum = 4_294_967_295_u64)]
    pub rewind: Option<u64>,
    /// Whether to report who joins and leaves.
    pub presence: Option<bool>,
    /// The name of a durable subscription.
    #[param(pattern = "^[A-Za-z0-9_.-]{0,64}$")]
    pub durable: Option<String>,
    /// The least time between two events with the same key: 10 ms to 1 h.
    #[param(schema_with = names::min_interval, required = false)]
    pub min_interval: Option<String>,
}
