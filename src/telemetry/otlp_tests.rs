//! Tests of how the configuration and the environment determine a collector.

use std::time::Duration;

use proptest::prelude::*;

use super::environment::{Environment, Protocol, Signal};
use super::*;

fn environment(
    pairs: &'static [(&'static str, &'static str)],
) -> Environment<impl Fn(&str) -> Option<String>> {
    Environment::new(|name: &str| {
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
fn signal_variable_overrides_general_and_file() {
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
        Some(("http://own:3/x".to_owned(), Protocol::Http))
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
fn unusable_setting_is_refused_with_its_key() {
    let on = to("http://c:4317", "grpc");
    for (settings, expected) in [
        (to("ftp://c", "grpc"), "telemetry.otlp_endpoint: "),
        (to("http://", "grpc"), "telemetry.otlp_endpoint: "),
        (to("http://:4317", "grpc"), "telemetry.otlp_endpoint: "),
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
        let metrics = Metrics::new("n");
        let error = Tracing::from_environment(&settings, &metrics, |_| None).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

/// The result of an environment, and its warnings.
fn read(pairs: &'static [(&'static str, &'static str)]) -> (String, Vec<String>) {
    let (environment, on) = (environment(pairs), to("http://c:4317", "grpc"));
    let target = environment.target(&on, Signal::Traces).unwrap();
    let target = target.map(|target| (target.endpoint, target.protocol, target.gzip));
    let sampler = environment.sampler(&on).unwrap();
    let batching = environment.batching();
    let timeout = environment.timeout(Signal::Traces);
    let resource = environment.resource(&on, "node-1").len();
    let headers = environment.headers(Signal::Traces).len();
    environment.look_at_the_rest();
    let read = format!("{target:?} {sampler:?} {batching:?} {timeout:?} {resource} {headers}");
    (read, environment.ignored())
}

#[test]
fn unusable_variable_is_reported_and_ignored() {
    let (usual, warnings) = read(&[]);
    assert_eq!(warnings, Vec::<String>::new());
    macro_rules! ignored {
        ($($name:literal = $value:literal),* $(,)?) => {$(
            let (found, warnings) = read(&[($name, $value)]);
            assert_eq!(found, usual, "{}", $name);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with(concat!($name, ": ")), "{warnings:?}");
        )*};
    }
    ignored! {
        "OTEL_SDK_DISABLED" = "1",
        "OTEL_TRACES_EXPORTER" = "console",
        "OTEL_TRACES_SAMPLER" = "xray",
        "OTEL_TRACES_SAMPLER" = "parentbased_jaeger_remote",
        "OTEL_BSP_SCHEDULE_DELAY" = "0",
        "OTEL_BSP_SCHEDULE_DELAY" = "-1",
        "OTEL_BSP_MAX_QUEUE_SIZE" = "0",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" = "many",
        "OTEL_EXPORTER_OTLP_COMPRESSION" = "zstd",
        "OTEL_EXPORTER_OTLP_PROTOCOL" = "carrier pigeon",
        "OTEL_EXPORTER_OTLP_ENDPOINT" = "ftp://c",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" = "http://",
        "OTEL_EXPORTER_OTLP_TIMEOUT" = "10s",
        "OTEL_EXPORTER_OTLP_TIMEOUT" = "0",
        "OTEL_EXPORTER_OTLP_HEADERS" = "s3cret",
        "OTEL_EXPORTER_OTLP_CERTIFICATE" = "/etc/ca.pem",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" = "delta",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION" = "base2_exponential_bucket_histogram",
        "OTEL_RESOURCE_ATTRIBUTES" = "nonsense,=x",
        "OTEL_PROPAGATORS" = "tracecontext,b3",
    }
    let (_, warnings) = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")]);
    assert!(!warnings[0].contains("s3cret"));
    for pairs in [
        [("OTEL_SDK_DISABLED", "False")].as_slice(),
        &[("OTEL_TRACES_EXPORTER", "otlp")],
        &[("OTEL_PROPAGATORS", "tracecontext,baggage")],
        &[("OTEL_EXPORTER_OTLP_COMPRESSION", "none")],
    ] {
        let environment = Environment::new(|name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let on = to("http://c:4317", "grpc");
        assert!(environment.target(&on, Signal::Traces).unwrap().is_some());
        environment.look_at_the_rest();
        assert_eq!(environment.ignored(), Vec::<String>::new());
    }
}

#[test]
fn cluster_wide_variables_apply_where_supported() {
    let of = |signal, pairs| {
        let environment = environment(pairs);
        let target = environment.target(&to("http://c:4318", "grpc"), signal);
        let target = target.unwrap().map(|t| (t.protocol, t.gzip));
        (target, environment.ignored().len())
    };
    let gzip = &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
    assert_eq!(of(Signal::Traces, gzip), (Some((Protocol::Grpc, true)), 0));
    let own = &[
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
    ];
    assert_eq!(of(Signal::Metrics, own), (Some((Protocol::Grpc, false)), 0));
    let json = &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
    assert_eq!(of(Signal::Traces, json), (Some((Protocol::Http, false)), 1));
    // The signal's own variable is unusable, so the general one applies.
    let own = &[
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "x"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    assert_eq!(of(Signal::Traces, own), (Some((Protocol::Http, false)), 1));
    let prometheus = &[("OTEL_METRICS_EXPORTER", "prometheus")];
    assert_eq!(of(Signal::Metrics, prometheus), (None, 0));
}

#[test]
fn attributes_are_decoded_and_the_names_of_the_environment_win() {
    let pairs = &[
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "a=b%20c,service.name=x, k = v ,y",
        ),
        ("OTEL_SERVICE_NAME", "named"),
    ];
    let environment = environment(pairs);
    let resource = environment.resource(&TracingSettings::default(), "node-1");
    let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(value("a").as_deref(), Some("b c"));
    assert_eq!(value("k").as_deref(), Some("v"));
    assert_eq!(value("service.name").as_deref(), Some("named"));
    assert_eq!(
        value("telemetry.sdk.name").as_deref(),
        Some("opentelemetry")
    );
    assert_eq!(environment.ignored().len(), 1);
}

/// Every variable of OpenTelemetry's specification for the implemented features.
const VARIABLES: [&str; 24] = [
    "OTEL_SDK_DISABLED",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
];

/// Valid, unusual and invalid values.
fn value() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "",
        " ",
        "true",
        "none",
        "otlp",
        "gzip",
        "http/json",
        "grpc",
        "xray",
        "0",
        "-1",
        "1e999",
        "NaN",
        "18446744073709551616",
        "a=b",
        "a=%zz,,=,b",
        "https://c",
        "http://[::1",
        "http://:1",
        "//",
        "parentbased_traceidratio",
        "0.5",
        "delta",
    ];
    prop_oneof![
        proptest::sample::select(KNOWN).prop_map(str::to_owned),
        any::<String>()
    ]
}

proptest! {
    #[test]
    fn no_variable_prevents_the_start(
        values in proptest::collection::hash_map(proptest::sample::select(&VARIABLES[..]), value(), 0..12),
        endpoint in prop_oneof![Just(""), Just("http://127.0.0.1:1")],
        http in any::<bool>(),
    ) {
        let settings = to(endpoint, if http { "http/protobuf" } else { "grpc" });
        let metrics = Metrics::new("n");
        let variables = |name: &str| values.get(name).cloned();
        let tracing = Tracing::from_environment(&settings, &metrics, variables);
        prop_assert!(tracing.is_ok(), "{:?}", tracing.err());
    }
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
fn service_name_from_environment_takes_precedence() {
    let settings = TracingSettings {
        service_name: "file".to_owned(),
        ..TracingSettings::default()
    };
    let resource = environment(&[]).resource(&settings, "node-1");
    let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(value("service.name").as_deref(), Some("file"));
    assert_eq!(value("service.instance.id").as_deref(), Some("node-1"));
}

/// Both clients are built within the exporter's runtime, without a collector: that must neither
/// fail nor block.
#[test]
fn unreachable_collector_at_start_is_no_error() {
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
