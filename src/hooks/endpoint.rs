//! The application's endpoint: HTTP or gRPC.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
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

impl Endpoint {
    /// # Errors
    ///
    /// `invalid_argument` with the invalid key.
    pub(super) fn new(settings: &HookSettings) -> Result<Self> {
        let url = settings.endpoint.as_str();
        let secret = settings.secret.as_ref();
        let secret = secret.map(|secret| SigningSecret::parse("hooks.secret", secret.expose()));
        let secret = secret.transpose()?;
        let (shown, protocol) =
            if url.starts_with("grpc://") || url.starts_with("grpcs://") {
                let grpc = Grpc::new(url, settings.answer_bytes)?;
                (grpc.shown(), Protocol::Grpc(grpc))
            } else {
                let client = HttpClient::new("hooks.endpoint", url, settings.answer_bytes)
                    .map_err(|error| match error.description() {
                        "must be an http or https URL" => {
                            Error::field("hooks.endpoint", "must be an http, https or grpc URL")
                        }
                        _ => error,
                    })?;
                (client.shown_url(), Protocol::Http(Box::new(client)))
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
