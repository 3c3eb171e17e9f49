//! The opening handshake (RFC 6455 §4.2): parses a request's head into the client's offer.
//!
//! It makes no decision about origins, tokens or the subprotocol.

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

use crate::deflate::DeflateParams;

/// The GUID that RFC 6455 §1.3 appends to the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The prefix of an offered subprotocol that carries a token.
const BEARER: &str = "bearer.";

/// The most subprotocols that are considered.
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
    /// permessage-deflate, if it is enabled and the client's offer is acceptable.
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
    /// Parses an upgrade request. With `compression` off, no extension is accepted.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] naming the first rule of RFC 6455 §4.2.1 that the request violates.
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

    /// The head of the response: 101 with everything but the `Date`. `protocol` is the subprotocol
    /// selected from [`Offer::protocols`]; `None` if the client offered none.
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

/// Why a request is not an acceptable upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a GET.
    Method,
    /// Not HTTP/1.1, or without `Upgrade: websocket` or `Connection: upgrade`.
    NotAnUpgrade,
    /// A `Sec-WebSocket-Version` other than 13.
    Version,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes in base64.
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of tokens, or longer than 32.
    Protocol,
}

impl Refusal {
    /// The response's status: 405, 426 or 400.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::NotAnUpgrade | Refusal::Version => StatusCode::UPGRADE_REQUIRED,
            Refusal::Key | Refusal::Protocol => StatusCode::BAD_REQUEST,
        }
    }

    /// The message of the problem document.
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

    /// The header that the response must have with this status (RFC 6455 §4.4, RFC 9110 §15.5.6 and
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

/// The value of a header that must occur exactly once.
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
    let offered = items(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|item| !item.is_empty());
    for (index, item) in offered.enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request() -> HeaderMap {
        [
            (UPGRADE, "websocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, KEY),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
    }

    fn read(headers: &HeaderMap) -> Result<Offer, Refusal> {
        Offer::read(&Method::GET, Version::HTTP_11, headers, true)
    }

    fn with(name: HeaderName, value: &'static str) -> Result<Offer, Refusal> {
        let mut headers = request();
        headers.insert(name, HeaderValue::from_static(value));
        read(&headers)
    }

    #[test]
    fn rfc_key_gets_rfc_accept_value() {
        assert_eq!(accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let answer = read(&request()).expect("valid").answer(None);
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            answer.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()[UPGRADE], "websocket");
        assert_eq!(answer.headers()[CONNECTION], "Upgrade");
        assert!(!answer.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        assert!(!answer.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
    }

    #[test]
    fn upgrade_requires_get_and_http_1_1() {
        let post = Offer::read(&Method::POST, Version::HTTP_11, &request(), true);
        assert_eq!(post, Err(Refusal::Method));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let refused = Offer::read(&Method::GET, version, &request(), true);
            assert_eq!(refused, Err(Refusal::NotAnUpgrade));
        }
    }

    #[test]
    fn every_required_header_is_required() {
        for (name, refusal) in [
            (UPGRADE, Refusal::NotAnUpgrade),
            (CONNECTION, Refusal::NotAnUpgrade),
            (SEC_WEBSOCKET_VERSION, Refusal::Version),
            (SEC_WEBSOCKET_KEY, Refusal::Key),
        ] {
            let mut headers = request();
            headers.remove(&name);
            assert_eq!(read(&headers), Err(refusal), "without {name}");
        }
    }

    #[test]
    fn header_tokens_match_whole_and_case_insensitive() {
        assert!(with(UPGRADE, "WebSocket").is_ok());
        assert!(with(CONNECTION, "upgrade").is_ok());
        assert_eq!(with(UPGRADE, "websocket2"), Err(Refusal::NotAnUpgrade));
        assert_eq!(with(CONNECTION, "keep-alive"), Err(Refusal::NotAnUpgrade));
    }

    #[test]
    fn other_version_is_answered_with_13() {
        for version in ["8", "12", "14", "", "13, 8"] {
            assert_eq!(with(SEC_WEBSOCKET_VERSION, version), Err(Refusal::Version));
        }
        assert_eq!(Refusal::Version.status(), StatusCode::UPGRADE_REQUIRED);
        let header = Refusal::Version.header().expect("names the version");
        assert_eq!(
            header,
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        );
    }

    #[test]
    fn key_must_be_single_and_16_bytes() {
        for key in [
            "",
            "short",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZSE=",
        ] {
            assert_eq!(with(SEC_WEBSOCKET_KEY, key), Err(Refusal::Key), "{key}");
        }
        let mut twice = request();
        twice.append(SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY));
        assert_eq!(read(&twice), Err(Refusal::Key));
        assert_eq!(Refusal::Key.status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn subprotocols_keep_order_without_token() {
        let mut headers = request();
        let lines = [
            "tidings.v1.json, bearer.aaa.bbb.ccc",
            "cloudevents.json,bearer.second",
        ];
        for line in lines {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
        }
        let offer = read(&headers).expect("valid");
        assert_eq!(offer.protocols, ["tidings.v1.json", "cloudevents.json"]);
        assert_eq!(offer.bearer.as_deref(), Some("aaa.bbb.ccc"));
        assert!(
            !format!("{offer:?}").contains("aaa"),
            "the token stays out of Debug"
        );
        let chosen = HeaderValue::from_static("cloudevents.json");
        let answer = offer.answer(Some(chosen.clone()));
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], chosen);
    }

    #[test]
    fn subprotocol_list_is_validated_and_bounded() {
        assert_eq!(with(SEC_WEBSOCKET_PROTOCOL, "a b"), Err(Refusal::Protocol));
        let mut headers = request();
        let many = ["p"; MAX_PROTOCOLS].join(",");
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::try_from(&many).expect("valid"),
        );
        assert_eq!(
            read(&headers).map(|offer| offer.protocols.len()),
            Ok(MAX_PROTOCOLS)
        );
        headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("one-more"));
        assert_eq!(read(&headers), Err(Refusal::Protocol));
    }

    #[test]
    fn compression_requires_setting() {
        let mut headers = request();
        let offered = HeaderValue::from_static("permessage-deflate");
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, offered);
        let on = read(&headers).expect("valid");
        assert_eq!(
            on.deflate,
            Some(DeflateParams {
                server_window_bits: 15
            })
        );
        let answer = on.answer(None);
        assert_eq!(
            answer.headers().get(SEC_WEBSOCKET_EXTENSIONS),
            on.deflate_answer.as_ref()
        );
        let off = Offer::read(&Method::GET, Version::HTTP_11, &headers, false).expect("valid");
        assert_eq!((off.deflate, off.deflate_answer), (None, None));
    }
}
