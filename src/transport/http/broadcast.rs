//! The body of a broadcast of the older systems: an event and its audience.
//!
//! Every member is used or refused by name. Members that name an audience are never treated as part
//! of the payload: an event for somebody must not go to everybody.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Members;
use crate::api;
use crate::error::{Error, Result};
use crate::event::{
    Audience, ChannelName, Conditions, ConnectionId, EventType, Headers, Payload, Timestamp,
    TraceContext, names_receivers, strict_json,
};
use crate::session::{Publish, Source};

/// The names of the member with the event's type; the first one that is present counts.
const TYPES: [&str; 3] = ["event_type", "type", "event"];
/// Members that name users, each a name or a list of names.
const USERS: [&str; 6] = [
    "user",
    "users",
    "user_id",
    "user_ids",
    "target_user",
    "target_users",
];
/// Members that name roles, of which a receiver needs one.
const ROLES: [&str; 4] = ["role", "roles", "target_role", "target_roles"];
/// Members that name roles which receivers must have.
const REQUIRED: [&str; 2] = ["required_role", "required_roles"];
/// Members that name connections, each an id or a list of ids.
const CONNECTIONS: [&str; 8] = [
    "connection",
    "connections",
    "connection_id",
    "connection_ids",
    "client_id",
    "client_ids",
    "target_connection",
    "target_connections",
];
/// Members that name connections which do not receive the event.
const EXCEPT: [&str; 2] = ["except_connections", "exclude_connections"];
/// Members that name channels, each a name or a list of names. In a flat broadcast only the first
/// one names a channel; the others are part of the payload.
const CHANNELS: [&str; 4] = ["channel", "channels", "room", "rooms"];
/// The members that name receivers.
static RECEIVERS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    [
        &["audience"][..],
        &USERS,
        &ROLES,
        &REQUIRED,
        &CONNECTIONS,
        &EXCEPT,
    ]
    .concat()
});
/// The members of a broadcast whose payload is its other members.
static FLAT: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let own = ["event_type", "type", "event", "channel"];
    [&own[..], &RECEIVERS].concat()
});
/// The members of a broadcast that has its payload under `data`.
static NAMED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let own = ["event_type", "type", "event", "data", "time", "timestamp"];
    [&own[..], &CHANNELS, &RECEIVERS].concat()
});
/// The members beside a `message`.
static BESIDE: LazyLock<Vec<&str>> =
    LazyLock::new(|| [&["message"][..], &CHANNELS, &RECEIVERS].concat());

/// Parses a broadcast: `{type, data}` with a channel and an audience; or flat, where all other
/// members are the payload's own; or either of them under `message`, next to the channel.
///
/// # Errors
///
/// `invalid_argument` with the invalid or unknown member.
pub(super) fn event(body: &[u8], trace: Option<&TraceContext>) -> Result<Publish> {
    let outer = Members::parse(body)?;
    let inner = match outer.raw("message") {
        Some(message) if kind(&outer)?.is_empty() && message.get().starts_with('{') => {
            outer.only(&BESIDE)?;
            Some(Members::parse(message.get().as_bytes())?)
        }
        _ => None,
    };
    let members = inner.as_ref().unwrap_or(&outer);
    let (payload, time) = match members.raw("data") {
        Some(data) => {
            members.only(&NAMED)?;
            (Payload::from_json(data)?, time(members)?)
        }
        None => (Payload::new(own_members(members)?, "")?, None),
    };
    let flat = members.raw("data").is_none();
    let channels = match &inner {
        None => channels(&outer, flat)?,
        Some(inner) => either("channel", channels(&outer, false)?, channels(inner, flat)?)?,
    };
    let audience = either(
        "audience",
        audience(&outer)?,
        inner.as_ref().map(audience).transpose()?.flatten(),
    )?;
    Ok(Publish {
        channels: channels.unwrap_or_default(),
        event_type: EventType::new(kind(members)?)?,
        payload,
        headers: Headers::default(),
        key: String::new(),
        idempotency_key: String::new(),
        audience,
        source: Source::Own,
        time,
        trace: trace.cloned(),
        ttl: None,
        conditions: Conditions::default(),
    })
}

/// A value next to a message or in it. If it is in both, the two must be equal.
fn either<T: PartialEq>(
    name: &'static str,
    beside: Option<T>,
    within: Option<T>,
) -> Result<Option<T>> {
    match (beside, within) {
        (Some(beside), Some(within)) if beside != within => {
            let text = "the message and what stands beside it say it differently";
            Err(Error::field(name, text))
        }
        (beside, within) => Ok(beside.or(within)),
    }
}

/// The event's type, under any of its names; empty if there is none.
fn kind<'a>(members: &Members<'a>) -> Result<Cow<'a, str>> {
    for name in TYPES {
        let kind = members.text(name)?;
        if !kind.is_empty() {
            return Ok(kind);
        }
    }
    Ok(Cow::Borrowed(""))
}

/// The channels; without any, the event is for everyone. Of `flat` members only `channel` names
/// one.
fn channels(members: &Members<'_>, flat: bool) -> Result<Option<Vec<ChannelName>>> {
    let named = if flat { &CHANNELS[..1] } else { &CHANNELS };
    let mut channels = Vec::new();
    for member in named {
        for name in names(members, &[*member])? {
            let channel = ChannelName::new(&*name)?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
    }
    Ok((!channels.is_empty()).then_some(channels))
}

/// The time of the event, if a broadcast with `data` has one. The older systems omitted the time
/// zone and meant UTC.
fn time(members: &Members<'_>) -> Result<Option<Timestamp>> {
    for name in ["time", "timestamp"] {
        let text = members.text(name)?;
        if !text.is_empty() {
            let time = Timestamp::parse(&text);
            let time = time.or_else(|| Timestamp::parse(&format!("{text}Z")));
            let wrong = || Error::field(name, "expected a time as in RFC 3339");
            return time.map(Some).ok_or_else(wrong);
        }
    }
    Ok(None)
}

/// The audience; `None` means everyone.
fn audience(members: &Members<'_>) -> Result<Option<Audience>> {
    let users = names(members, &USERS)?;
    let mut roles = names(members, &ROLES)?;
    let connections = self::connections(members, &CONNECTIONS)?;
    let except_connections = self::connections(members, &EXCEPT)?;
    // An empty list requires no role.
    let required =
        REQUIRED.map(|name| (name, members.raw(name).is_some_and(|raw| raw.get() != "[]")));
    for (name, _) in required.into_iter().filter(|(_, given)| *given) {
        let required = names(members, &[name])?;
        if required.is_empty() {
            continue;
        }
        if !users.is_empty() || !connections.is_empty() || !roles.is_empty() {
            let text = "an event goes to users or to roles: users of a role can't be told apart";
            return Err(Error::field("required_roles", text));
        }
        roles = required;
    }
    let own = Audience {
        users,
        roles,
        connections,
        except_connections,
    };
    let own = (own != Audience::default()).then_some(own);
    let given: Option<api::Audience> = members.take("audience", api::Audience::EXPECTED)?;
    either(
        "audience",
        own,
        given.map(api::Audience::checked).transpose()?,
    )
}

/// The connections in any of these members.
fn connections(members: &Members<'_>, of: &[&'static str]) -> Result<Vec<ConnectionId>> {
    let mut found = Vec::new();
    for member in of {
        for name in names(members, &[*member])? {
            let wrong = || Error::field(*member, "expected a connection id as the server gave it");
            found.push(name.parse().map_err(|_| wrong())?);
        }
    }
    Ok(found)
}

/// The most names in one member.
fn most_of(member: &str) -> usize {
    if ROLES.contains(&member) || REQUIRED.contains(&member) {
        Audience::MAX_ROLES
    } else {
        Audience::MAX_NAMES
    }
}

/// The names in any of these members: texts, or whole numbers, since many systems number their
/// users.
fn names(members: &Members<'_>, of: &[&'static str]) -> Result<Vec<Arc<str>>> {
    const EXPECTED: &str = "expected a name or a list of names; leave it out for everybody, \
                            and put a payload that has such a member under data";
    let mut found: Vec<Arc<str>> = Vec::new();
    for name in of {
        let wrong = || Error::field(*name, EXPECTED);
        let Some(raw) = members.raw(name).filter(|raw| raw.get() != "null") else {
            continue;
        };
        let listed: Vec<&RawValue> = if raw.get().starts_with('[') {
            serde_json::from_str(raw.get()).map_err(|_| wrong())?
        } else {
            vec![raw]
        };
        let most = most_of(name);
        if listed.len() > most {
            return Err(Error::field(
                *name,
                format!("expected at most {most} names"),
            ));
        }
        // An empty list names no one. It must not be treated as everyone.
        if listed.is_empty() {
            return Err(wrong());
        }
        for one in listed {
            let one = strict_json::identifier(one).filter(|one| !one.is_empty());
            found.push(one.ok_or_else(wrong)?.into());
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The members of a flat broadcast that do not belong to the envelope, as an object in the order of
/// their names.
fn own_members(members: &Members<'_>) -> Result<Bytes> {
    let own: BTreeMap<&str, _> = members
        .iter()
        .filter(|(name, _)| !FLAT.contains(name))
        .collect();
    if let Some(name) = own.keys().find(|name| names_receivers(name)) {
        let text = "it seems to name receivers, but is not supported; put a payload with such a member under data";
        return Err(Error::field((*name).to_owned(), text));
    }
    let members: Vec<String> = own
        .into_iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name), value.get()))
        .collect();
    Ok(format!("{{{}}}", members.join(",")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &str) -> Publish {
        event(body.as_bytes(), None).unwrap()
    }

    fn refused(body: &str) -> String {
        let error = event(body.as_bytes(), None).unwrap_err();
        error.field_name().unwrap_or_default().to_owned()
    }

    /// The receivers of a broadcast with these members.
    fn receivers(members: &str) -> (Vec<String>, Vec<String>) {
        let texts = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
        let flat = taken(&format!(r#"{{"type":"a.b","n":1,{members}}}"#));
        assert_eq!(flat.payload.data(), r#"{"n":1}"#, "{members}");
        let named = taken(&format!(r#"{{"type":"a.b","data":1,{members}}}"#));
        let within = taken(&format!(
            r#"{{"message":{{"type":"a.b","n":1,{members}}}}}"#
        ));
        let beside = taken(&format!(
            r#"{{"message":{{"type":"a.b","n":1}},{members}}}"#
        ));
        for other in [named, within, beside] {
            assert_eq!(other.audience, flat.audience, "{members}");
        }
        let audience = flat.audience.unwrap();
        (texts(&audience.users), texts(&audience.roles))
    }

    #[test]
    fn flat_broadcast_keeps_its_members() {
        let flat =
            taken(r#"{"type":"job_progress","channel":"jobs","progress":1.50,"job_id":"7"}"#);
        assert_eq!(flat.payload.data(), r#"{"job_id":"7","progress":1.50}"#);
        assert_eq!(flat.channels, [ChannelName::new("jobs").unwrap()]);
        assert_eq!(flat.audience, None);
    }

    #[test]
    fn flat_broadcast_accepts_channel_next_to_message() {
        let inner = r#"{"type":"job_failed","user":"ann","error":"e"}"#;
        let event = taken(&format!(r#"{{"message":{inner},"channel":"jobs"}}"#));
        assert_eq!(event.event_type.as_str(), "job_failed");
        assert_eq!(event.payload.data(), r#"{"error":"e"}"#);
        assert_eq!(event.channels, [ChannelName::new("jobs").unwrap()]);
        assert_eq!(&*event.audience.unwrap().users[0], "ann", "and nobody else");
        let event = taken(r#"{"type":"system_alert","message":{"type":"x"}}"#);
        assert_eq!(event.event_type.as_str(), "system_alert");
        assert_eq!(event.payload.data(), r#"{"message":{"type":"x"}}"#);
        assert!(super::event(br#"{"message":"hello"}"#, None).is_err());
    }

    #[test]
    fn receiver_members_count_in_every_form() {
        for name in USERS {
            for value in [r#""ann""#, r#"["ann"]"#] {
                let (users, roles) = receivers(&format!("\"{name}\":{value}"));
                assert_eq!((users, roles), (vec!["ann".into()], vec![]), "{name}");
            }
        }
        for name in ROLES.iter().chain(&REQUIRED) {
            let (users, roles) = receivers(&format!("\"{name}\":[\"ops\"]"));
            assert_eq!((users, roles), (vec![], vec!["ops".into()]), "{name}");
        }
        let both = receivers(r#""user":"ann","roles":["ops"]"#);
        assert_eq!(both, (vec!["ann".into()], vec!["ops".into()]));
        let object = receivers(r#""audience":{"users":["ann"]}"#);
        assert_eq!(object, (vec!["ann".into()], vec![]));
    }

    #[test]
    fn unsupported_receivers_are_refused() {
        let table = [
            (r#""users":[]"#, "users"),
            (r#""user":"""#, "user"),
            (r#""roles":true"#, "roles"),
            (r#""user":1.5"#, "user"),
            (r#""users":{"a":1}"#, "users"),
            (r#""recipients":["ann"]"#, "recipients"),
            (r#""targetUser":"ann""#, "targetUser"),
            (r#""connection_id":"x""#, "connection_id"),
            (r#""user":"ann","required_roles":["ops"]"#, "required_roles"),
            (r#""user":"ann","audience":{"users":["bob"]}"#, "audience"),
            (r#""audience":{"user":"ann"}"#, "audience"),
        ];
        for (members, name) in table {
            for form in ["\"n\":1", "\"data\":1"] {
                let body = format!(r#"{{"type":"a.b",{form},{members}}}"#);
                assert_eq!(refused(&body), name, "{body}");
                let body = format!(r#"{{"message":{body}}}"#);
                assert_eq!(refused(&body), name, "{body}");
            }
            let body = format!(r#"{{"message":{{"type":"a.b"}},{members}}}"#);
            assert_eq!(refused(&body), name, "{body}");
        }
    }

    #[test]
    fn broadcast_takes_numbers_connections_and_rooms() {
        let numbers = receivers(r#""user_ids":[7,"ann"]"#);
        assert_eq!(numbers, (vec!["7".into(), "ann".into()], vec![]));
        let id = ConnectionId::new(1, 2, 3);
        let one = taken(&format!(r#"{{"type":"a","data":1,"client_id":"{id}"}}"#));
        assert_eq!(one.audience.unwrap().connections, [id]);
        let others = taken(&format!(
            r#"{{"type":"a","data":1,"exclude_connections":["{id}"]}}"#
        ));
        let others = others.audience.unwrap();
        assert!(others.is_everyone());
        assert_eq!(others.except_connections, [id]);
        let rooms = taken(r#"{"event":"a","data":1,"rooms":["a","b","a"]}"#);
        let expected = ["a", "b"].map(|name| ChannelName::new(name).unwrap());
        assert_eq!(rooms.channels, expected);
        let beside = taken(r#"{"message":{"type":"a","n":1},"room":"a"}"#);
        assert_eq!(beside.channels, expected[..1]);
        // Without `data`, `room` is part of the payload.
        let flat = taken(r#"{"type":"a","room":"kitchen"}"#);
        assert_eq!(flat.payload.data(), r#"{"room":"kitchen"}"#);
        assert!(flat.channels.is_empty());
    }

    #[test]
    fn absent_targets_of_a_dumped_model_address_everybody() {
        let dumped = r#"{"type":"a","data":1,"target_users":null,"target_connections":null,
                         "required_roles":[],"channel":null}"#;
        assert_eq!(taken(dumped).audience, None);
    }

    #[test]
    fn unknown_member_beside_data_is_refused() {
        assert_eq!(
            refused(r#"{"type":"a","data":1,"chanel":"jobs"}"#),
            "chanel"
        );
        assert_eq!(refused(r#"{"type":"a","data":1,"key":"k"}"#), "key");
        assert_eq!(
            refused(r#"{"message":{"type":"a"},"place":"jobs"}"#),
            "place"
        );
        let twice = r#"{"message":{"type":"a","channel":"a"},"channel":"b"}"#;
        assert_eq!(refused(twice), "channel");
    }

    #[test]
    fn time_without_zone_is_utc() {
        for text in ["2026-11-21T10:00:00.5", "2026-11-21T10:00:00.5Z"] {
            let event = taken(&format!(r#"{{"type":"a","data":1,"timestamp":"{text}"}}"#));
            assert_eq!(event.time, Timestamp::parse("2026-11-21T10:00:00.5Z"));
        }
        assert_eq!(
            refused(r#"{"type":"a","data":1,"timestamp":"now"}"#),
            "timestamp"
        );
    }
}
