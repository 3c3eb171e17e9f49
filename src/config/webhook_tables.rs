//! The tables of the TOML file for webhooks.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::declarations::duplicate_of;
use super::validate::Check;
use super::{Config, Secret, duration, values};
use crate::webhooks::{self, EventKind};

/// The most webhooks.
const MOST: usize = 16;

/// `[webhooks]`: what all webhooks share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhooksConfig {
    /// The directory of the queue; `None`: within `history.path` if history is on disk, otherwise
    /// the queue is in memory.
    #[serde(deserialize_with = "values::path")]
    pub path: Option<PathBuf>,
}

/// `[[webhook]]`: an address of the application that gets events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address.
    pub url: String,
    /// Signs the requests; `None`: they are not signed.
    #[serde(deserialize_with = "values::secret")]
    pub secret: Option<Secret>,
    /// The events that it gets; empty: all.
    pub events: Vec<String>,
    /// The most bytes of queued events.
    pub queue_bytes: usize,
    /// The most bytes of dead letters.
    pub dead_letter_bytes: usize,
    /// The most events of one request.
    pub batch_events: usize,
    /// How long a request may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long an event is tried.
    #[serde(deserialize_with = "duration::deserialize")]
    pub retry_for: Duration,
    /// The longest pause between two attempts.
    #[serde(deserialize_with = "duration::deserialize")]
    pub retry_pause: Duration,
}

impl WebhookConfig {
    /// The kinds of events that it gets.
    #[must_use]
    pub fn kinds(&self) -> Vec<EventKind> {
        if self.events.is_empty() {
            return EventKind::ALL.to_vec();
        }
        let names = self.events.iter();
        names.filter_map(|name| EventKind::named(name)).collect()
    }
}

/// Reports every invalid webhook.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    check.expect(
        config.webhook.len() <= MOST,
        "webhook",
        format!("expected at most {MOST} webhooks"),
    );
    check.expect(
        config.webhooks.path.as_deref() != Some(&*config.history.path),
        "webhooks.path",
        "expected another directory than history.path",
    );
    for (index, webhook) in config.webhook.iter().enumerate() {
        one(webhook, &format!("webhook[{index}]"), check);
    }
    // Operators and metrics see URLs without their queries.
    let urls = config.webhook.iter().map(|webhook| {
        let url = webhook.url.as_str();
        url.split_once('?').map_or(url, |(url, _)| url)
    });
    if let Some((index, url)) = duplicate_of(urls) {
        check.expect(
            false,
            &format!("webhook[{index}].url"),
            format!("{url:?} is declared twice"),
        );
    }
}

fn one(webhook: &WebhookConfig, at: &str, check: &mut Check<'_>) {
    let secret = webhook.secret.as_ref().map(Secret::expose);
    if let Err(error) = webhooks::check(&webhook.url, secret) {
        let key = error.field_name().unwrap_or("url");
        check.expect(
            false,
            &format!("{at}.{key}"),
            error.description().to_owned(),
        );
    }
    let unknown = webhook
        .events
        .iter()
        .find(|name| EventKind::named(name).is_none());
    let known = EventKind::ALL.map(EventKind::name).join(", ");
    check.expect(
        unknown.is_none(),
        &format!("{at}.events"),
        format!("expected some of {known}"),
    );
    for (key, value) in [
        ("timeout", webhook.timeout),
        ("retry_for", webhook.retry_for),
        ("retry_pause", webhook.retry_pause),
    ] {
        check.expect(
            !value.is_zero(),
            &format!("{at}.{key}"),
            "expected more than 0s",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn webhook(keys: &str) -> String {
        problems(&format!("[[webhook]]\n{keys}"))
    }

    #[test]
    fn invalid_webhook_is_reported_with_line() {
        let good = format!("url = \"https://app.example.com/tidings\"\nsecret = \"{SECRET}\"");
        assert_eq!(webhook(&good), "");
        assert_eq!(
            webhook("url = \"ftp://app.example.com/\""),
            "config.toml:2: webhook[0].url: must be an http or https URL"
        );
        let says = webhook("url = \"http://a.example/\"\nsecret = \"hunter2\"");
        assert_eq!(
            says,
            "config.toml:3: webhook[0].secret: must begin with whsec_, as Standard Webhooks secrets do"
        );
        let says = webhook("url = \"http://a.example/\"\nevents = [\"channel.opened\"]");
        assert_eq!(
            says,
            "config.toml:3: webhook[0].events: expected some of connection.opened, \
             connection.closed, channel.occupied, channel.vacated, presence.joined, presence.left"
        );
        let says = webhook("url = \"http://a.example/\"\nretry_for = \"0s\"");
        assert_eq!(
            says,
            "config.toml:3: webhook[0].retry_for: expected more than 0s"
        );
    }

    #[test]
    fn two_webhooks_of_one_address_are_refused() {
        let says = webhook(
            "url = \"http://a.example/x?a=1\"\n[[webhook]]\nurl = \"http://a.example/x?a=2\"",
        );
        assert_eq!(
            says,
            "config.toml:4: webhook[1].url: \"http://a.example/x\" is declared twice"
        );
    }
}
