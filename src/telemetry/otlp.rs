//! Initializes tracing: the collector, its client, and the sampler.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::HttpClient;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::resource::v1 as proto;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as _};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::environment::{Environment, Protocol, Signal, Target, ratio};
use super::exporter::{Beside, Exporting, StopSignal};
use super::fanout::Ids;
use super::metrics::Metrics;
use super::otlp_http::{HttpExporter, Post};
use super::otlp_metrics::{Client, MetricsExport};
use super::otlp_spans::{GrpcExporter, Rejections, Spans};
use super::spans::Tracing;

/// The configuration of traces. Standard environment variables override it, as the environment
/// overrides the file everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingSettings {
    /// The collector, as `http://host:4317`. The default scheme is `http`. Empty means none.
    pub otlp_endpoint: String,
    /// `grpc` or `http/protobuf`.
    pub otlp_protocol: String,
    /// The resource's `service.name`.
    pub service_name: String,
    /// The ratio of traces started here that are sampled, 0–1. If a caller sends a trace, its
    /// decision applies.
    pub sample_ratio: f64,
    /// The ratio of deliveries within sampled traces that get their own span, 0–1.
    pub delivery_spans: f64,
}

impl Default for TracingSettings {
    fn default() -> Self {
        TracingSettings {
            otlp_endpoint: String::new(),
            otlp_protocol: "grpc".to_owned(),
            service_name: "tidings".to_owned(),
            sample_ratio: 1.0,
            delivery_spans: 0.01,
        }
    }
}

/// Why tracing could not be initialized. Names the key, and contains no header and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingError(String);

impl TracingError {
    pub(super) fn new(place: &str, problem: impl fmt::Display) -> Self {
        TracingError(format!("{place}: {problem}"))
    }
}

impl fmt::Display for TracingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TracingError {}

impl Tracing {
    /// Initializes tracing from the configuration and the environment. Disabled if neither names a
    /// collector, or by `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER=none`. Never waits for the
    /// collector, which may be started later.
    ///
    /// # Errors
    /// Names the unusable key. An unusable variable is logged and ignored.
    pub fn init(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
    ) -> Result<Tracing, TracingError> {
        Tracing::from_environment(settings, metrics, |name| std::env::var(name).ok())
    }

    pub(super) fn from_environment(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
        variables: impl Fn(&str) -> Option<String>,
    ) -> Result<Tracing, TracingError> {
        let environment = Environment::new(variables);
        let tracing = Self::of(settings, metrics, &environment);
        environment.look_at_the_rest();
        for ignored in environment.ignored() {
            tracing::warn!("{ignored}; the variable is ignored");
        }
        tracing
    }

    fn of<F: Fn(&str) -> Option<String>>(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
        environment: &Environment<F>,
    ) -> Result<Tracing, TracingError> {
        ratio("telemetry.delivery_spans", settings.delivery_spans)?;
        let (sampler, parent_based) = environment.sampler(settings)?;
        let Some(target) = environment.target(settings, Signal::Traces)? else {
            return Ok(Tracing::off());
        };
        let resource = environment.resource(settings, &metrics.node);
        let timeout = environment.timeout(Signal::Traces);
        let headers = environment.headers(Signal::Traces);
        let batching = environment.batching();
        let rejections = Rejections {
            metrics: Arc::clone(metrics),
            most: u64::try_from(batching.batch).unwrap_or(u64::MAX),
        };
        let beside = MetricsPlan::read(environment, settings, &resource, metrics)?;
        let place = target.place.clone();
        let build = {
            let resource = resource.clone();
            move |stopping: StopSignal| {
                let mut exporter = build_exporter(target, headers, timeout, rejections)?;
                exporter.set_resource(&resource);
                let beside: Beside = match beside {
                    Some(plan) => Box::pin(plan.build()?.run(stopping)),
                    None => Box::pin(async {}),
                };
                Ok((exporter, beside))
            }
        };
        let started = Exporting::start(batching, Arc::clone(metrics), build);
        let (queue, exporting) = match started {
            Ok(started) => started,
            Err(problem) if place.starts_with("OTEL_") => {
                environment.ignore(&place, &problem);
                return Ok(Tracing::off());
            }
            Err(problem) => return Err(TracingError::new(&place, problem)),
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_id_generator(Ids::default())
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        Ok(Tracing::on(
            &provider,
            exporting,
            parent_based,
            settings.delivery_spans,
        ))
    }
}

/// The target of metrics. Its client is created later, within a Tokio runtime.
struct MetricsPlan {
    target: Target,
    headers: HeaderMap,
    interval: Duration,
    timeout: Duration,
    resource: Resource,
    metrics: Arc<Metrics>,
}

impl MetricsPlan {
    /// `None` if no collector is configured, or metric export is disabled.
    fn read<F: Fn(&str) -> Option<String>>(
        environment: &Environment<F>,
        settings: &TracingSettings,
        resource: &Resource,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, TracingError> {
        let Some(target) = environment.target(settings, Signal::Metrics)? else {
            return Ok(None);
        };
        Ok(Some(MetricsPlan {
            target,
            headers: environment.headers(Signal::Metrics),
            interval: environment.metrics_interval(),
            timeout: environment.timeout(Signal::Metrics),
            resource: resource.clone(),
            metrics: Arc::clone(metrics),
        }))
    }

    fn build(self) -> Result<MetricsExport, String> {
        let client = match self.target.protocol {
            Protocol::Grpc => {
                let channel = channel(&self.target, self.timeout)?;
                let mut client = MetricsServiceClient::new(channel);
                if self.target.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let headers = self.headers;
                Client::Grpc { client, headers }
            }
            Protocol::Http => Client::Http(post(self.target, self.headers, self.timeout)?),
        };
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        Ok(MetricsExport {
            metrics: self.metrics,
            resource: proto::Resource {
                attributes: resource.attributes.0,
                ..proto::Resource::default()
            },
            client,
            interval: self.interval,
            timeout: self.timeout,
        })
    }
}

/// Creates the exporter. Must be called within a runtime, which its client uses.
fn build_exporter(
    target: Target,
    headers: HeaderMap,
    timeout: Duration,
    rejections: Rejections,
) -> Result<Spans, String> {
    let resource = ResourceAttributesWithSchema::default();
    Ok(match target.protocol {
        Protocol::Grpc => Spans::Grpc(GrpcExporter {
            channel: channel(&target, timeout)?,
            headers,
            gzip: target.gzip,
            timeout,
            resource,
            rejections,
        }),
        Protocol::Http => Spans::Http(HttpExporter {
            post: post(target, headers, timeout)?,
            timeout,
            resource,
            rejections,
        }),
    })
}

fn post(target: Target, headers: HeaderMap, timeout: Duration) -> Result<Post, String> {
    Ok(Post {
        client: http_client(&target, timeout)?,
        endpoint: target.endpoint,
        headers,
        gzip: target.gzip,
    })
}

/// Connects on first use.
fn channel(target: &Target, timeout: Duration) -> Result<Channel, String> {
    let mut endpoint = Endpoint::from_shared(target.endpoint.clone())
        .map_err(|error| error.to_string())?
        .connect_timeout(timeout)
        .timeout(timeout);
    if target.endpoint.starts_with("https:") {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint
            .tls_config(tls)
            .map_err(|error| error.to_string())?;
    }
    Ok(endpoint.connect_lazy())
}

/// A client with or without TLS.
fn http_client(target: &Target, timeout: Duration) -> Result<Arc<dyn HttpClient>, String> {
    if !target.endpoint.starts_with("https:") {
        return Ok(Arc::new(HyperClient::with_default_connector(timeout, None)));
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| error.to_string())?
        .https_only()
        .enable_http1()
        .build();
    Ok(Arc::new(HyperClient::new(connector, timeout, None)))
}
