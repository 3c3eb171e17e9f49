//! Channels: their place, their history, and who is in them.

use serde::Serialize;
use utoipa::ToSchema;

use super::Event;
use crate::admin::ChannelInfo;
use crate::event::ChannelName;
use crate::hub::Present;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Channel {
    /// Its name.
    pub channel: String,
    /// With `offset`, the position of its newest event; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// The place of its newest event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// Subscriptions to it.
    pub subscribers: u64,
}

impl From<&ChannelInfo> for Channel {
    fn from(info: &ChannelInfo) -> Self {
        Channel {
            channel: info.channel.to_string(),
            epoch: info.position.map(|at| at.epoch.to_string()),
            offset: info.position.map(|at| at.offset),
            subscribers: info.subscribers,
        }
    }
}

/// A page of channels by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelPage {
    /// The channels.
    pub channels: Vec<Channel>,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: String,
}

/// Events of a channel's history. Written member by member, since payloads pass byte for byte
/// (`transport/http/channels.rs`).
#[derive(Debug, ToSchema)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// The epoch of all offsets in this answer.
    pub epoch: String,
    /// The place of the channel's newest event.
    pub offset: u64,
    /// `since` of the next page; absent on the last.
    #[schema(nullable = false)]
    pub next_since: Option<String>,
    /// The events.
    pub events: Vec<Event>,
}

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Presence {
    /// The channel.
    pub channel: String,
    /// The users; of very many the first.
    pub users: Vec<PresentUser>,
    /// How many users there are.
    pub total: u64,
}

/// A user who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PresentUser {
    /// The user.
    pub user: String,
    /// How many connections of the user are there.
    pub connections: u32,
}

impl Presence {
    /// Those present in a channel.
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
