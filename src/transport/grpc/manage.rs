//! What services do to channels, to the subscriptions of others, and with cursors.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::messages;
use super::rpc_context::Call;
use crate::admin::page_size_of;
use crate::broker::{CursorKey, CursorQuery, Purge};
use crate::error::{Error, Result};
use crate::event::ChannelName;
use crate::proto::{
    AckRequest, AckResponse, Cursor, GetCursorsRequest, GetCursorsResponse, PurgeHistoryRequest,
    PurgeHistoryResponse, SubscribeUserRequest, SubscribeUserResponse, UnsubscribeUserRequest,
    UnsubscribeUserResponse,
};
use crate::session::GrantRequest;

pub(super) async fn purge(call: Call<PurgeHistoryRequest>) -> Result<PurgeHistoryResponse> {
    let Call {
        session, message, ..
    } = call;
    session.check_service()?;
    let channel = ChannelName::new(&message.channel)?;
    let purge = Purge {
        until: message.until_offset,
        user: (!message.user.is_empty()).then(|| message.user.into()),
    };
    let purged = session.purge(&channel, purge).await?;
    Ok(PurgeHistoryResponse {
        purged: purged.events,
        position: purged.top.map(messages::position),
    })
}

pub(super) async fn subscribe(call: Call<SubscribeUserRequest>) -> Result<SubscribeUserResponse> {
    let message = call.message;
    let request = GrantRequest {
        user: message.user,
        connection: message.connection_id,
        channels: message.channels,
        event_types: message.event_types,
        filter: message.filter,
    };
    let connections = call.session.subscribe_other(request).await?;
    Ok(SubscribeUserResponse { connections })
}

pub(super) async fn unsubscribe(
    call: Call<UnsubscribeUserRequest>,
) -> Result<UnsubscribeUserResponse> {
    let message = call.message;
    let request = GrantRequest {
        user: message.user,
        connection: message.connection_id,
        channels: message.channels,
        ..GrantRequest::default()
    };
    let connections = call.session.unsubscribe_other(request).await?;
    Ok(UnsubscribeUserResponse { connections })
}

pub(super) async fn ack(call: Call<AckRequest>) -> Result<AckResponse> {
    let Call {
        session, message, ..
    } = call;
    let channel = ChannelName::new(&message.channel)?;
    let own = session
        .identity()
        .user()
        .is_some_and(|user| **user == *message.user);
    let acknowledged = if message.user.is_empty() || own {
        session.ack(&message.durable, &channel, message.offset)
    } else {
        session.ack_of(&message.user, &message.durable, &channel, message.offset)
    };
    acknowledged.await?;
    Ok(AckResponse {})
}

pub(super) async fn cursors(call: Call<GetCursorsRequest>) -> Result<GetCursorsResponse> {
    let Call {
        session, message, ..
    } = call;
    session.check_service()?;
    let limit = page_size_of(message.page_size)?;
    let text = |text: String| (!text.is_empty()).then(|| text.into());
    let query = CursorQuery {
        channel: match message.channel.as_str() {
            "" => None,
            channel => Some(ChannelName::new(channel)?),
        },
        user: text(message.user),
        name: text(message.durable),
        after: page_token(&message.page_token)?,
        // One more tells whether there is another page.
        limit: limit + 1,
    };
    let mut found = session.cursors(query).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    Ok(GetCursorsResponse {
        next_page_token: last.map(|(key, _)| token_of(key)).unwrap_or_default(),
        cursors: found
            .into_iter()
            .map(|(key, cursor)| Cursor {
                user: key.user.to_string(),
                durable: key.name.to_string(),
                channel: key.channel.to_string(),
                position: Some(messages::position(cursor.position)),
                used_at: Some(messages::timestamp(cursor.used_at)),
            })
            .collect(),
    })
}

fn token_of(key: &CursorKey) -> String {
    let text = format!("{}\0{}\0{}", key.user, key.name, key.channel);
    BASE64.encode(text)
}

fn page_token(token: &str) -> Result<Option<CursorKey>> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::field("page_token", "expected a token as the server gave it");
    let text = BASE64.decode(token).map_err(|_| wrong())?;
    let text = String::from_utf8(text).map_err(|_| wrong())?;
    let mut parts = text.split('\0');
    let (Some(user), Some(name), Some(channel), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    Ok(Some(CursorKey {
        user: user.into(),
        name: name.into(),
        channel: ChannelName::new(channel).map_err(|_| wrong())?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_token_names_the_last_cursor() {
        let key = CursorKey {
            user: "ann".into(),
            name: "inbox".into(),
            channel: ChannelName::new("a:1").unwrap(),
        };
        assert_eq!(page_token(&token_of(&key)).unwrap(), Some(key));
        assert_eq!(page_token("").unwrap(), None);
        assert!(page_token("%").is_err() && page_token("AAAA").is_err());
    }
}
