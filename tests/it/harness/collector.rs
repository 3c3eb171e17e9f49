//! An OTLP collector that records the spans that it receives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::task::JoinSet;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::{Config, eventually};

/// A collector, stopped on drop.
pub struct Collector {
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
    compressed: Arc<AtomicBool>,
}

struct Keeping {
    spans: Arc<Mutex<Vec<Span>>>,
    /// Whether any request was compressed.
    compressed: Arc<AtomicBool>,
    /// Whether it reports all spans as rejected.
    rejects: bool,
}

#[tonic::async_trait]
impl TraceService for Keeping {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let encoding = request.metadata().get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding == "gzip") {
            self.compressed.store(true, Ordering::SeqCst);
        }
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|r| r.scope_spans);
        let spans: Vec<Span> = scopes.flat_map(|s| s.spans).collect();
        let partial_success = self.rejects.then(|| ExportTracePartialSuccess {
            rejected_spans: i64::try_from(spans.len()).unwrap(),
            error_message: "no".to_owned(),
        });
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse {
            partial_success,
        }))
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    /// A collector that reports all spans as rejected.
    pub async fn rejecting() -> Self {
        Self::start_as(true).await
    }

    async fn start_as(rejects: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let compressed = Arc::<AtomicBool>::default();
        let service = TraceServiceServer::new(Keeping {
            spans: Arc::clone(&spans),
            compressed: Arc::clone(&compressed),
            rejects,
        })
        .accept_compressed(CompressionEncoding::Gzip);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        let mut serving = JoinSet::new();
        serving.spawn(server.serve_with_incoming(incoming));
        Self {
            _serving: serving,
            address,
            spans,
            compressed,
        }
    }

    /// True if any request was compressed.
    pub fn was_compressed(&self) -> bool {
        self.compressed.load(Ordering::SeqCst)
    }

    /// Configures a server to export its spans here, with little delay.
    pub fn of(&self, config: Config) -> Config {
        config
            .set(
                "telemetry.otlp_endpoint",
                &format!(r#""http://{}""#, self.address),
            )
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .env("OTEL_METRICS_EXPORTER", "none")
    }

    /// The spans with this name so far.
    pub fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|s| s.name == name).cloned().collect()
    }

    /// The number of spans so far.
    pub fn count(&self) -> u64 {
        self.spans.lock().unwrap().len().try_into().unwrap()
    }

    /// Waits for this many spans with this name.
    pub async fn wait(&self, name: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} × {name}"), async || {
            Some(self.named(name)).filter(|found| found.len() >= count)
        })
        .await
    }

    /// Waits for the one span with this name.
    pub async fn one(&self, name: &str) -> Span {
        self.wait(name, 1).await.remove(0)
    }
}

/// An attribute as text.
pub fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    let value = found.and_then(|pair| pair.value.as_ref()?.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => panic!("no {key} in {:?}", span.attributes),
    }
}
