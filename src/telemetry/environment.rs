//! The standard `OTEL_*` variables, brought together with the configuration.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_otlp::Protocol;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;

use super::exporter::Batching;
use super::otlp::{TracingError, TracingSettings};

/// How long one export may take, retries included, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says
/// otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often metrics are sent, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const METRICS_INTERVAL: Duration = Duration::from_mins(1);

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    /// As it stands in the names of variables.
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

/// A collector and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: String,
    pub(super) protocol: Protocol,
}

/// A variable of the environment; one that is empty counts as not set, as the standard asks.
pub(super) struct Environment<F>(pub(super) F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str) -> Option<String> {
        self.0(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The first of these that is set, with its name.
    fn first(&self, names: &[String]) -> Option<(String, String)> {
        names
            .iter()
            .find_map(|name| self.get(name).map(|value| (name.clone(), value)))
    }

    /// The variable for one signal, else the one for all.
    fn otlp(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let name = signal.name();
        self.first(&[
            format!("OTEL_EXPORTER_OTLP_{name}_{what}"),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ])
    }

    fn is_off(&self, signal: Signal) -> bool {
        let exporter = self.get(&format!("OTEL_{}_EXPORTER", signal.name()));
        self.get("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || exporter.is_some_and(|value| value == "none")
    }

    /// The collector; `None` where nothing names one.
    pub(super) fn target(
        &self,
        settings: &TracingSettings,
        signal: Signal,
    ) -> Result<Option<Target>, TracingError> {
        if self.is_off(signal) {
            return Ok(None);
        }
        let (place, name) = self.otlp(signal, "PROTOCOL").unwrap_or_else(|| {
            (
                "telemetry.otlp_protocol".to_owned(),
                settings.otlp_protocol.clone(),
            )
        });
        let protocol = match name.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpBinary,
            _ => return Err(TracingError::new(&place, "expected grpc or http/protobuf")),
        };
        let named = settings.otlp_endpoint.trim();
        let configured =
            (!named.is_empty()).then(|| ("telemetry.otlp_endpoint".to_owned(), named.to_owned()));
        let own = self.first(&[format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name())]);
        let general = self
            .first(&["OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()])
            .or(configured);
        // Only the general endpoint gets the signal's path (OTLP exporter, "Endpoint URLs").
        let (place, endpoint) = match (own, general) {
            (Some(own), _) => own,
            (None, Some((place, base))) if protocol == Protocol::Grpc => (place, base),
            (None, Some((place, base))) => {
                // Some write the path of traces into the general one.
                let base = base
                    .trim_end_matches('/')
                    .trim_end_matches(Signal::Traces.path());
                (place, format!("{base}{}", signal.path()))
            }
            (None, None) => return Ok(None),
        };
        let endpoint = if endpoint.contains("://") {
            endpoint
        } else {
            format!("http://{endpoint}")
        };
        let uri: http::Uri = endpoint
            .parse()
            .map_err(|error| TracingError::new(&place, error))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(TracingError::new(
                &place,
                "expected http://host:port or https://host:port",
            ));
        }
        Ok(Some(Target { endpoint, protocol }))
    }

    /// The head sampler, and whether a parent's decision holds.
    pub(super) fn sampler(
        &self,
        settings: &TracingSettings,
    ) -> Result<(Sampler, bool), TracingError> {
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else {
            let ratio = ratio("telemetry.sample_ratio", settings.sample_ratio)?;
            return Ok((Sampler::ParentBased(Box::new(ratio)), true));
        };
        let from_argument = || {
            let place = "OTEL_TRACES_SAMPLER_ARG";
            let text = self.get(place).unwrap_or_else(|| "1".to_owned());
            let value = text
                .parse()
                .map_err(|_| TracingError::new(place, "expected 0 to 1"))?;
            ratio(place, value)
        };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => from_argument()?,
            _ => {
                let expected = "expected always_on, always_off, traceidratio, or one of them after parentbased_";
                return Err(TracingError::new("OTEL_TRACES_SAMPLER", expected));
            }
        };
        Ok(if parent_based {
            (Sampler::ParentBased(Box::new(root)), true)
        } else {
            (root, false)
        })
    }

    pub(super) fn batching(&self) -> Result<Batching, TracingError> {
        let number = |name: &str, default: usize| match self.get(name) {
            None => Ok(default),
            Some(text) => {
                let wrong = || TracingError::new(name, "expected a number from 1 to 1000000");
                let value: usize = text.parse().map_err(|_| wrong())?;
                if (1..=1_000_000).contains(&value) {
                    Ok(value)
                } else {
                    Err(wrong())
                }
            }
        };
        let default = Batching::default();
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", default.queue)?;
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.batch)?.min(queue);
        let millis = number("OTEL_BSP_SCHEDULE_DELAY", 1_000)?;
        let delay = u64::try_from(millis).map_or(default.delay, Duration::from_millis);
        Ok(Batching {
            queue,
            batch,
            delay,
        })
    }

    /// How long one export may take.
    pub(super) fn timeout(&self, signal: Signal) -> Result<Duration, TracingError> {
        self.otlp(signal, "TIMEOUT")
            .map_or(Ok(TIMEOUT), |(place, text)| millis(&place, &text))
    }

    /// Refuses a compression: what is sent is not compressed.
    pub(super) fn no_compression(&self, signal: Signal) -> Result<(), TracingError> {
        match self.otlp(signal, "COMPRESSION") {
            Some((place, value)) if value != "none" => {
                Err(TracingError::new(&place, "expected none"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// How often metrics are sent.
    pub(super) fn metrics_interval(&self) -> Result<Duration, TracingError> {
        let place = "OTEL_METRIC_EXPORT_INTERVAL";
        self.get(place)
            .map_or(Ok(METRICS_INTERVAL), |text| millis(place, &text))
    }

    /// What every request to the collector carries: `name=value`, comma-separated, the value
    /// percent-encoded. What is malformed is left out, without a word: it may be a secret.
    pub(super) fn headers(&self, signal: Signal) -> HeaderMap {
        let (_, text) = self.otlp(signal, "HEADERS").unwrap_or_default();
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        let headers = pairs.filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim())).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        headers.collect()
    }

    /// Who says it: the name from the environment, else the configured one.
    pub(super) fn resource(&self, settings: &TracingSettings, node: &str) -> Resource {
        // Reads OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME.
        let mut builder = Resource::builder();
        let attributes = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let sets = |key: &str| {
            attributes
                .split(',')
                .any(|pair| pair.split('=').next().is_some_and(|k| k.trim() == key))
        };
        if self.get("OTEL_SERVICE_NAME").is_none() && !sets("service.name") {
            builder = builder.with_service_name(settings.service_name.clone());
        }
        for (key, value) in [
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", node),
        ] {
            if !sets(key) {
                builder =
                    builder.with_attribute(opentelemetry::KeyValue::new(key, value.to_owned()));
            }
        }
        builder.build()
    }
}

/// A time in a variable: 1 ms to 10 minutes.
fn millis(place: &str, text: &str) -> Result<Duration, TracingError> {
    let millis = text
        .parse()
        .ok()
        .filter(|millis| (1..=600_000).contains(millis));
    let wrong = || TracingError::new(place, "expected 1 to 600000 milliseconds");
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

/// RFC 3986 §2.1; a `%` without two hexadecimal digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        if let Some(byte) = decoded.filter(|_| *first == b'%') {
            bytes.push(byte);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

pub(super) fn ratio(place: &str, value: f64) -> Result<Sampler, TracingError> {
    if (0.0..=1.0).contains(&value) {
        Ok(Sampler::TraceIdRatioBased(value))
    } else {
        Err(TracingError::new(place, "expected 0 to 1"))
    }
}
