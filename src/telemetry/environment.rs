//! The standard `OTEL_*` variables, merged with the configuration.
//!
//! They are often set for a whole cluster and all kinds of programs, so none of them prevents the
//! start. An unusable value is warned about once and ignored, as the OpenTelemetry specification
//! requires ("Environment Variable Specification").

use std::cell::RefCell;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use super::exporter::Batching;
use super::otlp::{TracingError, TracingSettings};

/// The timeout of one export including retries, unless `OTEL_EXPORTER_OTLP_TIMEOUT` overrides it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The interval of metric exports, unless `OTEL_METRIC_EXPORT_INTERVAL` overrides it.
const METRICS_INTERVAL: Duration = Duration::from_mins(1);

/// The configuration key of the protocol.
const PROTOCOL_KEY: &str = "telemetry.otlp_protocol";

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// The signal in the names of variables.
    const fn name(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }

    /// The path of OTLP over HTTP.
    const fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        }
    }
}

/// The transport of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// A collector and its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: String,
    /// The variable or key that names it.
    pub(super) place: String,
    pub(super) protocol: Protocol,
    /// Whether exports are compressed.
    pub(super) gzip: bool,
}

/// The process's environment variables.
pub(super) struct Environment<F> {
    variable: F,
    /// Warnings about unusable variables.
    ignored: RefCell<Vec<String>>,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    pub(super) fn new(variable: F) -> Self {
        Environment {
            variable,
            ignored: RefCell::default(),
        }
    }

    /// The unusable variables, each once. Values are not included, because some are secret.
    pub(super) fn ignored(&self) -> Vec<String> {
        self.ignored.borrow().clone()
    }

    pub(super) fn ignore(&self, name: &str, expected: &str) {
        let warning = format!("{name}: {expected}");
        let mut ignored = self.ignored.borrow_mut();
        if !ignored.contains(&warning) {
            ignored.push(warning);
        }
    }

    /// A variable. An empty one counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// The signal's variable and the general one, if they are set, with their names.
    fn otlp(&self, signal: Signal, what: &str) -> impl Iterator<Item = (String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name());
        let names = [own, format!("OTEL_EXPORTER_OTLP_{what}")];
        names
            .into_iter()
            .filter_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// The first usable one of these variables. For the others, a warning says what was expected.
    fn usable<T>(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        variables.into_iter().find_map(|(name, value)| {
            let read = read(&value);
            if read.is_none() {
                self.ignore(&name, expected);
            }
            read
        })
    }

    fn one(&self, name: &str) -> Option<(String, String)> {
        self.get(name).map(|value| (name.to_owned(), value))
    }

    /// True if the environment disables this signal's export.
    fn is_off(&self, signal: Signal) -> bool {
        let expected = "expected true or false";
        let disabled = self.usable(self.one("OTEL_SDK_DISABLED"), expected, |value| match value
            .to_ascii_lowercase()
            .as_str()
        {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        let name = format!("OTEL_{}_EXPORTER", signal.name());
        let exporters = self.get(&name).unwrap_or_default();
        let listed: Vec<&str> = exporters.split(',').map(str::trim).collect();
        // The Prometheus endpoint /metrics always exists.
        let elsewhere = signal == Signal::Metrics && listed == ["prometheus"];
        let known = |exporter: &&str| {
            matches!(*exporter, "" | "otlp" | "none")
                || signal == Signal::Metrics && *exporter == "prometheus"
        };
        if !listed.iter().all(known) {
            self.ignore(&name, "expected otlp or none");
        }
        disabled == Some(true) || listed == ["none"] || elsewhere
    }

    /// The collector. `None` if none is configured.
    ///
    /// # Errors
    /// Names the unusable configuration key.
    pub(super) fn target(
        &self,
        settings: &TracingSettings,
        signal: Signal,
    ) -> Result<Option<Target>, TracingError> {
        let configured = settings.otlp_endpoint.trim();
        let configured = (!configured.is_empty()).then(|| with_scheme(configured));
        if let Some(endpoint) = &configured {
            check_endpoint(endpoint)
                .map_err(|problem| TracingError::new("telemetry.otlp_endpoint", problem))?;
        }
        let of_file = match settings.otlp_protocol.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::Http,
            _ => {
                let expected = "expected grpc or http/protobuf";
                return Err(TracingError::new(PROTOCOL_KEY, expected));
            }
        };
        if self.is_off(signal) {
            return Ok(None);
        }
        let expected = "expected http://host:port or https://host:port";
        let own_name = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name());
        let usable = |name: &str| {
            let endpoint = self.usable(self.one(name), expected, |value| {
                let endpoint = with_scheme(value);
                check_endpoint(&endpoint).is_ok().then_some(endpoint)
            });
            endpoint.map(|endpoint| (name.to_owned(), endpoint))
        };
        let own = usable(&own_name);
        let general = usable("OTEL_EXPORTER_OTLP_ENDPOINT");
        let file = configured.map(|endpoint| ("telemetry.otlp_endpoint".to_owned(), endpoint));
        if own.is_none() && general.is_none() && file.is_none() {
            return Ok(None);
        }
        let protocol = self.protocol(signal).unwrap_or(of_file);
        // Only the general endpoint gets the signal's path appended (OTLP exporter, "Endpoint
        // URLs").
        let (place, endpoint) = match (own, general.or(file)) {
            (Some(own), _) => own,
            (None, Some((place, base))) if protocol == Protocol::Grpc => (place, base),
            (None, Some((place, base))) => {
                // Some users include the path of traces in the general endpoint.
                let base = base
                    .trim_end_matches('/')
                    .trim_end_matches(Signal::Traces.path());
                (place, format!("{base}{}", signal.path()))
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Target {
            endpoint,
            place,
            protocol,
            gzip: self.gzip(signal),
        }))
    }

    /// The protocol, if the environment names a supported one.
    fn protocol(&self, signal: Signal) -> Option<Protocol> {
        for (name, value) in self.otlp(signal, "PROTOCOL") {
            match value.as_str() {
                "grpc" => return Some(Protocol::Grpc),
                "http/protobuf" => return Some(Protocol::Http),
                "http/json" => {
                    // Collectors accept both encodings on the same port and path (OTLP,
                    // "OTLP/HTTP").
                    self.ignore(&name, "http/json is sent as http/protobuf");
                    return Some(Protocol::Http);
                }
                _ => self.ignore(&name, "expected grpc or http/protobuf"),
            }
        }
        None
    }

    /// Whether exports are compressed.
    fn gzip(&self, signal: Signal) -> bool {
        let gzip = self.usable(
            self.otlp(signal, "COMPRESSION"),
            "expected gzip or none",
            |value| match value {
                "gzip" => Some(true),
                "none" => Some(false),
                _ => None,
            },
        );
        gzip.unwrap_or(false)
    }

    /// The head sampler, and whether the parent's decision takes precedence.
    ///
    /// # Errors
    /// Names the unusable configuration key.
    pub(super) fn sampler(
        &self,
        settings: &TracingSettings,
    ) -> Result<(Sampler, bool), TracingError> {
        let configured = ratio("telemetry.sample_ratio", settings.sample_ratio)?;
        let name = "OTEL_TRACES_SAMPLER";
        let expected = "expected always_on, always_off, traceidratio, or one of them after parentbased_; \
             telemetry.sample_ratio applies";
        let named = self.usable(self.one(name), expected, |value| {
            let (parent_based, root) = match value.strip_prefix("parentbased_") {
                Some(root) => (true, root),
                None => (false, value),
            };
            let root = match root {
                "always_on" => Sampler::AlwaysOn,
                "always_off" => Sampler::AlwaysOff,
                "traceidratio" => Sampler::TraceIdRatioBased(self.sampler_argument()),
                _ => return None,
            };
            Some((root, parent_based))
        });
        let (root, parent_based) = named.unwrap_or((configured, true));
        Ok(if parent_based {
            (Sampler::ParentBased(Box::new(root)), true)
        } else {
            (root, false)
        })
    }

    /// The ratio of `traceidratio`. Without a usable one, 1.
    fn sampler_argument(&self) -> f64 {
        let given = self.one("OTEL_TRACES_SAMPLER_ARG");
        let expected = "expected 0 to 1; all traces are recorded";
        let ratio = self.usable(given, expected, |value| {
            let ratio = value.parse().ok();
            ratio.filter(|ratio| (0.0..=1.0).contains(ratio))
        });
        ratio.unwrap_or(1.0)
    }

    pub(super) fn batching(&self) -> Batching {
        let number = |name: &str| {
            let expected = "expected a number from 1 to 1000000";
            self.usable(self.one(name), expected, |value| {
                let value: Option<usize> = value.parse().ok();
                value.filter(|value| (1..=1_000_000).contains(value))
            })
        };
        let default = Batching::default();
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(default.queue);
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(default.batch);
        Batching {
            queue,
            batch: batch.min(queue),
            delay: self
                .millis(self.one("OTEL_BSP_SCHEDULE_DELAY"))
                .unwrap_or(default.delay),
        }
    }

    /// The timeout of one export.
    pub(super) fn timeout(&self, signal: Signal) -> Duration {
        let timeout = self.millis(self.otlp(signal, "TIMEOUT"));
        timeout.unwrap_or(TIMEOUT)
    }

    /// The interval of metric exports.
    pub(super) fn metrics_interval(&self) -> Duration {
        let interval = self.millis(self.one("OTEL_METRIC_EXPORT_INTERVAL"));
        interval.unwrap_or(METRICS_INTERVAL)
    }

    /// A duration: 1 ms to 10 minutes. Zero would keep the export thread busy.
    fn millis(&self, variables: impl IntoIterator<Item = (String, String)>) -> Option<Duration> {
        let expected = "expected 1 to 600000 milliseconds";
        self.usable(variables, expected, |value| {
            let millis = value.parse().ok();
            let millis = millis.filter(|millis| (1..=600_000).contains(millis));
            millis.map(Duration::from_millis)
        })
    }

    /// The headers of every request to the collector: `name=value`, comma-separated, with
    /// percent-encoded values. Malformed ones are ignored.
    pub(super) fn headers(&self, signal: Signal) -> HeaderMap {
        let Some((variable, text)) = self.otlp(signal, "HEADERS").next() else {
            return HeaderMap::new();
        };
        let mut headers = HeaderMap::new();
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((name, value)) = header(pair) else {
                self.ignore(
                    &variable,
                    "expected name=value pairs; those that aren't are left out",
                );
                continue;
            };
            if headers.try_append(name, value).is_err() {
                self.ignore(&variable, "expected fewer headers");
                break;
            }
        }
        headers
    }

    /// Warns about variables that are not supported.
    pub(super) fn look_at_the_rest(&self) {
        if let Some(named) = self.get("OTEL_PROPAGATORS") {
            let mut named = named.split(',').map(str::trim);
            if !named.all(|name| matches!(name, "tracecontext" | "baggage")) {
                let says = "W3C Trace Context (tracecontext) is what is understood here";
                self.ignore("OTEL_PROPAGATORS", says);
            }
        }
        for signal in [Signal::Traces, Signal::Metrics] {
            for what in ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"] {
                for (name, _) in self.otlp(signal, what) {
                    self.ignore(&name, "not supported: the system's certificates count");
                }
            }
        }
        let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let value = self.get(temporality).unwrap_or_default();
        if !value.is_empty() && !value.eq_ignore_ascii_case("cumulative") {
            self.ignore(temporality, "metrics are cumulative");
        }
        let histograms = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        let value = self.get(histograms).unwrap_or_default();
        if !value.is_empty() && !value.eq_ignore_ascii_case("explicit_bucket_histogram") {
            self.ignore(histograms, "histograms have explicit buckets");
        }
    }
}

/// An address as a URL. The default scheme is `http`.
fn with_scheme(endpoint: &str) -> String {
    if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("http://{endpoint}")
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let uri: Option<http::Uri> = endpoint.parse().ok();
    let good = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    });
    good.then_some(())
        .ok_or("expected http://host:port or https://host:port")
}

/// A value of `OTEL_*` lists; a `%` without two hexadecimal digits is kept.
pub(super) fn decoded(value: &str) -> Vec<u8> {
    percent_decode_str(value.trim()).collect()
}

fn header(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
    let mut value = HeaderValue::from_bytes(&decoded(value)).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

pub(super) fn ratio(place: &str, value: f64) -> Result<Sampler, TracingError> {
    if (0.0..=1.0).contains(&value) {
        Ok(Sampler::TraceIdRatioBased(value))
    } else {
        Err(TracingError::new(place, "expected 0 to 1"))
    }
}
