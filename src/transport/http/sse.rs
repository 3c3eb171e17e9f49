//! `GET /sse`: events as server-sent events (WHATWG HTML §9.2).
//!
//! A stream is a connection of the hub like any other. Its first message is `event: subscribed`;
//! events have no `event:` field, so that `onmessage` gets them; notices are named after their
//! type (`event: gap`), and the last message is `event: close` with the close code.
//!
//! An `EventSource` gives up for good on any status but 200. So a temporary rejection is a stream that
//! ends at once (`retry.rs`), and only a permanent one is a status.

mod protocol;
mod resume;
mod retry;
mod sampled;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio_stream::Stream;

use super::Shared;
use super::observe::Trace;
use super::parameters::Parameters;
use super::query::Query;
use super::reply::{Answer, Refusal};
use crate::api::FollowParams;
use crate::api::refusals::{BadRequest, Guarded, ResourceExhausted};
use crate::auth::{AuthFailure, bearer};
use crate::clock::duration;
use crate::error::{Error, Result};
use crate::hub::{Joined, PipeReader, Piped, Refused};
use crate::session::{
    AdmissionRequest, Authentication, Credentials, OriginRule, Rejection, Subscribe, Wanted,
    open_subscribed,
};
use crate::telemetry::Transport;
use protocol::EventStream;
use resume::Ids;
use sampled::{Sampled, Sampler};

/// The protocol of event streams, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn dialect() -> Arc<dyn crate::hub::Protocol> {
    Arc::new(EventStream)
}

/// Follows channels as server-sent events
///
/// The first message is `event: subscribed`; events have no `event` field. An `id` is EPOCH/OFFSET, or
/// for several channels one such position for each, separated by commas; as `Last-Event-ID` it resumes
/// all of them.
#[utoipa::path(
    get,
    path = "/sse",
    tag = "events",
    operation_id = "follow",
    security(("bearer" = []), ("token" = []), ()),
    params(
        FollowParams,
        ("last_event_id" = Option<String>, Query,
            description = "Like the header `Last-Event-ID`."),
        ("sample" = Option<u32>, Query, minimum = 1, maximum = 10_000,
            description = "At most this many events a second; `event: sampled` counts the others."),
        ("Last-Event-ID" = Option<String>, Header, description = "Resumes after this id."),
    ),
    responses(
        (status = 200, description = "Done.", body = String, content_type = "text/event-stream"),
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
    let unknown = parameters.check(&query);
    let request = Request {
        shared: &shared,
        trace: &trace,
        address,
        extensions: &extensions,
        method: &method,
        headers: &headers,
        query: &query,
    };
    let answer = follow(request, unknown).await;
    answer.or_else(|refusal| retry::instead_of(refusal, &headers, &shared.lifecycle))
}

/// A request for a stream.
#[derive(Clone, Copy)]
struct Request<'r> {
    shared: &'r Shared,
    trace: &'r Trace,
    address: SocketAddr,
    extensions: &'r http::Extensions,
    method: &'r Method,
    headers: &'r HeaderMap,
    query: &'r Query,
}

async fn follow(request: Request<'_>, unknown: Result<()>) -> Answer {
    let Request {
        shared,
        trace,
        address,
        headers,
        query,
        ..
    } = request;
    let services = &shared.services;
    let allowed = shared.allowed_origins.load_full();
    // The internal listener checks origins itself.
    let origin = (!shared.is_internal).then_some(OriginRule {
        headers,
        allowed: &allowed,
    });
    let admission = AdmissionRequest {
        transport: Transport::Sse,
        address,
        origin,
        credentials: credentials(shared, request.extensions, headers, query),
        authentication: Authentication::Now,
        headers: Some(headers),
        trace: trace.context(),
    };
    let admitted = services.admit(admission).await.map_err(encode)?;
    let last = match headers.get("last-event-id") {
        Some(value) => value
            .to_str()
            .map_err(|_| Error::field("last_event_id", "expected an id as the server gave it"))?,
        None => query.text("last_event_id"),
    };
    let (wanted, ids) = wanted(last, query)?;
    let sampler = Sampler::parse(query)?;
    unknown?;
    if *request.method == Method::HEAD {
        return Ok(stream(Body::empty()));
    }
    let opened = open_subscribed(
        services,
        admitted,
        Arc::new(EventStream),
        wanted,
        trace.context().cloned(),
        move |_, joined, refused| first(ids, joined, refused),
    );
    let (reader, ids) = opened.await?;
    let frames = Frames { reader, ids };
    Ok(stream(match sampler {
        None => Body::from_stream(frames),
        Some(sampler) => Body::from_stream(Sampled::new(frames, sampler)),
    }))
}

/// A rejection as a problem.
pub(super) fn encode(rejection: Rejection) -> Refusal {
    match StatusCode::from_u16(rejection.http_status()) {
        Ok(status) => Refusal::with_status(rejection.error, status),
        Err(_) => rejection.error.into(),
    }
}

/// The credentials of a request for a stream. Without a token, the internal listener may know the
/// caller.
pub(super) fn credentials<'r>(
    shared: &Shared,
    extensions: &http::Extensions,
    headers: &'r HeaderMap,
    query: &'r Query,
) -> Credentials<'r> {
    let token = token(headers, query);
    let without = matches!(token, Ok(None)).then(|| shared.access.without_token(extensions));
    match without.flatten() {
        Some(identity) => Credentials::Verified(identity),
        None => Credentials::Token(token),
    }
}

/// The token of the header or the query: `EventSource` can't send headers.
fn token<'r>(headers: &'r HeaderMap, query: &'r Query) -> Result<Option<&'r str>, AuthFailure> {
    let in_query = ["token", "access_token"];
    let in_query = || in_query.iter().find_map(|name| query.all(name).next());
    Ok(bearer(headers)?.or_else(in_query))
}

/// The first message of a stream. Fails if every subscription was refused.
fn first(mut ids: Ids, joined: &[Joined], refused: &[Refused]) -> Result<(Bytes, Ids)> {
    if let ([], [first, ..]) = (joined, refused) {
        return Err(first.error.clone());
    }
    ids.began(joined);
    Ok((protocol::subscribed(&ids, joined, refused), ids))
}

/// The subscriptions of a request, and the ids to resume from: `last` is the last one received.
pub(super) fn wanted(last: &str, query: &Query) -> Result<(Subscribe, Ids)> {
    let mut channels: Vec<&str> = Vec::new();
    for channel in query.all("channel") {
        // Twice the same is one subscription, as on the WebSocket.
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    if channels.is_empty() {
        let expected = "expected one or more channels, as in ?channel=a&channel=b";
        return Err(Error::field("channel", expected));
    }
    let ids = Ids::parse(&channels, last)?;
    let rewind = query.number("rewind")?;
    let channels = channels
        .iter()
        .zip(ids.positions())
        .map(|(name, since)| Wanted {
            channel: (*name).to_owned(),
            since,
            // A position takes precedence over a count.
            rewind: if since.is_some() { None } else { rewind },
        });
    let types = query.all("event_types").flat_map(|list| list.split(','));
    let wanted = Subscribe {
        channels: channels.collect(),
        event_types: types.map(str::to_owned).collect(),
        filter: query.text("filter").to_owned(),
        presence: query.flag("presence")?,
        durable: query.text("durable").to_owned(),
        min_interval: match query.text("min_interval") {
            "" => None,
            text => {
                let parsed = duration::parse(text);
                Some(parsed.map_err(|expected| Error::field("min_interval", expected))?)
            }
        },
    };
    Ok((wanted, ids))
}

/// The response head of every stream. Proxies must not buffer events.
pub(super) fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

/// The body of a stream.
struct Frames {
    reader: PipeReader,
    ids: Ids,
}

impl Stream for Frames {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Frames { reader, ids } = self.get_mut();
        Pin::new(reader).poll_next(cx).map(|piped| match piped {
            Some(Piped::Frame(frame)) => Some(Ok(ids.rewrite(frame))),
            Some(Piped::End(..)) | None => None,
        })
    }
}
