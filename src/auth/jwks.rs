//! Fetching a JWK set.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::jwk::from_jwks;
use super::keys::MAX_BYTES;
use crate::clock::{Elapsed, timeout};
use crate::error::{Error, Result};

/// The longest time of a fetch in total.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a JWK set is fetched from.
#[derive(Clone)]
pub(super) struct Source {
    uri: Uri,
    client: Transport,
}

#[derive(Clone)]
enum Transport {
    /// Used only for loopback.
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

impl Source {
    /// Accepts an `https` URL, or an `http` URL on loopback: over plain `http` anyone on the path
    /// could replace the keys.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the field `auth.jwks_url`.
    pub(super) fn new(url: &str) -> Result<Self> {
        let uri = address(url)?;
        let client = if uri.scheme_str() == Some("https") {
            let provider = tokio_rustls::rustls::crypto::ring::default_provider();
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(provider)
                .map_err(|_| wrong("the system's certificates can't be read"))?
                .https_only()
                .enable_http1()
                .build();
            Transport::Tls(builder().build(connector))
        } else {
            Transport::Plain(builder().build(HttpConnector::new()))
        };
        Ok(Source { uri, client })
    }

    /// True if both fetch the same set.
    pub(super) fn is_same(&self, other: &Source) -> bool {
        self.uri == other.uri
    }

    /// Fetches the set: at most 1 MiB within 5 s, following no redirects.
    pub(super) async fn fetch(&self) -> std::result::Result<Bytes, String> {
        self.fetch_dated().await.map(|(body, _)| body)
    }

    /// Fetches the set, and the provider's time: the answer's `Date`.
    async fn fetch_dated(&self) -> std::result::Result<(Bytes, Option<String>), String> {
        match timeout(TIMEOUT, self.request()).await {
            Ok(answer) => answer,
            Err(Elapsed) => Err(String::from("no answer within 5 s")),
        }
    }

    async fn request(&self) -> std::result::Result<(Bytes, Option<String>), String> {
        let request = Request::get(&self.uri)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = match &self.client {
            Transport::Plain(client) => client.request(request).await,
            Transport::Tls(client) => client.request(request).await,
        };
        let response = response.map_err(|error| error.to_string())?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer was {}", response.status()));
        }
        let date = response.headers().get(header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        body.map(|body| (body.to_bytes(), date))
            .map_err(|error| error.to_string())
    }
}

/// What one fetch of a JWK set has found.
#[derive(Debug)]
pub struct JwksProbe {
    /// How many keys of the set are usable.
    pub keys: usize,
    /// The provider's time (the `Date` header), if it sent one.
    pub date: Option<String>,
}

/// Fetches a JWK set once, as the server does, to find out whether that works.
///
/// # Errors
/// Why the set can't be fetched or used.
pub async fn probe_jwks(url: &str) -> std::result::Result<JwksProbe, String> {
    let source = Source::new(url).map_err(|error| error.message())?;
    let (body, date) = source.fetch_dated().await?;
    let keys = from_jwks(&body)?.len();
    Ok(JwksProbe { keys, date })
}

fn wrong(what: &'static str) -> Error {
    Error::field("auth.jwks_url", what)
}

/// Checks whether keys may be fetched from this URL, without fetching them.
///
/// # Errors
///
/// `invalid_argument` for the field `auth.jwks_url`.
pub(super) fn check_url(url: &str) -> Result<()> {
    address(url).map(drop)
}

/// Parses a URL that keys may be fetched from.
fn address(url: &str) -> Result<Uri> {
    let expected = || wrong("expected an https URL, or an http one on loopback");
    let uri: Uri = url.parse().map_err(|_| expected())?;
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(expected)?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(host) => Ok(uri),
        _ => Err(expected()),
    }
}

/// Fetches are minutes apart, so no connection is kept alive.
fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_max_idle_per_host(0);
    builder
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
