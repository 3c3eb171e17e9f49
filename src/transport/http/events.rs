//! Publishing over HTTP: `POST /api/v1/events`, and the paths for CloudEvents.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::Shared;
use super::body::{self, Members, too_large};
use super::caller::Caller;
use super::cloud_events;
use super::observe::Trace;
use super::reply::{self, Answer, Refusal};
use crate::api::refusals::{
    BadRequest, Guarded, ResourceExhausted, TooLarge, UnsupportedMediaType,
};
use crate::api::{Audience, BatchEntry, CloudEvent, CloudEventBatch, PublishRequest, Published};
use crate::clock::duration;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Conditions, EventType, Headers, Payload, Timestamp, TraceContext};
use crate::session::{MAX_ANSWER_BYTES, Publish, Published as Outcome, Session};

/// The most bytes of a request besides its payload.
const ENVELOPE: usize = 64 * 1024;
/// Publishes an event
///
/// Needs role `service`, or permission by the namespace's rules. This path also accepts CloudEvents
/// 1.0, like `/api/v1/cloudevents`.
#[utoipa::path(
    post,
    path = "/api/v1/events",
    tag = "events",
    operation_id = "publish",
    request_body = PublishRequest,
    responses(
        (status = 200, description = "Done.", body = Published),
        BadRequest, TooLarge, UnsupportedMediaType, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn publish(
    shared: State<Shared>,
    caller: Caller,
    trace: Extension<Trace>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    take(&Kind::ALL, &shared, &caller, &trace, &headers, body).await
}

/// Publishes a CloudEvent 1.0
///
/// The binary mode is accepted too: the attributes as `ce-` headers, the data as the body.
#[utoipa::path(
    post,
    path = "/api/v1/cloudevents",
    tag = "events",
    operation_id = "publishCloudEvent",
    request_body(content = CloudEvent, content_type = "application/cloudevents+json"),
    responses(
        (status = 200, description = "Done.", body = Published),
        BadRequest, TooLarge, UnsupportedMediaType, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn publish_cloud_event(
    shared: State<Shared>,
    caller: Caller,
    trace: Extension<Trace>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let kinds = [Kind::Structured, Kind::Binary];
    take(&kinds, &shared, &caller, &trace, &headers, body).await
}

/// Publishes a batch of CloudEvents 1.0
///
/// At most 1000. The response lists the result of each event, in their order: one event may be refused
/// while others are published.
#[utoipa::path(
    post,
    path = "/api/v1/cloudevents/batch",
    tag = "events",
    operation_id = "publishCloudEventBatch",
    request_body(
        content = CloudEventBatch, content_type = "application/cloudevents-batch+json",
    ),
    responses(
        (status = 200, description = "Done.", body = Vec<BatchEntry>),
        BadRequest, TooLarge, UnsupportedMediaType, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn publish_cloud_event_batch(
    shared: State<Shared>,
    caller: Caller,
    trace: Extension<Trace>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    take(&[Kind::Batch], &shared, &caller, &trace, &headers, body).await
}

/// Publishes the events of a body, if the path accepts its kind.
async fn take(
    kinds: &[Kind],
    shared: &Shared,
    caller: &Caller,
    trace: &Trace,
    headers: &HeaderMap,
    body: Body,
) -> Answer {
    let session = caller.session();
    let limit = shared.services.limits.load().event_bytes;
    // Base64 encodes three bytes as four.
    let whole = limit.div_ceil(3).saturating_mul(4).saturating_add(ENVELOPE);
    let kind = Kind::of(headers, kinds)?;
    let body = body::read(body, whole, &session).await?;
    match kind {
        Kind::Request => one(&session, request(&body)?, trace).await,
        Kind::Structured => one(&session, cloud_events::structured(&body)?, trace).await,
        Kind::Binary => {
            let event = cloud_events::binary(headers, body.clone())?;
            one(&session, event, trace).await
        }
        Kind::Batch => batch(&session, &body, trace).await,
    }
}

async fn batch(session: &Session, body: &[u8], trace: &Trace) -> Answer {
    let (mut answers, mut bytes) = (Vec::new(), 0_usize);
    for event in cloud_events::batch(body)? {
        let published = match cloud_events::structured(event.get().as_bytes()) {
            Ok(event) => commit(session, within(event, trace)).await,
            Err(error) => Err(error.into()),
        };
        let answer = match published {
            Ok(published) => Published::from(&published).into(),
            // Few words each, once there are many.
            Err(refusal) if bytes > MAX_ANSWER_BYTES / 3 => {
                refused(session, &refusal.error().clone().brief())
            }
            Err(refusal) => refused(session, refusal.error()),
        };
        let answer = serde_json::value::to_raw_value(&answer);
        let answer = answer.map_err(|_| Error::internal("an answer is no JSON"))?;
        bytes += answer.get().len();
        answers.push(answer);
    }
    reply::json(&answers)
}

/// How an event stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The server's own JSON.
    Request,
    /// A CloudEvent as JSON.
    Structured,
    /// A list of CloudEvents as JSON.
    Batch,
    /// A CloudEvent whose attributes are headers.
    Binary,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Request, Kind::Structured, Kind::Batch, Kind::Binary];

    /// The kind of a request, if it is one of these.
    fn of(headers: &HeaderMap, taken: &[Kind]) -> Result<Self, Refusal> {
        let content_type = match headers.get(CONTENT_TYPE) {
            None => "",
            Some(value) => value.to_str().unwrap_or("?"),
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let kind = match essence.to_ascii_lowercase().as_str() {
            "application/cloudevents+json" => Some(Kind::Structured),
            "application/cloudevents-batch+json" => Some(Kind::Batch),
            _ if cloud_events::is_binary(headers) => Some(Kind::Binary),
            "" | "application/json" => Some(Kind::Request),
            _ => None,
        };
        kind.filter(|kind| taken.contains(kind)).ok_or_else(|| {
            let named: Vec<&str> = taken.iter().map(|kind| kind.name()).collect();
            let expected = format!("expected {}", named.join(", or "));
            let error = Error::field("content-type", expected);
            Refusal::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE)
        })
    }

    /// How its content type is named.
    const fn name(self) -> &'static str {
        match self {
            Kind::Request => "application/json",
            Kind::Structured => "application/cloudevents+json",
            Kind::Batch => "application/cloudevents-batch+json",
            Kind::Binary => "the headers of a binary CloudEvent",
        }
    }
}

async fn one(session: &Session, event: Publish, trace: &Trace) -> Answer {
    let published = commit(session, within(event, trace)).await?;
    reply::json(&Published::from(&published))
}

/// Adds an event to its request's trace, unless only the event has one.
fn within(mut event: Publish, trace: &Trace) -> Publish {
    event.trace = trace.of_event(event.trace.take());
    event
}

/// Publishes an event, unless its payload is too large for the limits.
pub(super) async fn commit(session: &Session, event: Publish) -> Result<Outcome, Refusal> {
    let services = session.services();
    let limit = services.limits.load().event_bytes;
    if event.payload.data().len() > limit {
        services.metrics.limit_reached("event_bytes");
        let expected = format!("expected at most {limit} bytes (limits.event_bytes)");
        return Err(too_large(Error::field("data", expected)));
    }
    Ok(session.publish(event).await?)
}

/// The entry of a batch that was refused.
fn refused(session: &Session, error: &Error) -> BatchEntry {
    session.services().metrics.error(error.code());
    error.into()
}

/// Parses a request in the server's own JSON.
///
/// # Errors
///
/// `invalid_argument` with the invalid member.
fn request(body: &[u8]) -> Result<Publish> {
    let members = Members::parse(body)?;
    members.only(&PublishRequest::MEMBERS)?;
    let request = PublishRequest {
        channels: members
            .take("channels", "expected a list of strings")?
            .unwrap_or_default(),
        r#type: members.required_text("type")?,
        data: members.raw("data"),
        data_base64: members
            .raw("data_base64")
            .map(|_| members.text("data_base64"))
            .transpose()?,
        content_type: Some(members.text("content_type")?),
        headers: members.pairs("headers")?,
        key: members.text("key")?,
        idempotency_key: members.text("idempotency_key")?,
        audience: members.take("audience", Audience::EXPECTED)?,
        source: members.text("source")?,
        time: members.text("time")?,
        traceparent: Some(members.text("traceparent")?),
        tracestate: Some(members.text("tracestate")?),
        ttl: members.text("ttl")?,
        skip_history: members.take("skip_history", "expected true or false")?,
        expected_offset: members.take("expected_offset", "expected a whole number")?,
    };
    let channels = request.channels.iter().map(|name| {
        ChannelName::new(name)
            .map_err(|error| Error::field("channels", error.description().to_owned()))
    });
    Ok(Publish {
        channels: channels.collect::<Result<_>>()?,
        event_type: EventType::new(&*request.r#type)?,
        payload: payload(&request)?,
        headers: Headers::new(request.headers)?,
        key: request.key.into_owned(),
        idempotency_key: request.idempotency_key.into_owned(),
        audience: request.audience.map(Audience::checked).transpose()?,
        source: request.source.into_owned().into(),
        time: time(&request.time)?,
        trace: TraceContext::parse(
            &request.traceparent.unwrap_or_default(),
            &request.tracestate.unwrap_or_default(),
        ),
        ttl: ttl(&request.ttl)?,
        conditions: Conditions {
            skip_history: request.skip_history.unwrap_or_default(),
            expected_offset: request.expected_offset,
        },
    })
}

/// The payload: JSON as it stands, or bytes in base64.
fn payload(request: &PublishRequest<'_>) -> Result<Payload> {
    let content_type = request.content_type.as_deref().unwrap_or_default();
    match (request.data, request.data_base64.as_deref()) {
        (Some(_), Some(encoded)) if !encoded.is_empty() => Err(Error::field(
            "data_base64",
            "expected either data or data_base64",
        )),
        (Some(data), _) => {
            let data = Bytes::copy_from_slice(data.get().as_bytes());
            let payload = Payload::new(data, content_type)?;
            if payload.is_json() {
                return Ok(payload);
            }
            let expected = "expected a JSON media type; other data goes into data_base64";
            Err(Error::field("content_type", expected))
        }
        (None, Some(encoded)) => Payload::new(from_base64(encoded)?, content_type),
        (None, None) => Err(Error::field("data", "expected JSON, but it is missing")),
    }
}

/// Standard base64 with padding (RFC 4648 §4).
///
/// # Errors
/// `invalid_argument` for the field `data_base64`.
pub(super) fn from_base64(text: &str) -> Result<Bytes> {
    let wrong = |_| Error::field("data_base64", "expected base64 with padding");
    Ok(BASE64.decode(text).map_err(wrong)?.into())
}

/// A time; an empty string is none.
///
/// # Errors
///
/// `invalid_argument` for the field `time`.
pub(super) fn time(text: &str) -> Result<Option<Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::field("time", "expected a time as in RFC 3339");
    Timestamp::parse(text).map(Some).ok_or_else(wrong)
}

/// A lifetime; an empty text is none.
fn ttl(text: &str) -> Result<Option<Duration>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = duration::parse(text).map(Some);
    parsed.map_err(|expected| Error::field("ttl", expected))
}

/// For `fuzz/`: decodes arbitrary bytes as each kind of publish request.
#[cfg(feature = "fuzzing")]
pub fn read_all(body: &[u8]) {
    drop(request(body));
    drop(cloud_events::structured(body));
    drop(cloud_events::batch(body));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::strict_json::properties::odd_json;

    fn field(body: &str) -> Option<String> {
        let refused = request(body.as_bytes()).unwrap_err();
        refused.field_name().map(str::to_owned)
    }

    #[test]
    fn request_data_is_kept_byte_for_byte() {
        let body = br#"{"type":"a.b","channels":["room:1"],"data":{ "n" : 1.0 },"key":"k",
            "time":"2026-11-21T10:00:00Z","audience":{"users":["ann"]},"headers":{"h":"v"}}"#;
        let event = request(body).unwrap();
        assert_eq!(event.payload.data(), r#"{ "n" : 1.0 }"#);
        assert_eq!(event.channels.len(), 1);
        assert_eq!(event.time, Timestamp::parse("2026-11-21T10:00:00Z"));
        assert_eq!(&*event.audience.unwrap().users[0], "ann");
    }

    #[test]
    fn invalid_input_is_named() {
        assert_eq!(field(r#"{"data":1}"#).unwrap(), "type");
        assert_eq!(field(r#"{"type":"a.b"}"#).unwrap(), "data");
        let table = [
            (r#""channels":"room:1""#, "channels"),
            (r#""channels":["a b"]"#, "channels"),
            (r#""channel":"room:1""#, "channel"),
            (r#""time":"yesterday""#, "time"),
            (r#""headers":{"a":1}"#, "headers"),
            (r#""data_base64":"AA==""#, "data_base64"),
            (r#""content_type":"text/plain""#, "content_type"),
            (r#""audience":{"user":["ann"]}"#, "audience"),
            (r#""audience":{"users":[]}"#, "audience"),
            (
                r#""audience":{"connections":["x"]}"#,
                "audience.connection_id",
            ),
        ];
        for (member, name) in table {
            let body = format!(r#"{{"type":"a.b","data":1,{member}}}"#);
            assert_eq!(field(&body).as_deref(), Some(name), "{member}");
        }
    }

    #[test]
    fn conditions_of_a_publish_are_read() {
        let body = br#"{"type":"a","channels":["a:1"],"data":1,"ttl":"90s","skip_history":true,
                        "expected_offset":7}"#;
        let event = request(body).unwrap();
        assert_eq!(event.ttl, Some(Duration::from_secs(90)));
        assert!(event.conditions.skip_history);
        assert_eq!(event.conditions.expected_offset, Some(7));
        for (member, name) in [
            (r#""ttl":"soon""#, "ttl"),
            (r#""skip_history":1"#, "skip_history"),
            (r#""expected_offset":-1"#, "expected_offset"),
        ] {
            let body = format!(r#"{{"type":"a","data":1,{member}}}"#);
            assert_eq!(field(&body).as_deref(), Some(name));
        }
    }

    proptest::proptest! {
        #[test]
        fn all_transports_accept_the_same_data(text in odd_json()) {
            let request = request(format!(r#"{{"type":"a.b","data":{text}}}"#).as_bytes());
            let cloud = r#""specversion":"1.0","id":"1","source":"/a","type":"a.b""#;
            let cloud = cloud_events::structured(format!("{{{cloud},\"data\":{text}}}").as_bytes());
            let plain = Payload::new(text.clone().into(), "");
            assert_eq!(request.is_ok(), plain.is_ok(), "{text}");
            assert_eq!(cloud.is_ok(), plain.is_ok(), "{text}");
        }
    }

    #[test]
    fn data_base64_is_decoded() {
        let body = br#"{"type":"a.b","data_base64":"AAH/","content_type":"image/png"}"#;
        let event = request(body).unwrap();
        assert_eq!(event.payload.data().as_ref(), [0, 1, 255]);
        assert_eq!(event.payload.content_type(), "image/png");
        let wrong = r#"{"type":"a.b","data_base64":"AA","content_type":"image/png"}"#;
        assert_eq!(field(wrong).as_deref(), Some("data_base64"));
    }
}
