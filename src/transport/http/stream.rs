//! `GET /stream`: events as lines of JSON (NDJSON), for clients whose network lets nothing but plain
//! HTTP pass.
//!
//! Each line is a message as the WebSocket has it: first `subscribed`, then events and notices,
//! `heartbeat` in quiet times, and last `close` with the close code. Line breaks that a payload has
//! between its values become spaces.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};
use tokio_stream::Stream;

use super::Shared;
use super::observe::Trace;
use super::parameters::Parameters;
use super::query::Query;
use super::reply::Answer;
use super::sse;
use crate::api::FollowParams;
use crate::api::refusals::{BadRequest, Guarded, ResourceExhausted};
use crate::error::{CloseCode, Result};
use crate::event::{Event, Timestamp, json as event_json};
use crate::hub::{ConnCtx, DialectId, Joined, Notice, PipeReader, Piped, Protocol, Refused};
use crate::protocol::{ReplyTo, ServerMessage};
use crate::session::{AdmissionRequest, Authentication, OriginRule, open_subscribed};
use crate::telemetry::Transport;

/// Follows channels as lines of JSON
///
/// Each line is a message as on the WebSocket: first `subscribed`, then events and notices, and last
/// `close`.
#[utoipa::path(
    get,
    path = "/stream",
    tag = "events",
    operation_id = "stream",
    security(("bearer" = []), ("token" = []), ()),
    params(
        FollowParams,
        ("since" = Option<String>, Query,
            description = "EPOCH/OFFSET, for several channels one for each, separated by commas, \
                           `-` for none: resumes after it."),
    ),
    responses(
        (status = 200, description = "Done.", body = String, content_type = "application/x-ndjson"),
        BadRequest, ResourceExhausted, Guarded,
    ),
)]
#[expect(clippy::too_many_arguments, reason = "the extractors of one request")]
pub(super) async fn open(
    State(shared): State<Shared>,
    Extension(trace): Extension<Trace>,
    Extension(ConnectInfo(address)): Extension<ConnectInfo<SocketAddr>>,
    Extension(parameters): Extension<Parameters>,
    extensions: http::Extensions,
    method: Method,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let services = &shared.services;
    let allowed = shared.allowed_origins.load_full();
    let admission = AdmissionRequest {
        transport: Transport::Sse,
        address,
        origin: Some(OriginRule {
            headers: &headers,
            allowed: &allowed,
        }),
        credentials: sse::credentials(&shared, &extensions, &headers, &query),
        authentication: Authentication::Now,
        headers: Some(&headers),
        trace: trace.context(),
    };
    let admitted = services.admit(admission).await.map_err(sse::encode)?;
    let (wanted, _) =
        sse::wanted(query.text("since"), &query).map_err(|error| match error.field_name() {
            Some("last_event_id") => error.about("since"),
            _ => error,
        })?;
    parameters.check(&query)?;
    if method == Method::HEAD {
        return Ok(stream(Body::empty()));
    }
    let trace = trace.context().cloned();
    let opened = open_subscribed(services, admitted, Arc::new(Lines), wanted, trace, first);
    let (reader, ()) = opened.await?;
    Ok(stream(Body::from_stream(Frames(reader))))
}

/// The first line. Fails where every subscription was refused.
fn first(_: &ConnCtx<'_>, joined: &[Joined], refused: &[Refused]) -> Result<(Bytes, ())> {
    if let ([], [first, ..]) = (joined, refused) {
        return Err(first.error.clone());
    }
    let subscribed = ServerMessage::Subscribed { joined, refused };
    let members = subscribed.members(&ReplyTo::default());
    Ok((line(subscribed.name(), members), ()))
}

fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/x-ndjson");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

/// What the hub calls for streams of lines.
struct Lines;

impl Protocol for Lines {
    fn transport(&self) -> Transport {
        Transport::Sse
    }

    fn dialect(&self) -> DialectId {
        DialectId::LINES
    }

    fn event(&self, event: &Event) -> Bytes {
        let mut out = BytesMut::with_capacity(event_json::size(event) + 1);
        event_json::write(&mut out, event);
        in_one_line(&mut out);
        out.put_u8(b'\n');
        out.freeze()
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        let message = ServerMessage::from(notice);
        Some(line(message.name(), message.members(&ReplyTo::default())))
    }

    fn heartbeat(&self, now: Timestamp) -> Bytes {
        let message = ServerMessage::Heartbeat(now);
        line(message.name(), message.members(&ReplyTo::default()))
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        let members = [("code", code.number().into()), ("reason", reason.into())];
        let members = members.map(|(name, value): (&str, Value)| (name.to_owned(), value));
        line("close", Map::from_iter(members))
    }

    /// The client sends nothing after its request.
    fn received(&self, _: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}

/// A message that is no event.
fn line(kind: &str, members: Map<String, Value>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(format!("{{\"type\":\"{kind}\"").as_bytes());
    for (name, value) in members {
        out.put_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    out.put_slice(b"}\n");
    out.freeze()
}

/// In JSON a line break stands only between values, where a space means the same.
fn in_one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// The body of a stream.
struct Frames(PipeReader);

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Frames(reader) = self.get_mut();
        Pin::new(reader).poll_next(cx).map(|piped| match piped {
            Some(Piped::Frame(frame)) => Some(Ok(frame)),
            Some(Piped::End(..)) | None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_one_line() {
        let close = Lines.close(CloseCode::Shutdown, "the server\nstops");
        let breaks = memchr::memchr_iter(b'\n', &close).count();
        assert_eq!(breaks, 1, "{close:?}");
        let mut json = *b"{\n\"a\":\r\n\"x\\ny\"}";
        in_one_line(&mut json);
        assert_eq!(&json, b"{ \"a\":  \"x\\ny\"}");
    }
}
