//! Converts operators' data to messages of the schema.

use std::time::Duration;

use super::messages::{position, timestamp};
use crate::admin::ChannelInfo;
use crate::event::ChannelName;
use crate::hub::{ConnectionInfo, Present};
use crate::proto;
use crate::telemetry::StatsSnapshot;

/// The counters.
pub(super) fn stats(snapshot: StatsSnapshot) -> proto::Stats {
    let StatsSnapshot {
        connections,
        events,
        latency,
        ..
    } = snapshot;
    proto::Stats {
        node: snapshot.node,
        uptime: duration(snapshot.uptime_seconds),
        connections: Some(proto::ConnectionStats {
            now: connections.now,
            peak: connections.peak,
            total: connections.total,
            by_transport: connections.by_transport.into_iter().collect(),
            by_client_type: connections.by_client_type.into_iter().collect(),
        }),
        subscriptions: snapshot.subscriptions,
        channels: snapshot.channels,
        events: Some(proto::EventStats {
            published: events.published,
            delivered: events.delivered,
            replayed: events.replayed,
            dropped: events.dropped,
            conflated: events.conflated,
            filtered: events.filtered,
            by_type: events.by_type.into_iter().collect(),
        }),
        bytes_in: snapshot.bytes.received,
        bytes_out: snapshot.bytes.sent,
        errors: snapshot.errors.into_iter().collect(),
        auth_failures: snapshot.auth_failures,
        rate_limited: snapshot.rate_limited,
        slow_consumers: snapshot.slow_consumers,
        latency: Some(proto::LatencyStats {
            p50: duration(latency.p50_ms / 1e3),
            p90: duration(latency.p90_ms / 1e3),
            p99: duration(latency.p99_ms / 1e3),
            max: duration(latency.max_ms / 1e3),
        }),
    }
}

fn duration(seconds: f64) -> Option<prost_types::Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|duration| duration.try_into().ok())
}

/// One connection.
pub(super) fn connection(info: ConnectionInfo) -> proto::Connection {
    let (client_type, client_name) = match info.client {
        Some(client) => (client.kind.into(), client.name.into()),
        None => (String::from("unknown"), String::new()),
    };
    let round_trip = Duration::from_micros(u64::from(info.round_trip_us));
    let subscriptions =
        info.subscriptions
            .into_iter()
            .map(|(channel, at)| proto::ConnectionSubscription {
                channel,
                position: at.map(position),
            });
    proto::Connection {
        id: info.id.to_string(),
        user: info.user.map(|user| user.to_string()).unwrap_or_default(),
        roles: info.roles.iter().map(ToString::to_string).collect(),
        transport: info.transport.to_owned(),
        client_type,
        client_name,
        address: info.address.to_string(),
        connected_at: Some(timestamp(info.connected_at)),
        last_seen_at: Some(timestamp(info.last_seen_at)),
        subscriptions: subscriptions.collect(),
        delivered: info.delivered,
        dropped: info.dropped,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
        outbox_bytes: u64::try_from(info.outbox_bytes).unwrap_or(u64::MAX),
        round_trip: (!round_trip.is_zero()).then(|| round_trip.try_into().unwrap_or_default()),
    }
}

/// One channel.
pub(super) fn channel(info: &ChannelInfo) -> proto::Channel {
    proto::Channel {
        channel: info.channel.to_string(),
        subscribers: info.subscribers,
        position: info.position.map(position),
    }
}

/// The users in a channel.
pub(super) fn presence(channel: &ChannelName, present: Present) -> proto::GetPresenceResponse {
    let users = present.users.into_iter();
    proto::GetPresenceResponse {
        channel: channel.to_string(),
        users: users
            .map(|(user, connections)| proto::PresenceUser {
                user: user.to_string(),
                connections,
            })
            .collect(),
        total: present.total,
    }
}
