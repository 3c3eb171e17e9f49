//! A question to the application.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::HookType;
use crate::auth::Identity;
use crate::event::{ConnectionId, Payload};
use crate::fair_queue::Share;
use crate::outbound::ForwardedHeaders;

/// The client that a question is about.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its connection, once that is open.
    pub id: Option<ConnectionId>,
    /// Its identity, once that is known.
    pub identity: Option<Arc<Identity>>,
    /// Its transport; `http` for a single request.
    pub transport: &'static str,
    /// Its network address.
    pub address: SocketAddr,
    /// The client type that it registered.
    pub client_type: Option<Box<str>>,
    /// The forwarded headers of its request.
    pub headers: Option<Arc<ForwardedHeaders>>,
}

/// A question. `Debug` shows neither token nor payload.
pub struct Question {
    /// What is asked.
    pub kind: HookType,
    /// The client.
    pub client: Client,
    /// The token that the client presented.
    pub token: Option<Box<str>>,
    /// The channel or pattern.
    pub channel: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// The payload, or the arguments of a call.
    pub data: Option<Payload>,
    /// The called method.
    pub method: Option<Box<str>>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("kind", &self.kind)
            .field("client", &self.client)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// By this, equal questions are recognized: a digest, so that no token or cookie is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
            *to = *from;
        }
        Key(key)
    }
}

impl Question {
    /// A question without further members.
    #[must_use]
    pub fn new(kind: HookType, client: Client) -> Self {
        Question {
            kind,
            client,
            token: None,
            channel: None,
            event_type: None,
            data: None,
            method: None,
        }
    }

    /// The question as JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        self.write(self.client.id, self.client.address.to_string())
    }

    /// Equal questions have equal keys. Connection ids and ports are not compared: they always
    /// differ.
    pub(super) fn key(&self) -> Key {
        Key::of(&self.write(None, self.client.address.ip().to_string()))
    }

    /// Whose requests delay each other first.
    pub(super) fn share(&self) -> Share {
        match &self.client.identity {
            Some(identity) => Share::of_identity(Some(identity)),
            None => {
                let anonymous = Identity::anonymous_from(self.client.address.ip());
                Share::of_identity(Some(&anonymous))
            }
        }
    }

    fn write(&self, id: Option<ConnectionId>, address: String) -> Vec<u8> {
        let Client {
            identity,
            transport,
            client_type,
            headers,
            ..
        } = &self.client;
        let identity = identity.as_deref();
        let payload = self.data.as_ref();
        let json = payload.filter(|payload| payload.is_json());
        let other = payload.filter(|payload| !payload.is_json());
        let body = Body {
            kind: self.kind.as_str(),
            connection: Connection {
                id: id.map(|id| id.to_string()),
                user: identity
                    .and_then(|identity| identity.user())
                    .map(|user| &**user),
                roles: identity
                    .map(|identity| identity.roles().iter().map(|role| &**role).collect())
                    .unwrap_or_default(),
                claims: raw(identity.map_or("{}", |identity| identity.claims())),
                transport,
                address,
                client_type: client_type.as_deref(),
            },
            headers: Headers(headers.as_deref()),
            token: self.token.as_deref(),
            channel: self.channel.as_deref(),
            event_type: self.event_type.as_deref(),
            data: json.and_then(|payload| raw(std::str::from_utf8(payload.data()).ok()?)),
            data_base64: other.map(|payload| STANDARD.encode(payload.data())),
            content_type: payload
                .and_then(|payload| payload.explicit_content_type())
                .map(|kind| &**kind),
            method: self.method.as_deref(),
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// A text that was checked to be JSON when it came in.
fn raw(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    connection: Connection<'a>,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
}

#[derive(Serialize)]
struct Connection<'a> {
    id: Option<String>,
    user: Option<&'a str>,
    roles: Vec<&'a str>,
    claims: Option<&'a RawValue>,
    transport: &'a str,
    address: String,
    client_type: Option<&'a str>,
}

struct Headers<'a>(Option<&'a ForwardedHeaders>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.into_iter().flat_map(ForwardedHeaders::iter))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn question(port: u16) -> Question {
        let client = Client {
            id: None,
            identity: Some(Arc::new(Identity::trusted("ann"))),
            transport: "websocket",
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            client_type: None,
            headers: None,
        };
        Question {
            token: Some("s3cret".into()),
            data: Some(Payload::new(Bytes::from_static(b"{\"n\":1.0}"), "").unwrap()),
            ..Question::new(HookType::Publish, client)
        }
    }

    #[test]
    fn question_has_the_documented_members() {
        let body: Value = serde_json::from_slice(&question(9).json()).unwrap();
        let expected = json!({
            "type": "publish",
            "connection": {
                "id": null,
                "user": "ann",
                "roles": ["service", "admin"],
                "claims": {},
                "transport": "websocket",
                "address": "192.0.2.1:9",
                "client_type": null,
            },
            "headers": {},
            "token": "s3cret",
            "data": {"n": 1.0},
        });
        assert_eq!(body, expected);
        let text = String::from_utf8(question(9).json()).unwrap();
        assert!(
            text.contains(r#""data":{"n":1.0}"#),
            "byte for byte: {text}"
        );
        assert!(!format!("{:?}", question(9)).contains("s3cret"));
    }

    #[test]
    fn questions_of_two_ports_are_equal_and_of_two_payloads_are_not() {
        assert!(question(1).key() == question(2).key());
        let other = Question {
            data: None,
            ..question(1)
        };
        assert!(question(1).key() != other.key());
    }
}
