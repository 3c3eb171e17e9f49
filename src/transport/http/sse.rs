//! `GET /sse`: events as server-sent events (WHATWG HTML §9.2).
//!
//! A stream is a connection on the bus like any other. Its first message is `event: subscribed`;
//! events have no `event:` field, so that `onmessage` gets them; notices are named after what
//! they are (`event: gap`), and the last message is `event: close` with the close code.
//!
//! An `EventSource` gives up for good on any other status than 200. So what will pass is told to it
//! by a stream that ends at once (`come_back.rs`), and a status is left to what is final.

mod come_back;
mod dialect;
mod resume;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::oneshot;
use tokio_stream::Stream;

use super::Shared;
use super::observe::Trace;
use super::parameters::Parameters;
use super::query::Query;
use super::reply::Answer;
use crate::auth::{AuthFailure, Identity, bearer};
use crate::error::{CloseCode, Error, Result};
use crate::event::TraceContext;
use crate::hub::{ConnCtx, Hub, Link, Opening, Pipe, PipeReader, Piped, Shareable};
use crate::net::origin;
use crate::session::{Services, Session, Subscribe, Wanted};
use crate::telemetry::Transport;
use dialect::EventStream;
use resume::Ids;

/// When to try again where a user has too many connections.
const WHEN_FULL: Duration = Duration::from_secs(5);

/// The dialect of event streams, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn dialect() -> Arc<dyn crate::hub::Protocol> {
    Arc::new(EventStream)
}

/// Opens a stream, or says when to come back.
pub(super) async fn open(
    State(shared): State<Shared>,
    Extension(trace): Extension<Trace>,
    Extension(ConnectInfo(address)): Extension<ConnectInfo<SocketAddr>>,
    Extension(parameters): Extension<Parameters>,
    method: Method,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let unknown = parameters.check("/sse", &query);
    let answer = follow(&shared, &trace, address, &method, &headers, &query, unknown).await;
    answer.or_else(|refusal| come_back::instead_of(refusal, &headers, &shared.lifecycle))
}

async fn follow(
    shared: &Shared,
    trace: &Trace,
    address: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
    query: &Query,
    unknown: Result<()>,
) -> Answer {
    let services = &shared.services;
    let not_let_in = |error: &Error| services.not_let_in(address, Some(Transport::Sse), error);
    if let Some(departure) = shared.lifecycle.departure() {
        let error = Error::unavailable("the server is about to stop");
        return Err(error.retry_after(departure.come_back()).into());
    }
    if !origin::is_allowed(headers, &shared.allowed_origins.load()) {
        let text = "this origin may not connect (public.allowed_origins)";
        let error = Error::denied(text);
        not_let_in(&error);
        return Err(error.into());
    }
    let identity = identify(services, headers, query, address, trace.context())
        .await
        .inspect_err(not_let_in)?;
    let (wanted, ids) = wanted(headers, query)?;
    unknown?;
    if *method == Method::HEAD {
        return Ok(stream(Body::empty()));
    }
    let user = identity.user();
    if user.is_some_and(|user| !services.hub.user_has_room(user)) {
        let text = "too many connections of this user (limits.connections_per_user)";
        let error = Error::exhausted(text).retry_after(WHEN_FULL);
        not_let_in(&error);
        return Err(error.into());
    }
    let permit = services.hub.permit(address.ip()).inspect_err(not_let_in)?;
    let (pipe, shareable) = Pipe::new();
    let (tell, told) = oneshot::channel();
    let starting = Starting {
        services: Arc::clone(services),
        wanted,
        ids,
        shareable,
        tell,
        trace: trace.context().cloned(),
    };
    services.hub.open(Opening {
        link: Link::Pipe(pipe),
        protocol: Arc::new(EventStream),
        identity: Some(identity),
        address,
        permit,
        answer: Bytes::new(),
        early: Vec::new(),
        greeting: Box::new(move |cx| starting.begin(cx)),
        nonce: Hub::new_nonce(),
    });
    // Where nobody tells, the user had one connection too many after all.
    let lost = |_| {
        let text = "the connection was refused (limits.connections_per_user)";
        Error::exhausted(text).retry_after(WHEN_FULL)
    };
    let frames = told.await.map_err(lost)??;
    Ok(stream(Body::from_stream(frames)))
}

/// Who asks: `EventSource` can't send headers, so the token may stand in the query. Without one,
/// whoever may be anonymous is.
async fn identify(
    services: &Services,
    headers: &HeaderMap,
    query: &Query,
    address: SocketAddr,
    trace: Option<&TraceContext>,
) -> Result<Arc<Identity>> {
    let token = bearer(headers).map_err(|failure| services.verifier.refused(failure))?;
    let in_query = ["token", "access_token"];
    let in_query = || in_query.iter().find_map(|name| query.all(name).next());
    match token.or_else(in_query) {
        Some(token) => {
            let mut span = services.tracing.authenticate(trace);
            let identity = services.verifier.verify(token).await;
            identity.inspect_err(|error| span.set_error(error))
        }
        None if services.limits.load().auth_required => {
            Err(services.verifier.refused(AuthFailure::Missing))
        }
        None => Ok(Arc::new(Identity::anonymous_from(address.ip()))),
    }
}

/// What a request asks to follow, and from where.
fn wanted(headers: &HeaderMap, query: &Query) -> Result<(Subscribe, Ids)> {
    let channels: Vec<&str> = query.all("channel").collect();
    if channels.is_empty() {
        let expected = "expected one or more channels, as in ?channel=a&channel=b";
        return Err(Error::field("channel", expected));
    }
    let last = match headers.get("last-event-id") {
        Some(value) => value
            .to_str()
            .map_err(|_| Error::field("last_event_id", "expected an id as the server gave it"))?,
        None => query.text("last_event_id"),
    };
    let ids = Ids::parse(&channels, last)?;
    let rewind = query.number("rewind")?;
    let channels = channels
        .iter()
        .zip(ids.positions())
        .map(|(name, since)| Wanted {
            channel: (*name).to_owned(),
            since,
            // A position is better than a count.
            rewind: if since.is_some() { None } else { rewind },
        });
    let types = query.all("event_types").flat_map(|list| list.split(','));
    let wanted = Subscribe {
        channels: channels.collect(),
        event_types: types.map(str::to_owned).collect(),
        filter: query.text("filter").to_owned(),
        presence: query.flag("presence")?,
    };
    Ok((wanted, ids))
}

/// The head of every stream. Proxies must not hold events back.
fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

/// A stream that is about to be, on its way to its shard.
struct Starting {
    services: Arc<Services>,
    wanted: Subscribe,
    ids: Ids,
    shareable: Shareable,
    tell: oneshot::Sender<Result<Frames>>,
    trace: Option<TraceContext>,
}

impl Starting {
    /// Subscribes. The reading end is made here and goes with the answer: if the client has gone
    /// meanwhile, it is dropped, which ends the connection.
    fn begin(self, cx: &mut ConnCtx<'_>) {
        let Starting {
            services,
            wanted,
            mut ids,
            shareable,
            tell,
            trace,
        } = self;
        let identity = cx.identity().cloned().unwrap_or_default();
        let count = wanted.channels.len();
        let session = Session::new(Arc::clone(&services), identity, Some(cx.id()));
        cx.wait(session.subscribe(wanted), move |cx, request| {
            let request = match request {
                Ok(request) => request,
                Err(error) => return refuse(cx, tell, error),
            };
            let span = services.tracing.subscribe(cx.id(), count, trace.as_ref());
            cx.join(request, move |cx, joined, refused| {
                drop(span);
                services.note_refused(cx.identity(), cx.id(), &refused);
                if let (true, Some(first)) = (joined.is_empty(), refused.first()) {
                    return refuse(cx, tell, first.error.clone());
                }
                for refused in &refused {
                    cx.hub().metrics().error(refused.error.code());
                }
                ids.began(&joined);
                cx.send(dialect::subscribed(&ids, &joined, &refused));
                let reader = shareable.reader(Arc::clone(cx.hub()), cx.id());
                drop(tell.send(Ok(Frames { reader, ids })));
            });
        });
    }
}

/// Nothing can be followed: the request is answered with a status, and the connection is no more.
fn refuse(cx: &mut ConnCtx<'_>, tell: oneshot::Sender<Result<Frames>>, error: Error) {
    cx.close(CloseCode::for_code(error.code()), error.description());
    drop(tell.send(Err(error)));
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
