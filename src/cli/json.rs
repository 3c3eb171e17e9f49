//! Messages of the schema as JSON: fields have the names in the schema, durations are strings in
//! seconds (`"1.5s"`) and times are RFC 3339, as in protobuf's own JSON mapping.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_types::{Duration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::proto::{
    Channel, Connection, Event, EventType, ExplainResponse, LatencyStats, Position,
    PublishResponse, Refusal, SourceState, Stats, ValidateEventResponse,
};

/// An event in the form of WebSocket clients, plus its epoch, so that `--since` can resume after
/// it.
#[derive(Serialize)]
pub(super) struct EventLine<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    id: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceparent: &'a str,
}

/// The line for an event.
pub(super) fn event(event: &Event) -> EventLine<'_> {
    let data = payload(event);
    let data_base64 = data.is_none().then(|| STANDARD.encode(&event.data));
    EventLine {
        r#type: &event.r#type,
        channel: &event.channel,
        id: &event.id,
        timestamp: time(event.time.as_ref()).unwrap_or_default(),
        offset: event.position.as_ref().map(|position| position.offset),
        epoch: event
            .position
            .as_ref()
            .map(|position| position.epoch.as_str()),
        content_type: data_base64.is_some().then_some(event.content_type.as_str()),
        data,
        data_base64,
        headers: event
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        traceparent: &event.traceparent,
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
pub(super) fn published(response: &PublishResponse) -> Value {
    let results: Vec<Value> = response
        .results
        .iter()
        .map(|result| {
            json!({
                "channel": result.channel,
                "position": position(result.position.as_ref()),
                "subscribers": result.subscribers,
                "duplicate": result.duplicate,
            })
        })
        .collect();
    json!({"id": response.id, "results": results})
}

/// A node's counters.
pub(super) fn stats(stats: &Stats) -> Value {
    let connections = stats.connections.clone().unwrap_or_default();
    let events = stats.events.clone().unwrap_or_default();
    let latency = stats.latency.unwrap_or_default();
    json!({
        "node": stats.node,
        "uptime": duration(stats.uptime.as_ref()),
        "connections": {
            "now": connections.now,
            "peak": connections.peak,
            "total": connections.total,
            "by_transport": connections.by_transport,
            "by_client_type": connections.by_client_type,
        },
        "subscriptions": stats.subscriptions,
        "channels": stats.channels,
        "events": {
            "published": events.published,
            "delivered": events.delivered,
            "replayed": events.replayed,
            "dropped": events.dropped,
            "conflated": events.conflated,
            "filtered": events.filtered,
            "by_type": events.by_type,
        },
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "errors": stats.errors,
        "auth_failures": stats.auth_failures,
        "rate_limited": stats.rate_limited,
        "slow_consumers": stats.slow_consumers,
        "latency": distribution(&latency),
    })
}

fn distribution(latency: &LatencyStats) -> Value {
    json!({
        "p50": duration(latency.p50.as_ref()),
        "p90": duration(latency.p90.as_ref()),
        "p99": duration(latency.p99.as_ref()),
        "max": duration(latency.max.as_ref()),
    })
}

/// One connection.
pub(super) fn connection(connection: &Connection) -> Value {
    let subscriptions: Vec<Value> = connection
        .subscriptions
        .iter()
        .map(|s| {
            json!({
                "channel": s.channel,
                "position": position(s.position.as_ref()),
                "filter": s.filter,
                "event_types": s.event_types,
                "live": s.live,
            })
        })
        .collect();
    json!({
        "id": connection.id,
        "user": connection.user,
        "roles": connection.roles,
        "transport": connection.transport,
        "client_type": connection.client_type,
        "client_name": connection.client_name,
        "address": connection.address,
        "connected_at": time(connection.connected_at.as_ref()),
        "last_seen_at": time(connection.last_seen_at.as_ref()),
        "subscriptions": subscriptions,
        "delivered": connection.delivered,
        "dropped": connection.dropped,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "outbox_bytes": connection.outbox_bytes,
        "round_trip": duration(connection.round_trip.as_ref()),
        "user_agent": connection.user_agent,
        "origin": connection.origin,
        "dialect": connection.dialect,
        "compression": connection.compression,
        "token_expires_at": time(connection.token_expires_at.as_ref()),
        "messages_in": connection.messages_in,
        "rate_limited": connection.rate_limited,
        "claims": connection.claims,
    })
}

/// One channel.
pub(super) fn channel(channel: &Channel) -> Value {
    json!({
        "channel": channel.channel,
        "subscribers": channel.subscribers,
        "position": position(channel.position.as_ref()),
        "last_event_at": time(channel.last_event_at.as_ref()),
        "history_events": channel.history_events,
        "history_bytes": channel.history_bytes,
        "rate": channel.rate,
        "users": channel.users,
    })
}

/// The answer of the rules.
pub(super) fn explanation(answer: &ExplainResponse) -> Value {
    let inputs = answer.inputs.iter();
    let inputs: BTreeMap<&String, Value> = inputs
        .map(|(name, value)| (name, serde_json::from_str(value).unwrap_or(Value::Null)))
        .collect();
    json!({
        "allowed": answer.allowed,
        "rule": answer.rule,
        "source": answer.source,
        "inputs": inputs,
        "reason": answer.reason,
    })
}

/// One refusal.
pub(super) fn refusal(refusal: &Refusal) -> Value {
    json!({
        "sequence": refusal.sequence,
        "time": time(refusal.time.as_ref()),
        "kind": refusal.kind,
        "code": refusal.code,
        "close_code": refusal.close_code,
        "reason": refusal.reason,
        "user": refusal.user,
        "address": refusal.address,
        "transport": refusal.transport,
        "channel": refusal.channel,
        "event_type": refusal.event_type,
        "connection_id": refusal.connection_id,
        "by": refusal.by,
    })
}

/// One source of a node.
pub(super) fn source(node: &str, source: &SourceState) -> Value {
    let letters: Vec<Value> = source
        .recent_dead_letters
        .iter()
        .map(|letter| {
            json!({
                "time": time(letter.time.as_ref()),
                "record": letter.record,
                "channel": letter.channel,
                "reason": letter.reason,
            })
        })
        .collect();
    json!({
        "node": node,
        "name": source.name,
        "kind": source.kind,
        "server": source.server,
        "connected": source.connected,
        "lag": source.lag,
        "lag_time": duration(source.lag_time.as_ref()),
        "events": source.events,
        "duplicates": source.duplicates,
        "dead_letters": source.dead_letters,
        "failures": source.failures,
        "rate": source.rate,
        "last_failure": source.last_failure,
        "last_failure_at": time(source.last_failure_at.as_ref()),
        "recent_dead_letters": letters,
    })
}

/// One event type; schema and example are texts, as in the schema.
pub(super) fn event_type(event_type: &EventType) -> Value {
    json!({
        "name": event_type.name,
        "namespace": event_type.namespace,
        "description": event_type.description,
        "roles": event_type.roles,
        "schema": event_type.schema,
        "example": event_type.example,
    })
}

/// The result of a validation.
pub(super) fn judgement(response: &ValidateEventResponse) -> Value {
    let errors: Vec<Value> = response
        .errors
        .iter()
        .map(|e| json!({"path": e.path, "message": e.message}))
        .collect();
    json!({"valid": response.valid, "errors": errors})
}

fn position(position: Option<&Position>) -> Value {
    position.map_or(
        Value::Null,
        |p| json!({"epoch": p.epoch, "offset": p.offset}),
    )
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

fn duration(duration: Option<&Duration>) -> Option<String> {
    let duration = duration?;
    let mut text = format!("{}.{:09}", duration.seconds, duration.nanos.max(0));
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    Some(text + "s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

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
    fn durations_are_in_seconds() {
        for (seconds, nanos, text) in [
            (0, 0, "0s"),
            (10, 0, "10s"),
            (1, 500_000_000, "1.5s"),
            (0, 1000, "0.000001s"),
        ] {
            assert_eq!(
                duration(Some(&Duration { seconds, nanos })).as_deref(),
                Some(text)
            );
        }
        assert_eq!(duration(None), None);
    }
}
