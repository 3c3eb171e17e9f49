//! Channels, their history and their presence.

use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{Event, names};
use crate::admin::ChannelInfo;
use crate::broker;
use crate::event::{ChannelName, Timestamp};
use crate::hub::Present;

/// A channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Channel {
    /// Its name.
    pub channel: String,
    /// With `offset`, the position of its newest event; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// The offset of its newest event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// Subscriptions to it.
    pub subscribers: u64,
    /// Events per second over the last 10 s.
    #[schema(minimum = 0)]
    pub rate: f64,
    /// When its newest event was published; `null` if that is not known.
    #[schema(required = true, format = DateTime)]
    pub last_event_at: Option<String>,
    /// Events in its history.
    pub history_events: u64,
    /// Bytes of its history; 0 if the store does not count them by channel.
    pub history_bytes: u64,
    /// Users present; `null` without presence.
    #[schema(required = true)]
    pub users: Option<u64>,
}

impl From<&ChannelInfo> for Channel {
    fn from(info: &ChannelInfo) -> Self {
        Channel {
            channel: info.channel.to_string(),
            epoch: info.position.map(|at| at.epoch.to_string()),
            offset: info.position.map(|at| at.offset),
            subscribers: info.subscribers,
            rate: info.rate,
            last_event_at: info.last_event_at.map(Timestamp::to_rfc3339),
            history_events: info.history_events,
            history_bytes: info.history_bytes,
            users: info.users,
        }
    }
}

/// A page of channels.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelPage {
    /// The channels.
    pub channels: Vec<Channel>,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: String,
}

/// Which channels to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChannelsParams {
    /// Only names that start with this.
    #[param(max_length = 255)]
    pub prefix: Option<String>,
    /// The order; by name if absent. A `desc` after the name is like the parameter.
    #[param(pattern = "^(rate|subscribers|history)( (asc|desc))?$")]
    pub order_by: Option<String>,
    /// The largest first; only with `order_by`.
    pub desc: Option<bool>,
    /// At most 1000; 100 if absent or 0.
    #[param(maximum = 1000)]
    pub page_size: Option<u32>,
    /// `next_page_token` of the page before.
    #[param(max_length = 276)]
    pub page_token: Option<String>,
}

/// Which part of a history to read.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// At most this many events; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// EPOCH/OFFSET: only events after this position; before it, if `reverse`.
    #[param(pattern = "^[0-9a-f]{16}/[0-9]{1,19}$")]
    pub since: Option<String>,
    /// Newest first.
    pub reverse: Option<bool>,
}

/// Which part of a history to purge; all of it without parameters.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PurgeParams {
    /// Only events up to this offset.
    #[param(maximum = 18_446_744_073_709_551_615_u64)]
    pub until_offset: Option<u64>,
    /// Only events that this user published, or that were for this user alone.
    #[param(schema_with = names::user, required = false)]
    pub user: Option<String>,
}

/// The result of a purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Purged {
    /// The channel.
    pub channel: String,
    /// With `offset`, the position of the channel's newest event; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// The offset of the channel's newest event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// How many events were removed.
    pub purged: u64,
}

impl Purged {
    /// The result of a purge of this channel.
    #[must_use]
    pub fn new(channel: &ChannelName, purged: broker::Purged) -> Self {
        Purged {
            channel: channel.to_string(),
            epoch: purged.top.map(|at| at.epoch.to_string()),
            offset: purged.top.map(|at| at.offset),
            purged: purged.events,
        }
    }
}

// `transport/http/channels.rs` writes it member by member, because payloads are passed on byte for byte.
/// Events of a channel's history.
#[derive(Debug, ToSchema)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// The epoch of all offsets in this answer.
    pub epoch: String,
    /// The offset of the channel's newest event.
    pub offset: u64,
    /// `since` of the next page; absent on the last.
    #[schema(nullable = false)]
    pub next_since: Option<String>,
    /// The events.
    pub events: Vec<Event>,
}

/// The users who are present in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Presence {
    /// The channel.
    pub channel: String,
    /// The first users by name, at most 1,000.
    pub users: Vec<PresentUser>,
    /// The number of all users.
    pub total: u64,
}

/// A user who is present in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PresentUser {
    /// The user.
    pub user: String,
    /// The number of the user's connections in the channel.
    pub connections: u32,
}

impl Presence {
    /// The users present in a channel.
    #[must_use]
    pub fn new(channel: &ChannelName, present: &Present) -> Self {
        let users = present.users.iter();
        Presence {
            channel: channel.to_string(),
            users: users
                .map(|(user, connections)| PresentUser {
                    user: user.to_string(),
                    connections: *connections,
                })
                .collect(),
            total: present.total,
        }
    }
}
