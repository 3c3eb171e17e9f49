//! Channels: the list, their history, and their presence.

use bytes::{BufMut, Bytes, BytesMut};
use http::Uri;
use serde_json::{Value, json};

use super::caller::Caller;
use super::connections::at_position;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::{ChannelOrder, ChannelsQuery, parse_order};
use crate::broker::Purge;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Position, Timestamp, json as event_json};
use crate::session::{HistoryPage, HistoryQuery};

/// The path of one channel, before its name.
const ONE: &str = "/api/v1/channels/";
/// The default number of events of a history page.
const DEFAULT_LIMIT: u32 = 100;

/// `GET /api/v1/channels`: a page of channels, by name.
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
    let (channels, next) = viewer.channels(&asked).await?;
    let channels = channels.iter().map(|channel| {
        let mut entry = at_position(channel.channel.as_str(), channel.position);
        if let Some(entry) = entry.as_object_mut() {
            let last = channel.last_event_at.map(Timestamp::to_rfc3339);
            let more = [
                ("subscribers", json!(channel.subscribers)),
                ("rate", json!(channel.rate)),
                ("last_event_at", json!(last)),
                ("history_events", json!(channel.history_events)),
                ("history_bytes", json!(channel.history_bytes)),
                ("users", json!(channel.users)),
            ];
            entry.extend(more.map(|(name, value)| (name.to_owned(), value)));
        }
        entry
    });
    let channels: Vec<Value> = channels.collect();
    reply::json(&json!({ "channels": channels, "next_page_token": next }))
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

/// `DELETE /api/v1/channels/{channel}/history`: purges events.
pub(super) async fn purge(caller: Caller, uri: Uri, query: Query) -> Answer {
    let session = caller.service()?;
    let channel = match uri.path().rsplit_once('/') {
        Some((_, "history")) => channel_in(&uri, "/history")?,
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
    let mut answer = at_position(channel.as_str(), purged.top);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("purged".to_owned(), purged.events.into());
    }
    reply::json(&answer)
}

fn channel_in(uri: &Uri, after: &str) -> Result<ChannelName> {
    ChannelName::new(name_in_path(uri, ONE, after)?)
}

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

async fn presence(caller: &Caller, uri: &Uri) -> Answer {
    let session = caller.reader()?;
    let channel = channel_in(uri, "/presence")?;
    let present = session.presence(&channel).await?;
    let users = present
        .users
        .iter()
        .map(|(user, connections)| json!({ "user": &**user, "connections": connections }));
    reply::json(&json!({
        "channel": channel.as_str(),
        "users": users.collect::<Vec<_>>(),
        "total": present.total,
    }))
}
