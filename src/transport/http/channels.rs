//! Channels: the list, their history, and their presence.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode, Uri};

use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::{ChannelOrder, ChannelsQuery, parse_order};
use crate::api::refusals::{BadRequest, Guarded};
use crate::api::{self, ChannelsParams, HistoryParams, PurgeParams};
use crate::broker::Purge;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Position, json as event_json};
use crate::session::{HistoryPage, HistoryQuery};

/// The path of one channel, before its name.
const ONE: &str = "/api/v1/channels/";
/// The default number of events of a history page.
const DEFAULT_LIMIT: u32 = 100;

/// Lists channels
#[utoipa::path(
    get,
    path = "/api/v1/channels",
    tag = "channels",
    operation_id = "listChannels",
    params(ChannelsParams),
    responses((status = 200, description = "Done.", body = api::ChannelPage), BadRequest, Guarded),
)]
pub(super) async fn list(caller: Caller, query: Query) -> Answer {
    let viewer = caller.viewer()?;
    let asked = ChannelsQuery {
        prefix: query.text("prefix").to_owned(),
        order: parse_order(
            query.text("order_by"),
            query.flag("desc")?,
            ChannelOrder::ALL,
        )?,
        page_size: query.number("page_size")?.unwrap_or_default(),
        page_token: query.text("page_token").to_owned(),
    };
    let (channels, next_page_token) = viewer.channels(&asked).await?;
    reply::json(&api::ChannelPage {
        channels: channels.iter().map(Into::into).collect(),
        next_page_token,
    })
}

/// `GET /api/v1/channels/{channel}/history` and `/presence`. A channel's name may contain slashes,
/// so the last part of the path decides.
pub(super) async fn show(caller: Caller, uri: Uri, query: Query) -> Answer {
    match uri.path().rsplit_once('/') {
        Some((_, "history")) => history(&caller, &uri, &query).await,
        Some((_, "presence")) => presence(&caller, &uri).await,
        _ => Err(Error::not_found("a channel has /history and /presence").into()),
    }
}

/// Purges history
///
/// Removes events from the channel's history. The channel's position does not change.
#[utoipa::path(
    delete,
    path = "/api/v1/channels/{channel}/history",
    tag = "channels",
    operation_id = "purgeHistory",
    params(
        ("channel" = String, Path, pattern = "^[A-Za-z0-9_.:@/~-]{1,255}$",
            description = "The channel's name; it may contain `/`."),
        PurgeParams,
    ),
    responses((status = 200, description = "Done.", body = api::Purged), BadRequest, Guarded),
)]
pub(super) async fn purge(caller: Caller, uri: Uri, query: Query) -> Answer {
    let session = caller.service()?;
    let channel = match uri.path().rsplit_once('/') {
        Some((_, "history")) => channel_in(&uri, "/history")?,
        Some((_, "presence")) => return Err(reply::not_allowed().await),
        _ => return Err(Error::not_found("only /history can be deleted").into()),
    };
    let until = query.all("until_offset").next();
    let wrong = |_| Error::field("until_offset", "expected a whole number");
    let user = query.text("user");
    let purge = Purge {
        until: until.map(|text| text.parse().map_err(wrong)).transpose()?,
        user: (!user.is_empty()).then(|| user.into()),
    };
    let purged = session.purge(&channel, purge).await?;
    reply::json(&api::Purged::new(&channel, purged))
}

/// Sets `Allow` for a channel's presence, which has fewer methods than its history. Both are one route, and
/// axum adds the route's methods unless there is an `Allow` already.
pub(super) async fn allow(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_presence = path.starts_with(ONE) && path.ends_with("/presence");
    let is_options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if is_presence && (is_options || response.status() == StatusCode::METHOD_NOT_ALLOWED) {
        let methods = HeaderValue::from_static("GET,HEAD");
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

fn channel_in(uri: &Uri, after: &str) -> Result<ChannelName> {
    ChannelName::new(name_in_path(uri, ONE, after)?)
}

/// Reads history
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/history",
    tag = "channels",
    operation_id = "getHistory",
    params(
        ("channel" = String, Path, pattern = "^[A-Za-z0-9_.:@/~-]{1,255}$",
            description = "The channel's name; it may contain `/`."),
        HistoryParams,
    ),
    responses((status = 200, description = "Done.", body = api::History), BadRequest, Guarded),
)]
async fn history(caller: &Caller, uri: &Uri, query: &Query) -> Answer {
    let session = caller.reader()?;
    let channel = channel_in(uri, "/history")?;
    let limit = query.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    let since = query.all("since").next();
    let asked = HistoryQuery {
        channel: channel.clone(),
        since: since.map(str::parse).transpose()?,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        reverse: query.flag("reverse")?,
    };
    let page = session.history(asked).await?;
    Ok(reply::json_text(page_json(&channel, &page)))
}

/// The events have the same form as on every transport, each with its payload byte for byte.
fn page_json(channel: &ChannelName, page: &HistoryPage) -> Bytes {
    let Position { epoch, offset } = page.top;
    let sizes = page.events.iter().map(|event| event_json::size(event));
    let mut out = BytesMut::with_capacity(sizes.sum::<usize>() + 512);
    // A channel's name and an epoch need no escaping.
    let head = format!(r#"{{"channel":"{channel}","epoch":"{epoch}","offset":{offset},"#);
    out.put_slice(head.as_bytes());
    if let Some(next) = page.next {
        out.put_slice(format!(r#""next_since":"{next}","#).as_bytes());
    }
    out.put_slice(br#""events":["#);
    for (at, event) in page.events.iter().enumerate() {
        if at > 0 {
            out.put_slice(b",");
        }
        event_json::write(&mut out, event);
    }
    out.put_slice(b"]}");
    out.freeze()
}

/// Shows who is present
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/presence",
    tag = "channels",
    operation_id = "getPresence",
    params(
        ("channel" = String, Path, pattern = "^[A-Za-z0-9_.:@/~-]{1,255}$",
            description = "The channel's name; it may contain `/`."),
    ),
    responses((status = 200, description = "Done.", body = api::Presence), BadRequest, Guarded),
)]
async fn presence(caller: &Caller, uri: &Uri) -> Answer {
    let session = caller.reader()?;
    let channel = channel_in(uri, "/presence")?;
    let present = session.presence(&channel).await?;
    reply::json(&api::Presence::new(&channel, &present))
}
