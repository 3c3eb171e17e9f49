//! The opening handshake (RFC 6455 §4.2): from a request's head to what the client offers.
//!
//! It decides nothing about origins, tokens or which subprotocol is spoken.

mod extensions;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Method, StatusCode, Version};
use sha1::{Digest, Sha1};

use crate::ws::deflate::DeflateParams;

/// What RFC 6455 §1.3 puts behind the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The prefix of an offered subprotocol that is a token and no subprotocol.
const BEARER: &str = "bearer.";

/// The most subprotocols that are looked at.
const MAX_PROTOCOLS: usize = 32;

/// A valid upgrade request. Its `Debug` shows no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: HeaderValue,
    /// The offered subprotocols in the client's order, without any `bearer.<jwt>`; at most 32.
    pub protocols: Vec<String>,
    /// The token of the first `bearer.<jwt>` among the subprotocols. Never echo it.
    pub bearer: Option<String>,
    /// permessage-deflate, where it is switched on and the client offers it acceptably.
    pub deflate: Option<DeflateParams>,
    /// The value of `Sec-WebSocket-Extensions` that goes with it.
    pub deflate_answer: Option<HeaderValue>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("protocols", &self.protocols)
            .field("bearer", &self.bearer.as_ref().map(|_| "hidden"))
            .field("deflate", &self.deflate)
            .finish_non_exhaustive()
    }
}

impl Offer {
    /// Reads an upgrade request. With `compression` off, no extension is accepted.
    ///
    /// # Errors
    /// A [`Refusal`] naming the first rule of RFC 6455 §4.2.1 that the request breaks.
    pub fn read(
        method: &Method,
        version: Version,
        headers: &HeaderMap,
        compression: bool,
    ) -> Result<Self, Refusal> {
        if method != Method::GET {
            return Err(Refusal::Method);
        }
        if version != Version::HTTP_11
            || !has_token(headers, &UPGRADE, "websocket")
            || !has_token(headers, &CONNECTION, "upgrade")
        {
            return Err(Refusal::NotAnUpgrade);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::Version);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY)
            .filter(|key| is_key(key))
            .ok_or(Refusal::Key)?;
        let (protocols, bearer) = subprotocols(headers)?;
        let deflate = if compression {
            extensions::accept(&headers.get_all(SEC_WEBSOCKET_EXTENSIONS))
        } else {
            None
        };
        Ok(Offer {
            accept: accept_key(key),
            protocols,
            bearer,
            deflate: deflate.as_ref().map(|(params, _)| *params),
            deflate_answer: deflate.map(|(_, answer)| answer),
        })
    }

    /// The head of the answer: 101 with everything but the `Date`. `protocol` is the subprotocol
    /// chosen among [`Offer::protocols`]; leave it out if the client offered none.
    #[must_use]
    pub fn answer(&self, protocol: Option<HeaderValue>) -> http::Response<()> {
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(extensions) = &self.deflate_answer {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, extensions.clone());
        }
        response
    }
}

/// Why a request is no acceptable upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a GET.
    Method,
    /// Not HTTP/1.1, or without `Upgrade: websocket` or `Connection: upgrade`.
    NotAnUpgrade,
    /// Another `Sec-WebSocket-Version` than 13.
    Version,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes in base64.
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of tokens, or longer than 32.
    Protocol,
}

impl Refusal {
    /// The answer's status: 405, 426 or 400.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::NotAnUpgrade | Refusal::Version => StatusCode::UPGRADE_REQUIRED,
            Refusal::Key | Refusal::Protocol => StatusCode::BAD_REQUEST,
        }
    }

    /// What is wrong, for the problem document.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Refusal::Method => "a WebSocket is opened with GET",
            Refusal::NotAnUpgrade => {
                "expected HTTP/1.1 with `Upgrade: websocket` and `Connection: Upgrade`"
            }
            Refusal::Version => "expected `Sec-WebSocket-Version: 13`",
            Refusal::Key => "Sec-WebSocket-Key: expected 16 bytes in base64",
            Refusal::Protocol => "Sec-WebSocket-Protocol: expected at most 32 tokens",
        }
    }

    /// The header that the answer must carry for this status (RFC 6455 §4.4, RFC 9110 §15.5.6 and
    /// §15.5.22).
    #[must_use]
    pub fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Refusal::Method => Some((ALLOW, HeaderValue::from_static("GET"))),
            Refusal::NotAnUpgrade => Some((UPGRADE, HeaderValue::from_static("websocket"))),
            Refusal::Version => Some((SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))),
            Refusal::Key | Refusal::Protocol => None,
        }
    }
}

/// The value of `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    // Base64 is always a valid header value.
    HeaderValue::try_from(BASE64.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

fn is_key(key: &str) -> bool {
    BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// The value of a header that must stand there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim_ascii();
    values.next().is_none().then_some(value)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated header, over all its lines; one that is not text is empty.
fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .map(str::trim_ascii)
}

fn subprotocols(headers: &HeaderMap) -> Result<(Vec<String>, Option<String>), Refusal> {
    let (mut protocols, mut bearer) = (Vec::new(), None);
    for (index, item) in items(headers, &SEC_WEBSOCKET_PROTOCOL).enumerate() {
        if index == MAX_PROTOCOLS || !is_token(item) {
            return Err(Refusal::Protocol);
        }
        match item.strip_prefix(BEARER) {
            Some(token) => bearer = bearer.or_else(|| Some(token.to_owned())),
            None => protocols.push(item.to_owned()),
        }
    }
    Ok((protocols, bearer))
}

/// Whether it is a token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}
