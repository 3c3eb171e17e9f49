//! Converts operators' data to messages of the schema.

use std::time::Duration;

use super::messages::{position, timestamp};
use crate::admin::{ChannelInfo, ServerInfo};
use crate::audit::Recent;
use crate::auth::Explanation;
use crate::event::ChannelName;
use crate::hub::{ConnectionInfo, Present};
use crate::proto;
use crate::session::{NamespaceFacts, Setting};
use crate::telemetry::{DeadLetter, STATS_STEP, SourceSnapshot, StatsSample, StatsSnapshot};
use crate::webhooks::WebhookStatus;

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
            .map(|subscription| proto::ConnectionSubscription {
                channel: subscription.channel,
                position: subscription.position.map(position),
                filter: subscription.filter,
                event_types: subscription.event_types,
                live: subscription.is_live,
            });
    let request = info.request.as_deref().cloned().unwrap_or_default();
    proto::Connection {
        id: info.id.to_string(),
        node: info.node.to_string(),
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
        user_agent: request.user_agent.into(),
        origin: request.origin.into(),
        dialect: info.dialect.into(),
        compression: info.is_compressed,
        token_expires_at: info.expires_at.map(timestamp),
        messages_in: info.messages_in,
        rate_limited: info.rate_limited,
        claims: info.claims,
        subscription_count: u64::try_from(info.subscription_count).unwrap_or(u64::MAX),
    }
}

/// One channel.
pub(super) fn channel(info: &ChannelInfo) -> proto::Channel {
    proto::Channel {
        channel: info.channel.to_string(),
        subscribers: info.subscribers,
        position: info.position.map(position),
        last_event_at: info.last_event_at.map(timestamp),
        history_events: info.history_events,
        history_bytes: info.history_bytes,
        rate: info.rate,
        users: info.users,
    }
}

/// The server.
pub(super) fn server_info(info: ServerInfo) -> proto::ServerInfo {
    let facts = info.facts;
    let address = |address: Option<std::net::SocketAddr>| {
        address
            .map(|address| address.to_string())
            .unwrap_or_default()
    };
    let nodes = info.nodes.iter().map(|node| proto::ServerNode {
        id: node.node.number.to_string(),
        self_: node.is_self,
        name: node.node.name.clone(),
        version: node.node.version.clone(),
        started_at: Some(timestamp(node.node.started_at)),
        connections: node.node.connections,
        leaving: node.node.leaving,
        heard_ago: node.node.heard.try_into().ok(),
        round_trip: node.node.round_trip.and_then(|took| took.try_into().ok()),
    });
    let limits = info.limits.iter().map(|limit| proto::LimitUse {
        key: limit.key.to_owned(),
        limit: limit.limit,
        used: limit.used,
        reached: limit.reached,
    });
    let closes = info.closes.iter();
    proto::ServerInfo {
        node: info.node,
        version: info.version.to_owned(),
        started_at: Some(timestamp(info.started_at)),
        dev: facts.dev,
        public_address: address(facts.public),
        internal_address: address(facts.internal),
        nodes: nodes.collect(),
        store: Some(proto::StoreInfo {
            kind: facts.storage,
            durability: facts.durability,
            available: info.store_available,
            bytes: info.store_bytes,
            limit_bytes: facts.storage_limit,
        }),
        process: Some(proto::ProcessInfo {
            cpu: info.process.cpu.and_then(|cpu| cpu.try_into().ok()),
            resident_bytes: info.process.resident_bytes,
            open_files: info.open_files,
            open_files_limit: info.process.open_files_limit,
            threads: info.process.threads,
            processors: info.processors,
            shards: info.shards,
        }),
        limits: limits.collect(),
        closes: closes
            .map(|(code, count)| (u32::from(*code), *count))
            .collect(),
        namespaces: facts.namespaces.into_iter().map(namespace).collect(),
        configuration: facts.settings.into_iter().map(setting).collect(),
    }
}

fn namespace(facts: NamespaceFacts) -> proto::NamespaceInfo {
    let millis = |ms| Duration::from_millis(ms).try_into().ok();
    proto::NamespaceInfo {
        name: facts.name,
        history_size: facts.history_size,
        history_ttl: millis(facts.history_ttl_ms),
        history_bytes: facts.history_bytes,
        presence: facts.presence,
        slow_consumer: facts.slow_consumer,
        max_idle: millis(facts.max_idle_ms),
        subscribe: facts.subscribe,
        publish: facts.publish,
    }
}

fn setting(setting: Setting) -> proto::Setting {
    proto::Setting {
        key: setting.key,
        value: setting.value,
        source: setting.source,
        secret: setting.secret,
        reloads: setting.reloads,
    }
}

/// The statistics of the last hour.
pub(super) fn stats_history(samples: &[StatsSample]) -> proto::GetStatsHistoryResponse {
    let samples = samples.iter().map(|sample| proto::StatsSample {
        time: Some(timestamp(sample.time)),
        length: duration(sample.seconds),
        connections: sample.connections,
        subscriptions: sample.subscriptions,
        channels: sample.channels,
        outbox_bytes: sample.outbox_bytes,
        resident_bytes: sample.resident_bytes,
        cpu: duration(sample.cpu_seconds),
        opened: sample.opened,
        published: sample.published,
        delivered: sample.delivered,
        replayed: sample.replayed,
        dropped: sample.dropped,
        conflated: sample.conflated,
        refused: sample.refused,
        slow_consumers: sample.slow_consumers,
        bytes_in: sample.bytes_in,
        bytes_out: sample.bytes_out,
        latency_p50: duration(sample.latency_p50_ms / 1e3),
        latency_p99: duration(sample.latency_p99_ms / 1e3),
    });
    proto::GetStatsHistoryResponse {
        step: STATS_STEP.try_into().ok(),
        samples: samples.collect(),
    }
}

/// The answer of the rules.
pub(super) fn explanation(explained: Explanation) -> proto::ExplainResponse {
    let inputs = explained.inputs.into_iter();
    proto::ExplainResponse {
        allowed: explained.allowed,
        rule: explained.rule,
        source: explained.source,
        inputs: inputs
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect(),
        reason: explained.reason,
    }
}

/// Some refusals.
pub(super) fn refusals(recent: &Recent) -> proto::WatchRefusalsResponse {
    let refusals = recent.refusals.iter().map(|refusal| proto::Refusal {
        sequence: refusal.sequence,
        time: Some(timestamp(refusal.time)),
        kind: refusal.kind.to_owned(),
        code: refusal.code.to_owned(),
        close_code: u32::from(refusal.close_code),
        reason: refusal.reason.clone(),
        user: refusal.user.clone(),
        address: refusal.address.clone(),
        transport: refusal.transport.to_owned(),
        channel: refusal.channel.clone(),
        event_type: refusal.event_type.clone(),
        connection_id: refusal.connection.clone(),
        by: refusal.by.clone(),
    });
    proto::WatchRefusalsResponse {
        refusals: refusals.collect(),
        missed: recent.missed,
    }
}

/// The sources of a node.
pub(super) fn sources(node: String, sources: Vec<SourceSnapshot>) -> proto::ListSourcesResponse {
    let letter = |letter: DeadLetter| proto::SourceDeadLetter {
        time: Some(timestamp(letter.time)),
        record: letter.record,
        channel: letter.channel,
        reason: letter.reason,
    };
    let source = |source: SourceSnapshot| {
        let (at, why) = source.failure.unzip();
        proto::SourceState {
            name: source.name,
            kind: source.kind.to_owned(),
            server: source.server,
            connected: source.connected,
            lag: source.lag,
            lag_time: source.lag_time.try_into().ok(),
            events: source.events,
            duplicates: source.duplicates,
            dead_letters: source.dead_letters,
            failures: source.failures,
            rate: source.rate,
            last_failure: why.unwrap_or_default(),
            last_failure_at: at.map(timestamp),
            recent_dead_letters: source.letters.into_iter().map(letter).collect(),
        }
    };
    proto::ListSourcesResponse {
        node,
        sources: sources.into_iter().map(source).collect(),
    }
}

/// A webhook.
pub(super) fn webhook(webhook: WebhookStatus) -> proto::Webhook {
    proto::Webhook {
        url: webhook.url,
        events: webhook.events.into_iter().map(str::to_owned).collect(),
        state: webhook.state.to_owned(),
        queued: webhook.queued,
        queued_bytes: webhook.queued_bytes,
        lag: webhook.lag.try_into().ok(),
        delivered: webhook.delivered,
        failures: webhook.failures,
        last_error: webhook.last_error,
        next_attempt_at: webhook.next_attempt_at.map(timestamp),
        dead_letters: webhook.dead_letters,
        dropped: webhook.dropped,
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
