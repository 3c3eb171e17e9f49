//! Spans over OTLP. The SDK's clients only log how many accepted spans a collector discarded (a
//! partial success), and exit for unusable variables. Hence, these clients are our own.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::metrics::Metrics;
use super::otlp_http::HttpExporter;

/// The number of retries, and the delay of the first. Each further delay is doubled, as in the SDK.
/// All delays have jitter, so that servers that one collector has rejected do not retry
/// simultaneously.
const RETRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Counts spans that a collector discards.
#[derive(Debug, Clone)]
pub(super) struct Rejections {
    pub(super) metrics: Arc<Metrics>,
    /// The most spans of one request. A collector that reports more is wrong.
    pub(super) most: u64,
}

impl Rejections {
    pub(super) fn count(&self, answer: &ExportTraceServiceResponse) {
        let reported = answer.partial_success.as_ref().map(|p| p.rejected_spans);
        let rejected = reported.and_then(|count| u64::try_from(count).ok());
        let rejected = rejected.unwrap_or(0).min(self.most);
        if rejected > 0 {
            self.metrics.telemetry_dropped(rejected);
            tracing::debug!(
                rejected,
                "the collector rejected spans after accepting the request"
            );
        }
    }
}

/// Exports spans over gRPC.
#[derive(Debug)]
pub(super) struct GrpcExporter {
    pub(super) channel: Channel,
    /// From `OTEL_EXPORTER_OTLP_HEADERS`. May contain secrets, so it is never logged.
    pub(super) headers: HeaderMap,
    pub(super) gzip: bool,
    /// The timeout of one export including retries.
    pub(super) timeout: Duration,
    pub(super) resource: ResourceAttributesWithSchema,
    pub(super) rejections: Rejections,
}

impl GrpcExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let sent = self.send(ExportTraceServiceRequest { resource_spans });
        in_time(self.timeout, sent)
            .await
            .map(|answer| self.rejections.count(&answer))
    }

    async fn send(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Status> {
        repeated(|| self.try_once(request.clone())).await
    }

    async fn try_once(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        let mut client = TraceServiceClient::new(self.channel.clone());
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(client.export(request).await?.into_inner())
    }
}

/// The response to an export, unless it times out.
pub(super) async fn in_time<T>(
    timeout: Duration,
    sent: impl Future<Output = Result<T, Status>>,
) -> Result<T, OTelSdkError> {
    match tokio::time::timeout(timeout, sent).await {
        Ok(sent) => sent.map_err(|status| OTelSdkError::InternalFailure(reason(&status))),
        Err(_) => Err(OTelSdkError::Timeout(timeout)),
    }
}

/// Retries until there is a success or a permanent failure, at most [`RETRIES`] times.
pub(super) async fn repeated<T, A>(mut ask: impl FnMut() -> A) -> Result<T, Status>
where
    A: Future<Output = Result<T, Status>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 0..RETRIES {
        match ask().await {
            Err(status) if passes(&status) => {
                let asked = status.get_details_retry_info();
                let asked = asked.and_then(|info| info.retry_delay);
                let wait = spread_out(asked.unwrap_or(wait), fastrand::f64());
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
        wait *= 2;
    }
    ask().await
}

/// `wait` plus up to half of it, selected by `chance` (0 to 1), so never earlier than a collector
/// requested. Saturates on overflow.
fn spread_out(wait: Duration, chance: f64) -> Duration {
    let more = Duration::try_from_secs_f64(wait.as_secs_f64() * chance / 2.0);
    wait.saturating_add(more.unwrap_or(Duration::MAX))
}

/// Whether the failure is retryable (OTLP specification, "Failures").
fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

/// Why an export failed, for a log: the code, and the local error. The collector's message may
/// repeat a secret of the headers.
pub(super) fn reason(status: &Status) -> String {
    let causes = std::iter::successors(status.source(), |&cause| cause.source());
    causes.fold(format!("{:?}", status.code()), |text, cause| {
        format!("{text}: {cause}")
    })
}

/// Exports spans with either protocol.
#[derive(Debug)]
pub(super) enum Spans {
    Grpc(GrpcExporter),
    Http(HttpExporter),
}

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self {
            Spans::Grpc(exporter) => exporter.export(batch).await,
            Spans::Http(exporter) => exporter.export(batch).await,
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self {
            Spans::Grpc(exporter) => exporter.resource = resource.into(),
            Spans::Http(exporter) => exporter.resource = resource.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn full_collector_is_retried_only_with_delay() {
        assert!(passes(&Status::unavailable("")));
        assert!(!passes(&Status::unimplemented("")));
        assert!(!passes(&Status::resource_exhausted("")));
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let later = Status::with_error_details(Code::ResourceExhausted, "", later);
        assert!(passes(&later));
    }

    #[test]
    fn retry_delay_has_bounded_jitter() {
        let mut chances = fastrand::Rng::with_seed(7);
        let waits: Vec<_> = (0..100)
            .map(|_| spread_out(FIRST_WAIT, chances.f64()))
            .collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= FIRST_WAIT && *most <= FIRST_WAIT * 3 / 2);
        assert!(*most > *least + FIRST_WAIT / 4, "{least:?} to {most:?}");
        assert_eq!(spread_out(Duration::MAX, 1.0), Duration::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn refusing_collector_is_tried_four_times() {
        let asked = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let asked = Status::with_error_details(Code::ResourceExhausted, "", asked);
        // 100 + 200 + 400 ms of our own, or three times the collector's delay.
        for (answer, least) in [(Status::unavailable(""), 700), (asked, 3000)] {
            let least = Duration::from_millis(least);
            let (started, mut count) = (tokio::time::Instant::now(), 0);
            let done: Result<(), Status> = repeated(|| {
                count += 1;
                std::future::ready(Err(answer.clone()))
            })
            .await;
            assert_eq!(done.unwrap_err().code(), answer.code());
            assert_eq!(count, 4);
            // The timer has a resolution of a millisecond and rounds up.
            let most = least * 3 / 2 + Duration::from_millis(3);
            let took = started.elapsed();
            assert!((least..=most).contains(&took), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_failure_is_not_retried() {
        let mut count = 0;
        let done: Result<(), Status> = repeated(|| {
            count += 1;
            std::future::ready(Err(Status::unimplemented("")))
        })
        .await;
        assert_eq!((done.unwrap_err().code(), count), (Code::Unimplemented, 1));
    }

    #[test]
    fn collector_message_is_not_logged() {
        assert_eq!(reason(&Status::internal("Bearer s3cret")), "Internal");
    }
}
