//! Metrics of fetched token verification keys.

use super::metrics::Metrics;
use super::names::Counter;

/// The results of fetches, and of the tokens that wait for them.
#[derive(Debug, Default)]
pub(super) struct KeyMetrics {
    pub(super) fetched: Counter,
    pub(super) failed: Counter,
    pub(super) not_judged: Counter,
}

impl Metrics {
    /// A fetch of `auth.jwks_url` succeeded or failed.
    pub fn keys_fetched(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.keys.fetched
        } else {
            &self.keys.failed
        };
        counter.add(1);
    }

    /// A token could neither be accepted nor refused, because its key could not be fetched.
    pub fn token_not_judged(&self) {
        self.keys.not_judged.add(1);
    }
}
