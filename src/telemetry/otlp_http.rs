//! OTLP over HTTP: one POST per message.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry_http::{Bytes, HttpClient, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::otlp_spans::{Rejections, in_time, repeated};

/// A collector that accepts HTTP.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) client: Arc<dyn HttpClient>,
    pub(super) endpoint: String,
    /// From `OTEL_EXPORTER_OTLP_HEADERS`. May contain secrets, so it is never logged.
    pub(super) headers: HeaderMap,
    pub(super) gzip: bool,
}

impl Post {
    /// An encoded message.
    fn body(&self, message: &impl Message) -> Result<Bytes, Status> {
        let plain = message.encode_to_vec();
        if !self.gzip {
            return Ok(plain.into());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
        written
            .map(Bytes::from)
            .map_err(|_| Status::internal("the message could not be compressed"))
    }

    /// Sends a message once. Returns the collector's response if it succeeded.
    ///
    /// # Errors
    /// The failure, as the equivalent gRPC status.
    pub(super) async fn export(&self, message: &impl Message) -> Result<Bytes, Status> {
        self.succeed(self.body(message)?).await
    }

    async fn succeed(&self, body: Bytes) -> Result<Bytes, Status> {
        let response = self.send(body).await?;
        if response.status().is_success() {
            Ok(response.into_body())
        } else {
            Err(failed(&response))
        }
    }

    /// Sends a body and returns the response, with any status.
    ///
    /// # Errors
    /// `unavailable` if there was no response.
    async fn send(&self, body: Bytes) -> Result<Response<Bytes>, Status> {
        let mut request = Request::post(self.endpoint.as_str())
            .body(body)
            .map_err(|_| Status::internal("no request could be made"))?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, kind);
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self.client.send_bytes(request).await.map_err(|error| {
            let mut status = Status::unavailable("no answer");
            status.set_source(Arc::from(error));
            status
        })
    }
}

/// Exports spans over HTTP.
#[derive(Debug)]
pub(super) struct HttpExporter {
    pub(super) post: Post,
    /// The timeout of one export including retries.
    pub(super) timeout: Duration,
    pub(super) resource: ResourceAttributesWithSchema,
    pub(super) rejections: Rejections,
}

impl HttpExporter {
    pub(super) async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let message = ExportTraceServiceRequest { resource_spans };
        let sent = async {
            let body = self.post.body(&message)?;
            repeated(|| self.try_once(body.clone())).await
        };
        in_time(self.timeout, sent)
            .await
            .map(|answer| self.rejections.count(&answer))
    }

    async fn try_once(&self, body: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        let answer = self.post.succeed(body).await?;
        // A response other than protobuf says nothing about spans.
        Ok(ExportTraceServiceResponse::decode(answer).unwrap_or_default())
    }
}

/// The gRPC status equivalent to an HTTP status (OTLP, "OTLP/HTTP Response": 429, 502, 503 and 504
/// are retryable).
fn failed(response: &Response<Bytes>) -> Status {
    let status = response.status();
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Code::Unimplemented
        }
        _ => Code::Unknown,
    };
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok());
    let details = ErrorDetails::with_retry_info(wait.map(Duration::from_secs));
    let mut failed = if wait.is_some() {
        Status::with_error_details(code, "", details)
    } else {
        Status::new(code, "")
    };
    failed.set_source(Arc::new(Answered(status)));
    failed
}

/// The status of an unsuccessful response.
#[derive(Debug)]
struct Answered(StatusCode);

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the answer was {}", self.0)
    }
}

impl std::error::Error for Answered {}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::pin::Pin;
    use std::sync::Mutex;

    use opentelemetry_http::HttpError;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::super::metrics::Metrics;
    use super::*;

    /// A collector with a fixed response, which records requests.
    #[derive(Debug)]
    struct Says(u16, Vec<u8>, Mutex<Vec<Request<Bytes>>>);

    impl HttpClient for Says {
        fn send_bytes<'s, 'f>(
            &'s self,
            request: Request<Bytes>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            self.2.lock().unwrap().push(request);
            let response = Response::builder().status(self.0);
            let response = response.body(self.1.clone().into()).map_err(Into::into);
            Box::pin(async move { response })
        }
    }

    fn exporter(status: u16, body: Vec<u8>, gzip: bool) -> (HttpExporter, Arc<Says>, Arc<Metrics>) {
        let metrics = Metrics::new("n");
        let says = Arc::new(Says(status, body, Mutex::default()));
        let client: Arc<dyn HttpClient> = Arc::<Says>::clone(&says);
        let mut headers = HeaderMap::new();
        headers.insert("x-key", HeaderValue::from_static("1"));
        let exporter = HttpExporter {
            post: Post {
                client,
                endpoint: "http://c/v1/traces".to_owned(),
                headers,
                gzip,
            },
            timeout: Duration::from_secs(10),
            resource: ResourceAttributesWithSchema::default(),
            rejections: Rejections {
                metrics: Arc::clone(&metrics),
                most: 512,
            },
        };
        (exporter, says, metrics)
    }

    fn rejects(rejected_spans: i64) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "no".to_owned(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_spans_are_counted_up_to_batch_size() {
        for (status, body, dropped) in [
            (200, rejects(5), 5),
            (200, rejects(0), 0),
            (200, rejects(-5), 0),
            (200, rejects(i64::MAX), 512),
            (200, b"{}".to_vec(), 0),
            (200, Vec::new(), 0),
            (400, rejects(5), 0),
        ] {
            let (exporter, _, metrics) = exporter(status, body.clone(), false);
            let done = exporter.export(Vec::new()).await;
            assert_eq!(done.is_ok(), status == 200);
            assert_eq!(metrics.telemetry_dropped.get(), dropped, "{body:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_transient_failures_are_retried() {
        for (status, requests) in [(200, 1), (400, 1), (404, 1), (503, 4), (429, 4)] {
            let (exporter, says, _) = exporter(status, Vec::new(), false);
            drop(exporter.export(Vec::new()).await);
            assert_eq!(says.2.lock().unwrap().len(), requests, "{status}");
        }
    }

    #[tokio::test]
    async fn request_is_compressed_if_configured() {
        let message = ExportTraceServiceResponse::decode(&*rejects(7)).unwrap();
        for gzip in [true, false] {
            let (exporter, says, _) = exporter(200, Vec::new(), gzip);
            let body = exporter.post.body(&message).unwrap();
            exporter.post.send(body).await.unwrap();
            let request = says.2.lock().unwrap().remove(0);
            assert_eq!(request.headers()["x-key"], "1");
            assert_eq!(request.headers()[CONTENT_TYPE], "application/x-protobuf");
            let encoding = request.headers().get(CONTENT_ENCODING);
            assert_eq!(encoding.is_some(), gzip);
            let mut sent = Vec::new();
            if gzip {
                let mut decoder = flate2::read::GzDecoder::new(&**request.body());
                decoder.read_to_end(&mut sent).unwrap();
            } else {
                sent.extend_from_slice(request.body());
            }
            assert_eq!(sent, rejects(7));
        }
    }
}
