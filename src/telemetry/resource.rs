//! The OpenTelemetry resource of spans and metrics.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::environment::{Environment, decoded};
use super::otlp::TracingSettings;

/// The variable with arbitrary attributes.
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// The service name: from the environment, or else the configured one.
    pub(super) fn resource(&self, settings: &TracingSettings, node: &str) -> Resource {
        let mut attributes = vec![
            ("service.name".to_owned(), settings.service_name.clone()),
            (
                "service.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("service.instance.id".to_owned(), node.to_owned()),
        ];
        // If a key is repeated, the last one wins.
        attributes.extend(self.attributes());
        let name = self.get("OTEL_SERVICE_NAME");
        attributes.extend(name.map(|name| ("service.name".to_owned(), name)));
        let mut builder =
            Resource::builder_empty().with_detector(Box::new(TelemetryResourceDetector));
        for (key, value) in attributes {
            builder = builder.with_attribute(KeyValue::new(key, value));
        }
        builder.build()
    }

    /// `key=value`, comma-separated, with percent-encoded values. Malformed ones are ignored.
    fn attributes(&self) -> Vec<(String, String)> {
        let text = self.get(ATTRIBUTES).unwrap_or_default();
        let pairs = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let attributes = pairs.filter_map(|pair| {
            let attribute = attribute(pair);
            if attribute.is_none() {
                let expected = "expected key=value pairs; those that aren't are left out";
                self.ignore(ATTRIBUTES, expected);
            }
            attribute
        });
        attributes.collect()
    }
}

fn attribute(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=')?;
    let (key, value) = (key.trim(), decoded(value));
    let value = String::from_utf8(value).ok()?;
    (!key.is_empty()).then(|| (key.to_owned(), value))
}
