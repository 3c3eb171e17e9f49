//! Converts between messages of the schema and the program's own types.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event::{
    Audience, ChannelName, Conditions, EventType, Headers, Payload, Timestamp, TraceContext,
};
use crate::proto;
pub(super) use crate::protocol::schema::{event, moment, position, since, timestamp};
use crate::session::{Publish, PublishResult, Published};

/// An event to publish.
///
/// # Errors
/// `invalid_argument`, naming the field.
pub(super) fn publish(
    request: proto::PublishRequest,
    trace: Option<TraceContext>,
) -> Result<Publish> {
    let own = TraceContext::parse(&request.traceparent, &request.tracestate);
    let ttl = request.ttl.map(|ttl| {
        let wrong = || Error::field("ttl", "expected at least 1 ms");
        // The conversion negates negative values, which overflows for the smallest one.
        if ttl.seconds < 0 || ttl.nanos < 0 {
            return Err(wrong());
        }
        Duration::try_from(ttl).map_err(|_| wrong())
    });
    let channels = request.channels.iter().enumerate().map(|(at, name)| {
        ChannelName::new(name).map_err(|error| renamed(&error, format!("channels[{at}]")))
    });
    Ok(Publish {
        channels: channels.collect::<Result<_>>()?,
        event_type: EventType::new(&request.r#type)?,
        payload: Payload::new(request.data, &request.content_type)?,
        headers: Headers::new(request.headers)?,
        key: request.key,
        idempotency_key: request.idempotency_key,
        audience: request.audience.map(audience).transpose()?,
        source: request.source.into(),
        time: request.time.map(time).transpose()?,
        trace: own.or(trace),
        ttl: ttl.transpose()?,
        conditions: Conditions {
            skip_history: request.skip_history,
            expected_offset: request.expected_offset,
        },
    })
}

fn audience(audience: proto::Audience) -> Result<Audience> {
    let names = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
    let ids = |ids: Vec<String>, field: &str| {
        let parsed = ids.iter().enumerate().map(|(at, id)| {
            id.parse()
                .map_err(|error| renamed(&error, format!("audience.{field}[{at}]")))
        });
        parsed.collect::<Result<Vec<_>>>()
    };
    Ok(Audience {
        users: names(audience.users),
        roles: names(audience.roles),
        connections: ids(audience.connections, "connections")?,
        except_connections: ids(audience.except_connections, "except_connections")?,
    })
}

/// The same error with the field's name in the request.
fn renamed(error: &Error, field: String) -> Error {
    Error::field(field, error.description().to_owned())
}

/// A timestamp in the range of RFC 3339: years 1 to 9999.
fn time(time: prost_types::Timestamp) -> Result<Timestamp> {
    moment(time).ok_or_else(|| {
        let expected = "expected years 1 to 9999 and nanos below 1000000000";
        Error::field("time", expected)
    })
}

/// The result of a publish.
pub(super) fn published(published: Published) -> proto::PublishResponse {
    proto::PublishResponse {
        id: published.id.to_string(),
        results: published.results.into_iter().map(result).collect(),
        error: None,
    }
}

fn result(PublishResult { channel, receipt }: PublishResult) -> proto::PublishResult {
    proto::PublishResult {
        channel: channel
            .map(|channel| channel.to_string())
            .unwrap_or_default(),
        position: receipt.position.map(position),
        subscribers: receipt.subscribers,
        duplicate: receipt.duplicate,
    }
}

/// For `fuzz/`: decodes arbitrary bytes as a publish request.
#[cfg(feature = "fuzzing")]
pub fn read_all(bytes: &[u8]) {
    if let Ok(request) = <proto::PublishRequest as prost::Message>::decode(bytes) {
        drop(publish(request, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::PublishRequest {
        proto::PublishRequest {
            r#type: "a.b".into(),
            data: "1".into(),
            ..proto::PublishRequest::default()
        }
    }

    fn wrong_field(request: proto::PublishRequest) -> String {
        publish(request, None)
            .unwrap_err()
            .field_name()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn invalid_field_has_request_name() {
        let channels = vec!["ok".into(), "not ok".into()];
        assert_eq!(
            wrong_field(proto::PublishRequest {
                channels,
                ..request()
            }),
            "channels[1]"
        );
        assert_eq!(
            wrong_field(proto::PublishRequest {
                r#type: "1".into(),
                ..request()
            }),
            "type"
        );
        assert_eq!(
            wrong_field(proto::PublishRequest {
                data: "{".into(),
                ..request()
            }),
            "data"
        );
        let audience = proto::Audience {
            connections: vec!["x".into()],
            ..proto::Audience::default()
        };
        let audience = Some(audience);
        assert_eq!(
            wrong_field(proto::PublishRequest {
                audience,
                ..request()
            }),
            "audience.connections[0]"
        );
    }

    #[test]
    fn unrepresentable_times_are_refused() {
        for (seconds, nanos) in [
            (0, -1),
            (0, 1_000_000_000),
            (253_402_300_800, 0),
            (i64::MIN, 0),
        ] {
            let time = Some(prost_types::Timestamp { seconds, nanos });
            assert_eq!(
                wrong_field(proto::PublishRequest { time, ..request() }),
                "time"
            );
        }
    }

    #[test]
    fn times_before_1970_round_trip() {
        let before = prost_types::Timestamp {
            seconds: -2,
            nanos: 500_000_000,
        };
        assert_eq!(timestamp(time(before).unwrap()), before);
    }
}
