//! How the configuration and the environment lead to a collector.

use std::time::Duration;

use opentelemetry_otlp::Protocol;

use super::environment::{Environment, Signal};
use super::*;

fn environment(
    pairs: &'static [(&'static str, &'static str)],
) -> Environment<impl Fn(&str) -> Option<String>> {
    Environment(|name: &str| {
        pairs
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn to(endpoint: &str, protocol: &str) -> TracingSettings {
    TracingSettings {
        otlp_endpoint: endpoint.to_owned(),
        otlp_protocol: protocol.to_owned(),
        ..TracingSettings::default()
    }
}

fn target(
    settings: &TracingSettings,
    pairs: &'static [(&'static str, &'static str)],
) -> Option<(String, Protocol)> {
    let target = environment(pairs).target(settings, Signal::Traces).unwrap();
    target.map(|target| (target.endpoint, target.protocol))
}

#[test]
fn tracing_is_off_where_nothing_names_a_collector_or_the_environment_says_so() {
    let on = to("http://c:4317", "grpc");
    assert_eq!(
        target(
            &TracingSettings::default(),
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]
        ),
        None
    );
    assert_eq!(target(&on, &[("OTEL_SDK_DISABLED", "TRUE")]), None);
    assert_eq!(target(&on, &[("OTEL_TRACES_EXPORTER", "none")]), None);
    let metrics = Metrics::new("n");
    let off = Tracing::from_environment(&TracingSettings::default(), &metrics, |_| None);
    assert!(!off.unwrap().enabled());
}

#[test]
fn the_environment_wins_over_the_file_and_the_signals_own_over_the_general() {
    let file = to("file:1", "grpc");
    assert_eq!(
        target(&file, &[]),
        Some(("http://file:1".to_owned(), Protocol::Grpc))
    );
    let general = &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:2")];
    assert_eq!(
        target(&file, general),
        Some(("http://general:2".to_owned(), Protocol::Grpc))
    );
    let both = &[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:2"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:3/x"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    assert_eq!(
        target(&file, both),
        Some(("http://own:3/x".to_owned(), Protocol::HttpBinary))
    );
}

#[test]
fn over_http_a_general_endpoint_gets_the_path_of_traces() {
    for base in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
        let found = target(&to(base, "http/protobuf"), &[]).unwrap().0;
        assert_eq!(found, "http://c:4318/v1/traces", "{base}");
    }
}

#[test]
fn metrics_go_to_the_same_collector_unless_they_are_told_otherwise() {
    let metrics = |protocol, pairs| {
        let settings = to("http://c:4318/v1/traces", protocol);
        let target = environment(pairs)
            .target(&settings, Signal::Metrics)
            .unwrap();
        target.map(|target| target.endpoint)
    };
    assert_eq!(
        metrics("http/protobuf", &[]).as_deref(),
        Some("http://c:4318/v1/metrics")
    );
    assert_eq!(metrics("grpc", &[("OTEL_METRICS_EXPORTER", "none")]), None);
    let own = &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:1/push")];
    assert_eq!(
        metrics("http/protobuf", own).as_deref(),
        Some("http://m:1/push")
    );
}

#[test]
fn headers_are_decoded_and_kept_out_of_sight() {
    let pairs = &[(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20s3cret, x-a=1%,bad name=x,y",
    )];
    let headers = environment(pairs).headers(Signal::Metrics);
    assert_eq!(headers.len(), 2);
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["x-a"], "1%");
    assert!(!format!("{headers:?}").contains("s3cret"));
}

#[test]
fn what_cannot_be_used_is_refused_by_its_name() {
    let message = |settings: &TracingSettings, pairs| {
        let metrics = Metrics::new("n");
        let variables = environment(pairs).0;
        Tracing::from_environment(settings, &metrics, variables)
            .unwrap_err()
            .to_string()
    };
    let on = to("http://c:4317", "grpc");
    for (settings, expected) in [
        (to("ftp://c", "grpc"), "telemetry.otlp_endpoint: "),
        (to("http://", "grpc"), "telemetry.otlp_endpoint: "),
        (
            to("http://c", "carrier pigeon"),
            "telemetry.otlp_protocol: ",
        ),
        (
            TracingSettings {
                sample_ratio: 1.5,
                ..on.clone()
            },
            "telemetry.sample_ratio: ",
        ),
        (
            TracingSettings {
                delivery_spans: -1.0,
                ..on.clone()
            },
            "telemetry.delivery_spans: ",
        ),
    ] {
        let error = message(&settings, &[]);
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(message(&on, &[("OTEL_TRACES_SAMPLER", "xray")]).starts_with("OTEL_TRACES_SAMPLER: "));
    let pairs = &[
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert!(message(&on, pairs).starts_with("OTEL_TRACES_SAMPLER_ARG: "));
    assert!(
        message(&on, &[("OTEL_BSP_MAX_QUEUE_SIZE", "0")]).starts_with("OTEL_BSP_MAX_QUEUE_SIZE: ")
    );
    assert!(
        message(&on, &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")])
            .starts_with("OTEL_EXPORTER_OTLP_COMPRESSION: ")
    );
    assert!(
        message(&on, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "x")])
            .starts_with("OTEL_EXPORTER_OTLP_TIMEOUT: ")
    );
}

#[test]
fn samplers_are_named_as_the_standard_does() {
    let settings = TracingSettings {
        sample_ratio: 0.25,
        ..TracingSettings::default()
    };
    let sampler = |pairs| {
        let (sampler, parent_based) = environment(pairs).sampler(&settings).unwrap();
        (format!("{sampler:?}"), parent_based)
    };
    assert_eq!(
        sampler(&[]),
        ("ParentBased(TraceIdRatioBased(0.25))".to_owned(), true)
    );
    assert_eq!(
        sampler(&[("OTEL_TRACES_SAMPLER", "always_off")]),
        ("AlwaysOff".to_owned(), false)
    );
    let ratio = &[
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
    ];
    assert_eq!(
        sampler(ratio),
        ("ParentBased(TraceIdRatioBased(0.5))".to_owned(), true)
    );
}

#[test]
fn the_services_name_comes_from_the_environment_first() {
    let settings = TracingSettings {
        service_name: "file".to_owned(),
        ..TracingSettings::default()
    };
    let resource = environment(&[]).resource(&settings, "node-1");
    let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(value("service.name").as_deref(), Some("file"));
    assert_eq!(value("service.instance.id").as_deref(), Some("node-1"));
}

/// Both clients are built within the exporter's runtime, with nobody listening: that must
/// neither fail nor wait.
#[test]
fn a_collector_that_is_not_there_yet_is_no_error() {
    for (endpoint, protocol) in [
        ("http://127.0.0.1:1", "grpc"),
        ("http://127.0.0.1:1", "http/protobuf"),
        ("https://127.0.0.1:1", "grpc"),
        ("https://127.0.0.1:1", "http/protobuf"),
    ] {
        let metrics = Metrics::new("n");
        let tracing = Tracing::from_environment(&to(endpoint, protocol), &metrics, |_| None);
        let tracing = tracing.unwrap_or_else(|error| panic!("{endpoint} {protocol}: {error}"));
        drop(tracing.authenticate(None));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(tracing.shutdown(Duration::ZERO));
        assert_eq!(metrics.telemetry_dropped.get(), 1, "{endpoint} {protocol}");
    }
}
