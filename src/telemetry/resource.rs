//! Who tells it: the resource of spans and metrics.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::environment::{Environment, percent_decoded};
use super::otlp::TracingSettings;

/// The variable with attributes of any name.
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// Who says it: the name from the environment, else the configured one.
    pub(super) fn resource(&self, settings: &TracingSettings, node: &str) -> Resource {
        let mut attributes = vec![
            ("service.name".to_owned(), settings.service_name.clone()),
            (
                "service.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("service.instance.id".to_owned(), node.to_owned()),
        ];
        // Of two with one key the later wins.
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

    /// `key=value`, comma-separated, the values percent-encoded. What is malformed is left out.
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
    let (key, value) = (key.trim(), percent_decoded(value.trim()));
    let value = String::from_utf8(value).ok()?;
    (!key.is_empty()).then(|| (key.to_owned(), value))
}
