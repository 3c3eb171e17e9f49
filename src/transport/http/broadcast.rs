//! The body of a broadcast of the older systems: an event and its audience.
//!
//! Every member is used or is refused by its name. Members that name an audience are never taken for a
//! part of the payload: what was meant for somebody must not go to everybody.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::body::Members;
use crate::api;
use crate::error::{Error, Result};
use crate::event::{
    Audience, ChannelName, EventType, Headers, Payload, Timestamp, TraceContext, names_receivers,
};
use crate::session::{Publish, Source};

/// The names that the event's type has; the first one that is there counts.
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
/// Members that name roles, one of which is enough.
const ROLES: [&str; 4] = ["role", "roles", "target_role", "target_roles"];
/// Members that name roles which receivers must have.
const REQUIRED: [&str; 2] = ["required_role", "required_roles"];
/// The members of a broadcast that has its payload under `data`.
static NAMED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let own = [
        "event_type",
        "type",
        "event",
        "channel",
        "data",
        "time",
        "timestamp",
        "audience",
    ];
    [&own[..], &USERS, &ROLES, &REQUIRED].concat()
});
/// The members beside a `message`.
static BESIDE: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let own = ["message", "channel", "audience"];
    [&own[..], &USERS, &ROLES, &REQUIRED].concat()
});

/// Takes a broadcast: `{type, data}` with a channel and an audience; or flat, where all other
/// members are the payload's own; or either of them under `message`, beside the channel.
///
/// # Errors
/// `invalid_argument` naming the member that is wrong, or that is none.
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
    let channel = either(
        "channel",
        channel(&outer)?,
        inner.as_ref().map(channel).transpose()?.flatten(),
    )?;
    let audience = either(
        "audience",
        audience(&outer)?,
        inner.as_ref().map(audience).transpose()?.flatten(),
    )?;
    Ok(Publish {
        channels: channel.into_iter().collect(),
        event_type: EventType::new(kind(members)?)?,
        payload,
        headers: Headers::default(),
        key: String::new(),
        idempotency_key: String::new(),
        audience,
        source: Source::Own,
        time,
        trace: trace.cloned(),
    })
}

/// What is said beside a message or in it, but not differently in both.
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

/// The event's type, by any of the names that it had; empty where there is none.
fn kind<'a>(members: &Members<'a>) -> Result<Cow<'a, str>> {
    for name in TYPES {
        let kind = members.text(name)?;
        if !kind.is_empty() {
            return Ok(kind);
        }
    }
    Ok(Cow::Borrowed(""))
}

fn channel(members: &Members<'_>) -> Result<Option<ChannelName>> {
    match &*members.text("channel")? {
        "" => Ok(None),
        name => Ok(Some(ChannelName::new(name)?)),
    }
}

/// When it happened, where a broadcast with `data` says so. The older systems left out the zone
/// and meant UTC.
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

/// The audience; `None` is everybody.
fn audience(members: &Members<'_>) -> Result<Option<Audience>> {
    let users = names(members, &USERS)?;
    let mut roles = names(members, &ROLES)?;
    let required = names(members, &REQUIRED)?;
    if !required.is_empty() {
        if !users.is_empty() || !roles.is_empty() {
            let text = "an event goes to users or to roles: users of a role can't be told apart";
            return Err(Error::field("required_roles", text));
        }
        roles = required;
    }
    let own = Audience {
        users,
        roles,
        ..Audience::default()
    };
    let own = (!own.is_everyone()).then_some(own);
    let given: Option<api::Audience> = members.take("audience", api::Audience::EXPECTED)?;
    either(
        "audience",
        own,
        given.map(api::Audience::checked).transpose()?,
    )
}

/// A name, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(Arc<str>),
    Several(Vec<Arc<str>>),
}

/// The most names in one of these members.
fn most_of(member: &str) -> usize {
    if USERS.contains(&member) {
        Audience::MAX_NAMES
    } else {
        Audience::MAX_ROLES
    }
}

/// The names in any of these members.
fn names(members: &Members<'_>, of: &[&'static str]) -> Result<Vec<Arc<str>>> {
    const EXPECTED: &str = "expected a name or a list of names; leave it out for everybody, \
                            and put a payload that has such a member under data";
    let mut found: Vec<Arc<str>> = Vec::new();
    for name in of {
        let names = match members.take(name, EXPECTED)? {
            None => continue,
            Some(Names::One(one)) => vec![one],
            Some(Names::Several(several)) => several,
        };
        // An empty list names nobody: it must not become everybody.
        if names.is_empty() || names.iter().any(|name| name.is_empty()) {
            return Err(Error::field(*name, EXPECTED));
        }
        let most = most_of(name);
        if names.len() > most {
            return Err(Error::field(
                *name,
                format!("expected at most {most} names"),
            ));
        }
        found.extend(names);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The members of a flat broadcast that are not the envelope's, as an object in the order of their
/// names.
fn own_members(members: &Members<'_>) -> Result<Bytes> {
    let own: BTreeMap<&str, _> = members
        .iter()
        .filter(|(name, _)| !NAMED.contains(name) || matches!(*name, "time" | "timestamp"))
        .collect();
    if let Some(name) = own.keys().find(|name| names_receivers(name)) {
        let text = "it says for whom an event is, and is not known here; \
                    put a payload that has such a member under data";
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

    /// Whom a broadcast with these members is for.
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
    fn a_flat_broadcast_carries_its_own_members() {
        let flat =
            taken(r#"{"type":"job_progress","channel":"jobs","progress":1.50,"job_id":"7"}"#);
        assert_eq!(flat.payload.data(), r#"{"job_id":"7","progress":1.50}"#);
        assert_eq!(flat.channels, [ChannelName::new("jobs").unwrap()]);
        assert_eq!(flat.audience, None);
    }

    #[test]
    fn a_flat_broadcast_may_stand_beside_its_channel() {
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
    fn every_name_of_a_receiver_counts_in_every_form() {
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
    fn receivers_that_cannot_be_honoured_are_refused_in_every_form() {
        let table = [
            (r#""users":[]"#, "users"),
            (r#""user":"""#, "user"),
            (r#""roles":5"#, "roles"),
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
    fn a_member_that_is_none_is_refused_beside_data() {
        assert_eq!(
            refused(r#"{"type":"a","data":1,"chanel":"jobs"}"#),
            "chanel"
        );
        assert_eq!(refused(r#"{"type":"a","data":1,"key":"k"}"#), "key");
        assert_eq!(refused(r#"{"message":{"type":"a"},"room":"jobs"}"#), "room");
        let twice = r#"{"message":{"type":"a","channel":"a"},"channel":"b"}"#;
        assert_eq!(refused(twice), "channel");
    }

    #[test]
    fn a_time_without_a_zone_is_in_utc() {
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
