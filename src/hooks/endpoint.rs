//! The application's endpoint: HTTP or gRPC.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use uuid::Uuid;

use super::answer::{Answer, Failure, Stated};
use super::grpc::Grpc;
use super::question::Question;
use super::settings::HookSettings;
use crate::error::{Error, Result};
use crate::event::{Timestamp, TraceContext};
use crate::outbound::{HttpClient, SigningSecret};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));

/// Where the application is asked.
pub(super) struct Endpoint {
    shown: String,
    secret: Option<SigningSecret>,
    protocol: Protocol,
    timeout: std::time::Duration,
}

enum Protocol {
    Http(Box<HttpClient>),
    Grpc(Grpc),
}

/// What a URL names.
pub(super) enum Target {
    /// HTTP.
    Http,
    /// gRPC at this host and port.
    Grpc { authority: String, is_tls: bool },
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for `hooks.endpoint`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = |message: &'static str| Err(Error::field("hooks.endpoint", message));
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("must be a URL");
        };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return wrong("must be a URL with a scheme and a host");
        };
        if authority.as_str().contains('@') {
            return wrong("must contain no user and password");
        }
        match scheme {
            "http" | "https" => Ok(Target::Http),
            "grpc" | "grpcs" if !matches!(uri.path(), "" | "/") => {
                wrong("must have no path: grpc://host:port")
            }
            "grpc" | "grpcs" => Ok(Target::Grpc {
                authority: authority.to_string(),
                is_tls: scheme == "grpcs",
            }),
            _ => wrong("must be an http, https or grpc URL"),
        }
    }
}

impl Endpoint {
    /// # Errors
    ///
    /// `invalid_argument` with the invalid key.
    pub(super) fn new(settings: &HookSettings) -> Result<Self> {
        let url = settings.endpoint.as_str();
        let secret = settings.secret.as_ref();
        let secret = secret.map(|secret| SigningSecret::parse("hooks.secret", secret.expose()));
        let secret = secret.transpose()?;
        let most = settings.answer_bytes;
        let (shown, protocol) = match Target::parse(url)? {
            Target::Http => {
                let client = HttpClient::new("hooks.endpoint", url, most)?;
                (client.shown_url(), Protocol::Http(Box::new(client)))
            }
            Target::Grpc { authority, is_tls } => {
                let grpc = Grpc::new(&authority, is_tls, most)?;
                (url.to_owned(), Protocol::Grpc(grpc))
            }
        };
        Ok(Endpoint {
            shown,
            secret,
            protocol,
            timeout: settings.timeout,
        })
    }

    /// The URL without anything that may be secret.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Asks once.
    pub(super) async fn ask(
        &self,
        question: &Question,
        trace: Option<&TraceContext>,
    ) -> Result<Answer, Failure> {
        match &self.protocol {
            Protocol::Http(client) => {
                let body = question.json();
                let mut headers = self.headers(&body, trace);
                headers.insert(CONTENT_TYPE, JSON);
                headers.insert(ACCEPT, JSON);
                headers.insert(USER_AGENT, AGENT);
                let answer = client.post(headers, body.into(), self.timeout).await?;
                if answer.status != StatusCode::OK {
                    return Err(Failure::Status(answer.status.as_u16()));
                }
                Stated::from_json(&answer.body)?.check(question.kind)
            }
            Protocol::Grpc(client) => {
                let (request, bytes) = Grpc::request(question);
                let headers = self.headers(&bytes, trace);
                client.ask(request, headers).await?.check(question.kind)
            }
        }
    }

    /// The signature and the trace context.
    fn headers(&self, body: &[u8], trace: Option<&TraceContext>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(secret) = &self.secret {
            let id = format!("hook_{}", Uuid::now_v7().simple());
            let now = u64::try_from(Timestamp::now().as_millis() / 1000).unwrap_or(0);
            if secret.sign(&mut headers, &id, now, body).is_err() {
                tracing::error!("a hook could not be signed");
            }
        }
        if let Some(trace) = trace {
            let mut put = |name: &'static str, value: &str| {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            };
            put("traceparent", &trace.to_string());
            if let Some(state) = &trace.state {
                put("tracestate", state);
            }
        }
        headers
    }
}
