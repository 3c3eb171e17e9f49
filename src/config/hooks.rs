//! `[hooks]`: questions to the application.

use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

use super::validate::Check;
use super::{Config, Secret, duration, values};
use crate::hooks::{self, HookSettings, HookType};

/// `[hooks]`: questions to the application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksConfig {
    /// The application's URL; `None`: no hooks.
    #[serde(deserialize_with = "values::text")]
    pub endpoint: Option<String>,
    /// The types of questions.
    pub ask: Vec<String>,
    /// The longest time for an answer.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// What holds if the application does not answer.
    pub on_failure: OnFailure,
    /// Headers of a client's request that go with questions about it.
    pub forward_headers: Vec<String>,
    /// Signs every request.
    #[serde(deserialize_with = "values::secret")]
    pub secret: Option<Secret>,
    /// The most requests at the same time.
    pub concurrency: usize,
    /// The most questions that wait.
    pub waiting: usize,
    /// The bytes of cached answers.
    pub cache_bytes: usize,
    /// The longest answer, in bytes.
    pub answer_bytes: usize,
    /// The bytes of one client's forwarded headers.
    pub header_bytes: usize,
    /// The failures in a row that open the circuit breaker; 0: none do.
    pub breaker_failures: u32,
}

/// What holds if the application does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The client is refused.
    Refuse,
    /// The configured rules decide alone.
    Rules,
}

impl HooksConfig {
    /// Whether the application is asked questions of this type.
    #[must_use]
    pub fn asks(&self, kind: HookType) -> bool {
        let listed = self.ask.iter().any(|name| name == kind.as_str());
        self.endpoint.is_some() && listed
    }

    /// The settings of the hooks; `None` without any.
    #[must_use]
    pub fn settings(&self) -> Option<HookSettings> {
        let endpoint = self.endpoint.clone()?;
        // Invalid names were refused when the configuration was read.
        let headers = self.forward_headers.iter().map(|name| header(name));
        Some(HookSettings {
            endpoint,
            ask: self
                .ask
                .iter()
                .filter_map(|name| HookType::of(name))
                .collect(),
            timeout: self.timeout,
            on_failure: match self.on_failure {
                OnFailure::Refuse => hooks::OnFailure::Refuse,
                OnFailure::Rules => hooks::OnFailure::Rules,
            },
            forward_headers: headers.flatten().collect(),
            secret: self.secret.clone(),
            concurrency: self.concurrency,
            waiting: self.waiting,
            cache_bytes: self.cache_bytes,
            answer_bytes: self.answer_bytes,
            header_bytes: self.header_bytes,
            breaker_failures: self.breaker_failures,
        })
    }
}

fn header(name: &str) -> Option<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// Reports invalid settings in `[hooks]`.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let hooks = &config.hooks;
    let unknown = hooks.ask.iter().find(|name| HookType::of(name).is_none());
    check.expect(
        unknown.is_none(),
        "hooks.ask",
        "expected of \"connect\", \"refresh\", \"subscribe\", \"publish\", \"rpc\" and \"disconnected\"",
    );
    check.expect(
        hooks.ask.is_empty() || hooks.endpoint.is_some(),
        "hooks.ask",
        "needs hooks.endpoint",
    );
    check.expect(
        !hooks.ask.is_empty() || hooks.endpoint.is_none(),
        "hooks.endpoint",
        "needs hooks.ask: it is asked nothing",
    );
    check.expect(
        !hooks.timeout.is_zero(),
        "hooks.timeout",
        "expected more than 0s",
    );
    check.expect(
        hooks
            .forward_headers
            .iter()
            .all(|name| header(name).is_some()),
        "hooks.forward_headers",
        "expected names of headers, such as \"cookie\"",
    );
    for fault in hooks.settings().iter().flat_map(HookSettings::faults) {
        check.expect(
            false,
            fault.field_name().unwrap_or("hooks"),
            fault.description(),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems;

    #[test]
    fn mistakes_in_hooks_name_line_key_and_what_was_expected() {
        for (text, says) in [
            (
                "[hooks]\nask = [\"connect\"]",
                "config.toml:2: hooks.ask: needs hooks.endpoint",
            ),
            (
                "[hooks]\nendpoint = \"http://127.0.0.1:3000\"",
                "config.toml:2: hooks.endpoint: needs hooks.ask: it is asked nothing",
            ),
            (
                "[hooks]\nendpoint = \"ftp://a\"\nask = [\"rpc\"]",
                "config.toml:2: hooks.endpoint: must be an http, https or grpc URL",
            ),
            (
                "[hooks]\nendpoint = \"grpc://a/b\"\nask = [\"rpc\"]",
                "config.toml:2: hooks.endpoint: must have no path: grpc://host:port",
            ),
            (
                "[hooks]\nendpoint = \"http://a\"\nask = [\"rpc\"]\nsecret = \"hunter2\"",
                "config.toml:4: hooks.secret: must begin with whsec_, as Standard Webhooks secrets do",
            ),
            (
                "[hooks]\nendpoint = \"http://a\"\nask = [\"rpc\"]\nforward_headers = [\"a b\"]",
                "config.toml:4: hooks.forward_headers: expected names of headers, such as \"cookie\"",
            ),
        ] {
            assert_eq!(problems(text), says);
        }
        let unknown = problems("[hooks]\nendpoint = \"http://a\"\nask = [\"login\"]");
        assert!(
            unknown.starts_with("config.toml:3: hooks.ask: expected of "),
            "{unknown}"
        );
        for endpoint in [
            "https://app.example.com/tidings",
            "grpc://[::1]:3000",
            "grpcs://a:1",
        ] {
            let text = format!("[hooks]\nendpoint = {endpoint:?}\nask = [\"connect\"]");
            assert_eq!(problems(&text), "", "{endpoint}");
        }
    }
}
