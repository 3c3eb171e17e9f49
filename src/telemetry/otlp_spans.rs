//! Spans over OTLP. The SDK's clients only log how many spans a collector took and then threw
//! away (a partial success); here they are counted. For gRPC that takes a client of our own.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::SpanExporter as HttpExporter;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::metrics::Metrics;

/// How often a request is repeated, and how long the first repeat waits; each further one waits
/// twice as long, as in the SDK. All of them wait somewhat longer, by chance: servers whom one
/// collector has turned away together shall not come back together.
const RETRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Counts the spans that a collector throws away.
#[derive(Debug, Clone)]
pub(super) struct Rejections {
    pub(super) metrics: Arc<Metrics>,
    /// The most spans of one request: a collector that says more is wrong.
    pub(super) most: u64,
}

impl Rejections {
    fn count(&self, answer: &ExportTraceServiceResponse) {
        let said = answer.partial_success.as_ref().map(|p| p.rejected_spans);
        let rejected = said.and_then(|count| u64::try_from(count).ok());
        let rejected = rejected.unwrap_or(0).min(self.most);
        if rejected > 0 {
            self.metrics.telemetry_dropped(rejected);
            tracing::debug!(rejected, "the collector took spans and threw them away");
        }
    }
}

/// A client for the SDK's exporter over HTTP, which counts what its answers reject.
#[derive(Debug)]
pub(super) struct Counting<C> {
    pub(super) client: C,
    pub(super) rejections: Rejections,
}

impl<C: HttpClient> HttpClient for Counting<C> {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let response = self.client.send_bytes(request).await?;
            // Anything else than protobuf says nothing about spans; the SDK ignores it too.
            if response.status().is_success()
                && let Ok(answer) = ExportTraceServiceResponse::decode(response.body().as_ref())
            {
                self.rejections.count(&answer);
            }
            Ok(response)
        })
    }
}

/// Sends spans over gRPC.
#[derive(Debug)]
pub(super) struct GrpcExporter {
    pub(super) channel: Channel,
    /// From `OTEL_EXPORTER_OTLP_HEADERS`; may hold secrets, so it is never logged.
    pub(super) headers: HeaderMap,
    /// How long one export may take, retries included.
    pub(super) timeout: Duration,
    pub(super) resource: ResourceAttributesWithSchema,
    pub(super) rejections: Rejections,
}

impl GrpcExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let sent = self.send(ExportTraceServiceRequest { resource_spans });
        match tokio::time::timeout(self.timeout, sent).await {
            Ok(Ok(answer)) => {
                self.rejections.count(&answer);
                Ok(())
            }
            Ok(Err(status)) => Err(OTelSdkError::InternalFailure(reason(&status))),
            Err(_) => Err(OTelSdkError::Timeout(self.timeout)),
        }
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
        Ok(client.export(request).await?.into_inner())
    }
}

/// Asks until there is an answer that a repeat can't better, [`RETRIES`] times more at most.
async fn repeated<T, A>(mut ask: impl FnMut() -> A) -> Result<T, Status>
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

/// `wait` and up to half of it more, as `chance` (0 to 1) has it: never earlier than a collector
/// asked for. What is too long to count is the longest there is.
fn spread_out(wait: Duration, chance: f64) -> Duration {
    let more = Duration::try_from_secs_f64(wait.as_secs_f64() * chance / 2.0);
    wait.saturating_add(more.unwrap_or(Duration::MAX))
}

/// Whether a repeat may fare better (OTLP specification, "Failures").
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

/// Why an export failed, for a log: the code, and what went wrong on this side. The collector's
/// own words may repeat a secret of the headers.
fn reason(status: &Status) -> String {
    let causes = std::iter::successors(status.source(), |&cause| cause.source());
    causes.fold(format!("{:?}", status.code()), |text, cause| {
        format!("{text}: {cause}")
    })
}

/// Sends spans by either protocol.
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
            Spans::Http(exporter) => exporter.set_resource(resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use tonic_types::ErrorDetails;

    #[derive(Debug)]
    struct Says(u16, Vec<u8>);

    impl HttpClient for Says {
        fn send_bytes<'s, 'f>(
            &'s self,
            _: Request<Bytes>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            let response = Response::builder().status(self.0);
            let response = response.body(self.1.clone().into()).map_err(Into::into);
            Box::pin(async move { response })
        }
    }

    fn rejects(rejected_spans: i64) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans,
            error_message: "no".to_owned(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    #[tokio::test]
    async fn what_an_answer_over_http_rejects_is_counted_within_reason() {
        for (status, body, dropped) in [
            (200, rejects(5), 5),
            (200, rejects(0), 0),
            (200, rejects(-5), 0),
            (200, rejects(i64::MAX), 512),
            (200, b"{}".to_vec(), 0),
            (200, Vec::new(), 0),
            (503, rejects(5), 0),
        ] {
            let metrics = Metrics::new("n");
            let client = Counting {
                client: Says(status, body.clone()),
                rejections: Rejections {
                    metrics: Arc::clone(&metrics),
                    most: 512,
                },
            };
            let answer = client.send_bytes(Request::default()).await.unwrap();
            assert_eq!(answer.body(), &body, "the SDK sees the answer too");
            assert_eq!(metrics.telemetry_dropped.get(), dropped, "{body:?}");
        }
    }

    #[test]
    fn a_full_collector_is_asked_again_only_where_it_says_when() {
        assert!(passes(&Status::unavailable("")));
        assert!(!passes(&Status::unimplemented("")));
        assert!(!passes(&Status::resource_exhausted("")));
        let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let later = Status::with_error_details(Code::ResourceExhausted, "", later);
        assert!(passes(&later));
    }

    #[test]
    fn repeats_wait_at_least_as_long_as_asked_and_at_most_half_longer() {
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
    async fn a_collector_that_turns_everything_away_is_asked_four_times_at_growing_distances() {
        let asked = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let asked = Status::with_error_details(Code::ResourceExhausted, "", asked);
        // 100 + 200 + 400 ms of our own, or three times what the collector says.
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
            // The timer counts whole milliseconds and rounds up.
            let most = least * 3 / 2 + Duration::from_millis(3);
            let took = started.elapsed();
            assert!((least..=most).contains(&took), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_repeat_can_not_mend_is_not_repeated() {
        let mut count = 0;
        let done: Result<(), Status> = repeated(|| {
            count += 1;
            std::future::ready(Err(Status::unimplemented("")))
        })
        .await;
        assert_eq!((done.unwrap_err().code(), count), (Code::Unimplemented, 1));
    }

    #[test]
    fn the_words_of_a_collector_stay_out_of_the_log() {
        assert_eq!(reason(&Status::internal("Bearer s3cret")), "Internal");
    }
}
