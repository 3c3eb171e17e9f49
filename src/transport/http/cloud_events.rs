//! CloudEvents 1.0 over HTTP: structured, binary and batched.
//!
//! | CloudEvent | event |
//! |---|---|
//! | `type`, `time`, `datacontenttype` | the same |
//! | `source` | the same for services; for others a header, as they may not name one |
//! | `data`, `data_base64`, or the body | the payload |
//! | the extension `channel`, else `subject` | the channel; `global` if there is neither |
//! | `source` and `id` | the idempotency key: together they name an event (CloudEvents §3.1.1) |
//! | extensions that name an audience, such as `audience` | refused |
//! | other attributes and extensions | headers |

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Members;
use super::events::{from_base64, time};
use super::query::decode;
use crate::error::{Error, Result};
use crate::event::strict_json::{self, Flaw};
use crate::event::{
    ChannelName, Conditions, EventType, Headers, Payload, TraceContext, names_receivers,
};
use crate::session::{Publish, Source};

/// The most events of one batch.
const MAX_BATCH: usize = 1000;
/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;
/// Attributes with string values (CloudEvents §3.1 and §3.2).
const TEXTS: [&str; 9] = [
    "id",
    "type",
    "source",
    "specversion",
    "time",
    "subject",
    "channel",
    "traceparent",
    "tracestate",
];
/// The prefix of headers in the binary mode.
const PREFIX: &str = "ce-";

/// An attribute: its name and its value.
struct Attribute {
    name: String,
    value: String,
}

/// True if a request is a CloudEvent in the binary mode.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    let telling = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
    telling.iter().any(|name| headers.contains_key(*name))
}

/// Parses a CloudEvent in the structured mode (JSON event format §3).
///
/// # Errors
///
/// `invalid_argument` with the invalid attribute.
pub(super) fn structured(json: &[u8]) -> Result<Publish> {
    let members = Members::parse(json)?;
    let content_type = members.text("datacontenttype")?;
    let payload = match (members.raw("data"), members.raw("data_base64")) {
        (Some(_), Some(_)) => {
            let expected = "expected either data or data_base64";
            return Err(Error::field("data_base64", expected));
        }
        (None, Some(_)) => {
            Payload::new(from_base64(&members.text("data_base64")?)?, &content_type)?
        }
        (Some(data), None) => payload_of(data, &content_type)?,
        (None, None) => {
            // The attribute must be a media type even without data.
            Payload::new(Bytes::from_static(b"null"), &content_type)?;
            nothing()?
        }
    };
    let mut attributes = Vec::new();
    for (name, value) in members.iter() {
        if !matches!(name, "data" | "data_base64" | "datacontenttype")
            && let Some(value) = plain(name, value)?
        {
            let name = name.to_owned();
            attributes.push(Attribute { name, value });
        }
    }
    assemble(attributes, payload)
}

/// An event need not have data (CloudEvents §3.2); it is delivered as `null`.
fn nothing() -> Result<Payload> {
    Payload::new(Bytes::from_static(b"null"), "")
}

/// Data of another media type than JSON is a string in the JSON (JSON event format §3.1).
fn payload_of(data: &RawValue, content_type: &str) -> Result<Payload> {
    let json = Bytes::copy_from_slice(data.get().as_bytes());
    let payload = Payload::new(json, content_type)?;
    if payload.is_json() {
        return Ok(payload);
    }
    let text: String = serde_json::from_str(data.get())
        .map_err(|_| Error::field("data", "expected a string, as datacontenttype is not JSON"))?;
    Payload::new(text.into(), content_type)
}

/// An attribute's value as a string; `null` is absent (JSON event format §2.2).
fn plain(name: &str, value: &RawValue) -> Result<Option<String>> {
    match strict_json::value(value.get().as_bytes()) {
        Ok(Value::String(text)) => Ok(Some(text)),
        Ok(Value::Null) => Ok(None),
        Ok(_) if TEXTS.contains(&name) => Err(Error::field(name.to_owned(), "expected a string")),
        // Unchanged: a number keeps its digits.
        Ok(Value::Number(_) | Value::Bool(_)) => Ok(Some(value.get().to_owned())),
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Err(Error::field(
            name.chars().take(64).collect::<String>(),
            "expected a string, a number, true or false",
        )),
    }
}

/// Parses a CloudEvent in the binary mode (HTTP binding §3.1).
///
/// # Errors
///
/// `invalid_argument` with the invalid attribute.
pub(super) fn binary(headers: &HeaderMap, body: Bytes) -> Result<Publish> {
    let content_type = match headers.get(CONTENT_TYPE).map(|value| value.to_str()) {
        None => "",
        Some(Ok(value)) => value,
        Some(Err(_)) => return Err(Error::field("content-type", "expected visible ASCII")),
    };
    let payload = match content_type {
        "" if body.is_empty() => nothing()?,
        content_type => Payload::new(body, content_type)?,
    };
    let mut attributes = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        // Header values are percent-encoded (HTTP binding §3.1.3.2).
        let value = value.to_str().ok().and_then(|text| decode(text, false));
        let wrong = || Error::field(name.to_owned(), "expected percent-encoded UTF-8");
        attributes.push(Attribute {
            name: name.to_owned(),
            value: value.ok_or_else(wrong)?,
        });
    }
    assemble(attributes, payload)
}

/// The events of a batch (JSON event format §4), one by one.
///
/// # Errors
///
/// `invalid_argument` if the body is not a list, or has more than 1,000 entries.
pub(super) fn batch(json: &[u8]) -> Result<Vec<&RawValue>> {
    let json = strict_json::without_bom(json);
    if !json.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid("expected a JSON list of CloudEvents"));
    }
    let events: Vec<&RawValue> = serde_json::from_slice(json)
        .map_err(|error| Error::invalid(Flaw::of(&error, json).to_string()))?;
    if events.len() > MAX_BATCH {
        return Err(Error::invalid("expected at most 1000 events in a batch"));
    }
    Ok(events)
}

/// Builds an event from its attributes.
fn assemble(attributes: Vec<Attribute>, payload: Payload) -> Result<Publish> {
    let (mut id, mut kind, mut source, mut version) = Default::default();
    let (mut channel, mut subject, mut at) = <(String, String, String)>::default();
    let (mut traceparent, mut tracestate) = <(String, String)>::default();
    let mut rest = Vec::new();
    for Attribute { name, value } in attributes {
        match name.as_str() {
            "id" => id = value,
            "type" => kind = value,
            "source" => source = value,
            "specversion" => version = value,
            "time" => at = value,
            "channel" => channel = value,
            "subject" => subject = value,
            "traceparent" => traceparent = value,
            "tracestate" => tracestate = value,
            _ if names_receivers(&name) => {
                let expected = "a CloudEvent goes to everybody in its channel; \
                                for an audience send application/json";
                return Err(Error::field(name, expected));
            }
            _ if is_attribute_name(&name) => rest.push((name, value)),
            _ => {
                let name: String = name.chars().take(64).collect();
                return Err(Error::field(name, "expected a name of a-z and 0-9"));
            }
        }
    }
    check_required(&version, &id, &source)?;
    let (field, name) = match (channel.is_empty(), subject.is_empty()) {
        (true, _) => ("subject", subject),
        (false, has_no_subject) => {
            if !has_no_subject {
                rest.push(("subject".to_owned(), subject));
            }
            ("channel", channel)
        }
    };
    let wrong = |error: Error| Error::field(field, error.description().to_owned());
    let channels = match name.as_str() {
        "" => Vec::new(),
        name => vec![ChannelName::new(name).map_err(wrong)?],
    };
    Ok(Publish {
        channels,
        event_type: EventType::new(kind)?,
        payload,
        headers: Headers::new(rest)?,
        key: String::new(),
        idempotency_key: idempotency_key(&source, &id),
        audience: None,
        source: Source::CloudEvent(source),
        time: time(&at)?,
        trace: TraceContext::parse(&traceparent, &tracestate),
        ttl: None,
        conditions: Conditions::default(),
    })
}

fn check_required(version: &str, id: &str, source: &str) -> Result<()> {
    if version != "1.0" {
        return Err(Error::field("specversion", "expected 1.0"));
    }
    for (name, value) in [("id", id), ("source", source)] {
        if value.is_empty() {
            return Err(Error::field(name, "expected a string that is not empty"));
        }
    }
    Ok(())
}

/// Names are lower-case letters and digits (CloudEvents §3).
fn is_attribute_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Two different pairs never produce the same key. The first space ends a source that contains
/// none, as a URI reference does; any other source is preceded by its length. Long keys, and those
/// with a length, are replaced by their digest, each kind in a form of its own.
fn idempotency_key(source: &str, id: &str) -> String {
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()));
    if source.contains(' ') {
        return format!("~{}", encoded(&format!("{}:{source}{id}", source.len())));
    }
    let key = format!("{source} {id}");
    if key.len() <= MAX_KEY {
        return key;
    }
    encoded(&key)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn event(members: &str) -> Result<Publish> {
        let json = format!(
            r#"{{"specversion":"1.0","id":"7","source":"/billing","type":"bill.sent"{members}}}"#
        );
        structured(json.as_bytes())
    }

    #[test]
    fn subject_is_the_default_channel() {
        let plain = event(r#","subject":"bills:1","data":{"n":1}"#).unwrap();
        assert_eq!(plain.channels, [ChannelName::new("bills:1").unwrap()]);
        assert!(plain.headers.is_empty());
        let named = event(r#","subject":"1","channel":"bills:1","retries":3"#).unwrap();
        assert_eq!(named.channels, [ChannelName::new("bills:1").unwrap()]);
        let headers: Vec<_> = named.headers.iter().collect();
        assert_eq!(headers, [("retries", "3"), ("subject", "1")]);
        assert_eq!(named.payload.data(), "null");
    }

    #[test]
    fn same_id_of_two_sources_differs() {
        assert_ne!(idempotency_key("/a", "1"), idempotency_key("/b", "1"));
        let long = "x".repeat(300);
        assert!(idempotency_key("/a", &long).len() <= MAX_KEY);
        assert_ne!(idempotency_key("/a", &long), idempotency_key("/b", &long));
    }

    #[test]
    fn differently_split_pairs_have_other_keys() {
        let tail = "x".repeat(300);
        let pairs = [
            ("a b", "c"),
            ("a", "b c"),
            ("a ", "b c"),
            ("a b ", "c"),
            ("4:a", &format!("b{tail}")),
            ("a bx", &tail[1..]),
        ];
        let keys: std::collections::BTreeSet<String> = pairs
            .iter()
            .map(|(source, id)| idempotency_key(source, id))
            .collect();
        assert_eq!(keys.len(), pairs.len(), "{keys:?}");
    }

    #[test]
    fn extensions_that_name_receivers_are_refused() {
        for name in ["audience", "users", "userid", "roles", "requiredroles"] {
            let refused = event(&format!(r#","{name}":"ann""#)).unwrap_err();
            assert_eq!(refused.field_name(), Some(name));
        }
    }

    #[test]
    fn invalid_input_is_named() {
        let field = |refused: Result<Publish>| {
            let error = refused.unwrap_err();
            error.field_name().map(str::to_owned)
        };
        let table = [
            (r#","time":"noon""#, "time"),
            (r#","subject":5"#, "subject"),
            (r#","subject":"a b""#, "subject"),
            (r#","channel":"a b""#, "channel"),
            (r#","Upper":"x""#, "Upper"),
            (r#","nested":{}"#, "nested"),
            (r#","data":1,"data_base64":"AA==""#, "data_base64"),
            (r#","datacontenttype":"text/plain","data":1"#, "data"),
            (r#","datacontenttype":"text""#, "content_type"),
        ];
        for (members, name) in table {
            assert_eq!(field(event(members)).as_deref(), Some(name), "{members}");
        }
        let no_version = structured(br#"{"id":"1","source":"/a","type":"a"}"#);
        assert_eq!(field(no_version).as_deref(), Some("specversion"));
        let no_id = structured(br#"{"specversion":"1.0","source":"/a","type":"a"}"#);
        assert_eq!(field(no_id).as_deref(), Some("id"));
    }

    #[test]
    fn text_and_base64_data_are_unchanged() {
        let text = event(r#","datacontenttype":"text/plain","data":"hi""#).unwrap();
        assert_eq!(text.payload.data(), "hi");
        let bytes = event(r#","datacontenttype":"image/png","data_base64":"AAH/""#).unwrap();
        assert_eq!(bytes.payload.data().as_ref(), [0, 1, 255]);
    }

    #[test]
    fn binary_mode_attributes_are_headers() {
        let headers: HeaderMap = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/caf%C3%A9"),
            ("ce-type", "a.b"),
            ("ce-channel", "room:1"),
        ]
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect();
        assert!(is_binary(&headers));
        let event = binary(&headers, Bytes::from_static(b"{ }")).unwrap();
        assert_eq!(event.source, Source::CloudEvent("/café".to_owned()));
        assert_eq!(event.payload.data(), "{ }");
    }

    #[test]
    fn batch_is_limited_to_a_thousand() {
        assert_eq!(batch(b"[{},{}]").unwrap().len(), 2);
        assert!(batch(b"{}").is_err() && batch(b"[{]").is_err());
        let many = format!("[{}1]", "1,".repeat(1000));
        assert!(batch(many.as_bytes()).is_err());
    }
}
