//! What the bus says to a connection, as JSON: the words are the same in every text dialect.

use serde_json::{Map, Value, json};

use super::protocol::{Joined, Notice, Refused};
use crate::error::Error;

/// What a notice is called.
#[must_use]
pub fn notice_name(notice: &Notice<'_>) -> &'static str {
    match notice {
        Notice::Gap { .. } => "gap",
        Notice::Renumbered { .. } => "subscribed",
        Notice::Presence { joined: true, .. } => "presence_joined",
        Notice::Presence { joined: false, .. } => "presence_left",
        Notice::TokenExpiring { .. } => "token_expiring",
        Notice::Reconnect { .. } => "reconnect",
        Notice::Failure(_) => "error",
        Notice::Unsubscribed { .. } => "unsubscribed",
    }
}

/// The members of a notice.
#[must_use]
pub fn notice(notice: &Notice<'_>) -> Value {
    match notice {
        Notice::Gap {
            channel,
            from,
            to,
            reason,
        } => json!({ "channel": channel, "from": from, "to": to, "reason": reason }),
        Notice::Renumbered { channel, position } => {
            let joined = Joined {
                channel: (*channel).to_owned(),
                position: Some(*position),
                recovered: false,
                replayed: 0,
            };
            subscribed(&[joined], &[])
        }
        Notice::Presence { channel, user, .. } => json!({ "channel": channel, "user": user }),
        Notice::TokenExpiring { expires_at } => json!({ "expires_at": expires_at.to_rfc3339() }),
        Notice::Reconnect { after_ms, reason } => {
            json!({ "after_ms": after_ms, "reason": reason })
        }
        Notice::Failure(failure) => error(failure),
        Notice::Unsubscribed { channel, error } => {
            let (code, message) = (error.code().as_str(), error.message());
            let reason = json!({ "code": code, "message": message });
            json!({ "channels": [channel], "reason": reason })
        }
    }
}

/// The members of an `error` message.
#[must_use]
pub fn error(error: &Error) -> Value {
    let mut body = Map::new();
    body.insert("code".into(), error.code().as_str().into());
    body.insert("message".into(), error.message().into());
    if let Some(field) = error.field_name() {
        let mut details = json!({ "field": field, "expected": error.description() });
        let places = error
            .wrong_places()
            .iter()
            .map(|(path, expected)| json!({ "path": path, "message": expected }));
        let places: Vec<Value> = places.collect();
        if let (false, Some(details)) = (places.is_empty(), details.as_object_mut()) {
            details.insert("errors".into(), places.into());
        }
        body.insert("details".into(), details);
    }
    if let Some(wait) = error.retry_delay() {
        let millis = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        body.insert("retry_after_ms".into(), millis.into());
    }
    Value::Object(body)
}

/// The members of a `subscribed` message.
#[must_use]
pub fn subscribed(joined: &[Joined], refused: &[Refused]) -> Value {
    let channels = joined.iter().map(|joined| {
        let mut entry = json!({
            "channel": joined.channel,
            "recovered": joined.recovered,
            "replayed": joined.replayed,
        });
        if let (Some(position), Some(entry)) = (joined.position, entry.as_object_mut()) {
            entry.insert("epoch".into(), position.epoch.to_string().into());
            entry.insert("offset".into(), position.offset.into());
        }
        entry
    });
    let errors = refused.iter().map(|refused| {
        json!({
            "channel": refused.channel,
            "code": refused.error.code().as_str(),
            "message": refused.error.message(),
        })
    });
    json!({ "channels": channels.collect::<Vec<_>>(), "errors": errors.collect::<Vec<_>>() })
}
