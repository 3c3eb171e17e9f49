//! Publishing with `POST /api/v1/events`: one request for each event.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::connection::excerpt;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPE, NAMESPACE};
use crate::publish::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, MAX_REFUSALS};
use crate::publisher_task::{Outgoing, PublisherLog, PublisherTask};
use crate::token::Secret;

const PATH: &str = "/api/v1/events";
/// The longest response that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A client whose tasks share its open connections.
#[derive(Clone)]
pub(super) struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
    address: Uri,
    bearer: Option<HeaderValue>,
}

impl Poster {
    /// Publishes to the server at `host` (`host:port`).
    ///
    /// # Errors
    ///
    /// If `host` is not an address, or the token is not a valid header value.
    pub(super) fn new(host: &str, token: Option<&Secret>) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let address = format!("http://{host}{PATH}").parse();
        let bearer = token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| Error::field("token", "a valid header value"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            address: address.map_err(|_| Error::field("url", "ws://host:port/path"))?,
            bearer: bearer.transpose()?,
        })
    }

    /// Sends one request for each event of `task`, each after the response to the previous one.
    ///
    /// # Errors
    ///
    /// If the server stops answering or refuses everything.
    pub(super) async fn publish(self, mut task: PublisherTask) -> Result<PublisherLog> {
        let mut log = task.log();
        let mut refusals = 0;
        while let Some(event) = task.next().await {
            let (channel, sent) = (event.channel, event.sent);
            let answer = timeout(ANSWER_TIMEOUT, self.post(event)).await;
            match answer.map_err(|_| failed("no answer within 30 s"))?? {
                (status, _) if status.is_success() => {
                    log.accepted(sent);
                    refusals = 0;
                }
                (status, body) => {
                    log.refused(channel, &excerpt(&body));
                    refusals += 1;
                    if refusals >= MAX_REFUSALS {
                        return Err(failed(format!("{status}: {}", excerpt(&body))));
                    }
                }
            }
        }
        Ok(task.finish(log))
    }

    async fn post(&self, event: Outgoing) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::post(&self.address).header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body(&event))).map_err(failed)?;
        let answer = self.client.request(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        Ok((head.status, body.map_err(failed)?.to_bytes()))
    }
}

fn body(event: &Outgoing) -> Bytes {
    let mut body = format!(
        r#"{{"channels":["{NAMESPACE}:{}"],"type":"{EVENT_TYPE}","data":"#,
        event.channel
    )
    .into_bytes();
    body.extend_from_slice(&event.data);
    body.push(b'}');
    body.into()
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(format!("publishing over HTTP failed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_has_http_api_form() {
        let body = body(&Outgoing {
            channel: 2,
            data: Bytes::from_static(br#"{"n":1}"#),
            sent: 1,
        });
        let message: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({"channels": ["bench:2"], "type": "bench.tick",
            "data": {"n": 1}});
        assert_eq!(message, expected);
    }

    #[test]
    fn invalid_host_is_named() {
        let wrong = Poster::new("a b", None).err().unwrap();
        assert_eq!(wrong.field_name(), Some("url"));
    }
}
