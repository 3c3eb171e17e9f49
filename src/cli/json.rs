//! The output of commands as JSON: the messages of gRPC, in the types of the HTTP API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_types::{Duration, Timestamp};
use serde_json::value::RawValue;

use crate::api;
use crate::api::operations::{Explanation, Refusal};
use crate::api::sources::{Source, SourceDeadLetter};
use crate::proto::{
    self, Channel, Connection, Event, EventType, ExplainResponse, GetStatsResponse, LatencyStats,
    Position, PublishResponse, ServerNode, Stats, ValidateEventResponse, Webhook,
};

/// An event in the form of WebSocket clients, plus its epoch, so that `--since` can resume after it.
pub(super) fn event(event: &Event) -> api::Event {
    let data = payload(event);
    let data_base64 = data.is_none().then(|| STANDARD.encode(&event.data));
    let (epoch, offset) = place(event.position.as_ref());
    api::Event {
        r#type: event.r#type.clone(),
        channel: named(&event.channel),
        id: event.id.clone(),
        timestamp: time(event.time.as_ref()).unwrap_or_default(),
        offset,
        epoch,
        content_type: data_base64.is_some().then(|| event.content_type.clone()),
        data,
        data_base64,
        headers: event.headers.clone().into_iter().collect(),
        traceparent: named(&event.traceparent),
        tracestate: named(&event.tracestate),
    }
}

/// The event's data, if it is JSON, on one line: line breaks in JSON can only be between tokens.
pub(super) fn payload(event: &Event) -> Option<Box<RawValue>> {
    let essence = event
        .content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !(essence.is_empty() || essence.ends_with("json")) {
        return None;
    }
    let text = std::str::from_utf8(&event.data).ok()?;
    let text = if text.trim().is_empty() { "null" } else { text };
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

/// The result of a publish.
pub(super) fn published(response: &PublishResponse) -> api::Published {
    let results = response.results.iter().map(|result| {
        let (epoch, offset) = place(result.position.as_ref());
        api::PublishResult {
            channel: named(&result.channel),
            epoch,
            offset,
            subscribers: result.subscribers,
            duplicate: result.duplicate,
        }
    });
    api::Published {
        id: response.id.clone(),
        results: results.collect(),
    }
}

/// How a webhook is doing.
pub(super) fn webhook(webhook: &Webhook) -> api::webhooks::Webhook {
    api::webhooks::Webhook {
        url: webhook.url.clone(),
        events: webhook.events.clone(),
        state: webhook.state.clone(),
        queued: webhook.queued,
        queued_bytes: webhook.queued_bytes,
        lag_seconds: seconds(webhook.lag.as_ref()),
        delivered: webhook.delivered,
        failures: webhook.failures,
        last_error: webhook.last_error.clone(),
        next_attempt_at: time(webhook.next_attempt_at.as_ref()),
        dead_letters: webhook.dead_letters,
        dropped: webhook.dropped,
    }
}

/// The counters of several nodes.
pub(super) fn cluster_stats(answer: &GetStatsResponse) -> api::ClusterStats {
    api::ClusterStats {
        total: stats(&answer.stats.clone().unwrap_or_default()),
        nodes: answer.nodes.iter().map(stats).collect(),
        unreachable: answer.unreachable.clone(),
    }
}

/// A node's counters.
pub(super) fn stats(stats: &Stats) -> api::Stats {
    let connections = stats.connections.clone().unwrap_or_default();
    let events = stats.events.clone().unwrap_or_default();
    api::Stats {
        node: stats.node.clone(),
        uptime_seconds: seconds(stats.uptime.as_ref()),
        connections: api::ConnectionCounts {
            now: connections.now,
            peak: connections.peak,
            total: connections.total,
            by_transport: connections.by_transport.into_iter().collect(),
            by_client_type: connections.by_client_type.into_iter().collect(),
        },
        subscriptions: stats.subscriptions,
        channels: stats.channels,
        events: api::EventCounts {
            published: events.published,
            delivered: events.delivered,
            replayed: events.replayed,
            dropped: events.dropped,
            conflated: events.conflated,
            filtered: events.filtered,
            by_type: events.by_type.into_iter().collect(),
        },
        bytes: api::Bytes {
            r#in: stats.bytes_in,
            out: stats.bytes_out,
        },
        errors: stats.errors.clone().into_iter().collect(),
        auth_failures: stats.auth_failures,
        rate_limited: stats.rate_limited,
        slow_consumers: stats.slow_consumers,
        latency: latency(&stats.latency.unwrap_or_default()),
    }
}

fn latency(latency: &LatencyStats) -> api::Latency {
    let millis = |duration: Option<&Duration>| seconds(duration) * 1e3;
    api::Latency {
        p50_ms: millis(latency.p50.as_ref()),
        p90_ms: millis(latency.p90.as_ref()),
        p99_ms: millis(latency.p99.as_ref()),
        max_ms: millis(latency.max.as_ref()),
    }
}

/// A node.
pub(super) fn node(node: &ServerNode) -> api::server::Node {
    api::server::Node {
        id: node.id.clone(),
        is_self: node.self_,
        name: node.name.clone(),
        version: node.version.clone(),
        started_at: time(node.started_at.as_ref()).unwrap_or_default(),
        connections: node.connections,
        leaving: node.leaving,
        heard_ago_seconds: seconds(node.heard_ago.as_ref()),
        round_trip_ms: node
            .round_trip
            .as_ref()
            .map(|took| seconds(Some(took)) * 1e3),
    }
}

/// One connection.
pub(super) fn connection(connection: &Connection) -> api::Connection {
    let subscriptions = connection.subscriptions.iter().map(|followed| {
        let (epoch, offset) = place(followed.position.as_ref());
        api::Subscription {
            channel: followed.channel.clone(),
            epoch,
            offset,
            filter: followed.filter.clone(),
            event_types: followed.event_types.clone(),
            live: followed.live,
        }
    });
    let round_trip = connection.round_trip.as_ref();
    api::Connection {
        id: connection.id.clone(),
        node: connection.node.clone(),
        user: named(&connection.user),
        roles: connection.roles.clone(),
        transport: connection.transport.clone(),
        client_type: connection.client_type.clone(),
        client_name: connection.client_name.clone(),
        address: connection.address.clone(),
        connected_at: time(connection.connected_at.as_ref()).unwrap_or_default(),
        last_seen_at: time(connection.last_seen_at.as_ref()).unwrap_or_default(),
        subscriptions: subscriptions.collect(),
        subscription_count: None,
        delivered: connection.delivered,
        dropped: connection.dropped,
        bytes_in: connection.bytes_in,
        bytes_out: connection.bytes_out,
        outbox_bytes: connection.outbox_bytes,
        round_trip_ms: round_trip.map(|round_trip| seconds(Some(round_trip)) * 1e3),
        user_agent: connection.user_agent.clone(),
        origin: connection.origin.clone(),
        dialect: connection.dialect.clone(),
        compression: connection.compression,
        token_expires_at: time(connection.token_expires_at.as_ref()),
        messages_in: connection.messages_in,
        rate_limited: connection.rate_limited,
        claims: connection.claims.clone(),
    }
}

/// One channel.
pub(super) fn channel(channel: &Channel) -> api::Channel {
    let (epoch, offset) = place(channel.position.as_ref());
    api::Channel {
        channel: channel.channel.clone(),
        epoch,
        offset,
        subscribers: channel.subscribers,
        rate: channel.rate,
        last_event_at: time(channel.last_event_at.as_ref()),
        history_events: channel.history_events,
        history_bytes: channel.history_bytes,
        users: channel.users,
    }
}

/// The answer of the rules.
pub(super) fn explanation(answer: &ExplainResponse) -> Explanation {
    let inputs = answer.inputs.iter();
    let inputs = inputs.map(|(name, value)| {
        let value = serde_json::from_str(value).unwrap_or_default();
        (name.clone(), value)
    });
    Explanation {
        allowed: answer.allowed,
        rule: answer.rule.clone(),
        source: answer.source.clone(),
        inputs: inputs.collect(),
        reason: answer.reason.clone(),
    }
}

/// One refusal, or one close with a reason.
pub(super) fn refusal(refusal: &proto::Refusal) -> Refusal {
    Refusal {
        sequence: refusal.sequence,
        time: time(refusal.time.as_ref()).unwrap_or_default(),
        kind: refusal.kind.clone(),
        code: refusal.code.clone(),
        close_code: u16::try_from(refusal.close_code).unwrap_or_default(),
        reason: refusal.reason.clone(),
        user: refusal.user.clone(),
        address: refusal.address.clone(),
        transport: refusal.transport.clone(),
        channel: refusal.channel.clone(),
        event_type: refusal.event_type.clone(),
        connection_id: refusal.connection_id.clone(),
        by: refusal.by.clone(),
    }
}

/// One source.
pub(super) fn source(source: &proto::SourceState) -> Source {
    let letters = source.recent_dead_letters.iter();
    let letters = letters.map(|letter| SourceDeadLetter {
        time: time(letter.time.as_ref()).unwrap_or_default(),
        record: letter.record.clone(),
        channel: letter.channel.clone(),
        reason: letter.reason.clone(),
    });
    Source {
        name: source.name.clone(),
        kind: source.kind.clone(),
        server: source.server.clone(),
        connected: source.connected,
        lag: source.lag,
        lag_seconds: seconds(source.lag_time.as_ref()),
        events: source.events,
        duplicates: source.duplicates,
        dead_letters: source.dead_letters,
        failures: source.failures,
        rate: source.rate,
        last_failure: named(&source.last_failure),
        last_failure_at: time(source.last_failure_at.as_ref()),
        recent_dead_letters: letters.collect(),
    }
}

/// One event type; in a list without schema and example.
pub(super) fn event_type(event_type: &EventType) -> api::EventType<'_> {
    api::EventType {
        name: &event_type.name,
        namespace: &event_type.namespace,
        description: &event_type.description,
        roles: event_type.roles.iter().map(String::as_str).collect(),
        schema: serde_json::from_str(&event_type.schema).ok(),
        example: serde_json::from_str(&event_type.example).ok(),
    }
}

/// The result of a validation.
pub(super) fn judgement(response: &ValidateEventResponse) -> api::Judgement {
    let errors = response.errors.iter().map(|error| api::Violation {
        path: error.path.clone(),
        message: error.message.clone(),
    });
    api::Judgement {
        valid: response.valid,
        errors: errors.collect(),
    }
}

/// A string of protobuf, in which an empty one is none.
fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn place(position: Option<&Position>) -> (Option<String>, Option<u64>) {
    position
        .map(|position| (position.epoch.clone(), position.offset))
        .unzip()
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn time(time: Option<&Timestamp>) -> Option<String> {
    let time = time?;
    let micros = time
        .seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(time.nanos / 1000));
    Some(crate::event::Timestamp::from_micros(micros).to_rfc3339())
}

fn seconds(duration: Option<&Duration>) -> f64 {
    let duration = duration.and_then(|duration| std::time::Duration::try_from(*duration).ok());
    duration.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    fn sample(data: &'static [u8], content_type: &str) -> Event {
        Event {
            id: String::from("0199"),
            r#type: String::from("project.updated"),
            channel: String::from("project:42"),
            time: Some(Timestamp {
                seconds: 1_795_255_200,
                nanos: 123_000_000,
            }),
            data: Bytes::from_static(data),
            content_type: content_type.to_owned(),
            position: Some(Position {
                epoch: String::from("ff"),
                offset: 42,
            }),
            ..Event::default()
        }
    }

    #[test]
    fn event_is_one_line_with_type_first() {
        let line = serde_json::to_string(&event(&sample(b"{\"a\":\n 1.0}", ""))).expect("JSON");
        assert_eq!(
            line,
            r#"{"type":"project.updated","channel":"project:42","id":"0199","timestamp":"2026-11-21T10:00:00.123Z","offset":42,"epoch":"ff","data":{"a":  1.0}}"#
        );
    }

    #[test]
    fn non_json_data_is_base64() {
        let line = serde_json::to_value(event(&sample(b"\xff", "image/png"))).expect("JSON");
        assert_eq!(line.get("data_base64"), Some(&json!("/w==")));
        assert_eq!(line.get("content_type"), Some(&json!("image/png")));
        assert_eq!(line.get("data"), None);
    }

    #[test]
    fn stats_are_those_of_http_whatever_the_transport() {
        let metrics = crate::telemetry::Metrics::new("n1");
        metrics.received(9);
        let duration = |seconds, nanos| Some(Duration { seconds, nanos });
        let said = Stats {
            node: String::from("n1"),
            uptime: duration(1, 500_000_000),
            bytes_in: 9,
            latency: Some(LatencyStats {
                p50: duration(0, 2_000_000),
                ..LatencyStats::default()
            }),
            ..Stats::default()
        };
        let shown = stats(&said);
        assert!((shown.uptime_seconds - 1.5).abs() < 1e-9);
        assert!((shown.latency.p50_ms - 2.0).abs() < 1e-9);
        let members = |stats: &api::Stats| {
            let json = serde_json::to_value(stats).expect("JSON");
            json.as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        let http = api::Stats::from(metrics.snapshot());
        assert_eq!(shown.bytes, http.bytes);
        assert_eq!(members(&shown), members(&http));
    }
}
