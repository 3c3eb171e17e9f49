//! The settings of hooks.

use std::time::Duration;

use http::HeaderName;

use super::HookType;
use super::endpoint::Target;
use crate::auth::Secret;
use crate::error::{Error, Result};
use crate::outbound::SigningSecret;

/// The settings of hooks, from `[hooks]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// The application: an `http`, `https`, `grpc` or `grpcs` URL.
    pub endpoint: String,
    /// The types of questions that it is asked.
    pub ask: Vec<HookType>,
    /// The longest time for an answer, including the wait for a free request.
    pub timeout: Duration,
    /// What holds if the application does not answer.
    pub on_failure: OnFailure,
    /// The headers of a client's request that go with its questions.
    pub forward_headers: Vec<HeaderName>,
    /// Signs every request.
    pub secret: Option<Secret>,
    /// The most requests at the same time.
    pub concurrency: usize,
    /// The most questions that wait for a free request.
    pub waiting: usize,
    /// The bytes of cached answers.
    pub cache_bytes: usize,
    /// The longest answer, in bytes.
    pub answer_bytes: usize,
    /// The bytes of a client's forwarded headers.
    pub header_bytes: usize,
    /// The failures in a row that open the circuit breaker; 0 for none.
    pub breaker_failures: u32,
}

impl HookSettings {
    /// The invalid settings. Nothing is connected.
    #[must_use]
    pub fn faults(&self) -> Vec<Error> {
        let secret = self.secret.as_ref();
        let secret = secret.map(|secret| SigningSecret::parse("hooks.secret", secret.expose()));
        let faults = [
            Target::parse(&self.endpoint).err(),
            secret.and_then(Result::err),
        ];
        faults.into_iter().flatten().collect()
    }
}

/// What holds if the application does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The client is refused.
    Refuse,
    /// The configured rules decide.
    Rules,
}
