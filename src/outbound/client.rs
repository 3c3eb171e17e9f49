//! The HTTP client for requests to the application.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::clock::{Elapsed, timeout};
use crate::error::{Error, Result};

/// How long an idle connection is kept. Most servers keep theirs for a minute or longer, and a
/// request on a connection that the other end is closing must be sent again.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections kept for each endpoint.
const MAX_IDLE: usize = 32;
/// The longest time to connect, within the time of the request.
const CONNECT: Duration = Duration::from_secs(5);

/// A client for one endpoint, with a pool of connections. HTTP/2 over TLS where the other end offers
/// it (ALPN), HTTP/1.1 otherwise. It follows no redirects. Clones share the pool.
#[derive(Clone, Debug)]
pub struct HttpClient {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    max_answer_bytes: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status; a redirect is an answer like any other.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailed {
    /// No connection, or it broke.
    Unreachable,
    /// No whole answer within the time.
    Timeout,
    /// The answer is longer than allowed.
    TooLarge,
}

impl RequestFailed {
    /// The reason as a label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            RequestFailed::Unreachable => "unreachable",
            RequestFailed::Timeout => "timeout",
            RequestFailed::TooLarge => "too_large",
        }
    }
}

impl HttpClient {
    /// Makes a client for an `http` or `https` URL. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the given field.
    pub fn new(field: &str, url: &str, max_answer_bytes: usize) -> Result<Self> {
        let wrong = |message: &'static str| Error::field(field.to_owned(), message);
        let uri: Uri = url.parse().map_err(|_| wrong("must be a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong("must be an http or https URL"));
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong("must contain no user and password"));
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(tokio_rustls::rustls::crypto::ring::default_provider())
            .map_err(|_| wrong("the system's certificates can't be read"))?
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(HttpClient {
            uri,
            client,
            max_answer_bytes,
        })
    }

    /// The endpoint without its query, which may hold a secret: for logs and spans.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let host = self.uri.authority().map_or("", |a| a.as_str());
        format!("{scheme}://{host}{}", self.uri.path())
    }

    /// Posts a body and reads the whole answer, both within the given time.
    ///
    /// # Errors
    ///
    /// [`RequestFailed`]; any status is an answer and no error.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> std::result::Result<Answer, RequestFailed> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        match timeout(within, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(Elapsed) => Err(RequestFailed::Timeout),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> std::result::Result<Answer, RequestFailed> {
        let answer = self.client.request(request).await;
        let (head, body) = answer.map_err(|_| RequestFailed::Unreachable)?.into_parts();
        let body = Limited::new(body, self.max_answer_bytes).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                RequestFailed::TooLarge
            } else {
                RequestFailed::Unreachable
            }
        })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}
