//! The keys that tokens are checked with, where they are fetched.

use super::metrics::Metrics;
use super::names::Counter;

/// What became of fetches, and of the tokens that wait for them.
#[derive(Debug, Default)]
pub(super) struct KeyMetrics {
    pub(super) fetched: Counter,
    pub(super) failed: Counter,
    pub(super) not_judged: Counter,
}

impl Metrics {
    /// The keys of `auth.jwks_url` were fetched, or could not be.
    pub fn keys_fetched(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.keys.fetched
        } else {
            &self.keys.failed
        };
        counter.add(1);
    }

    /// A token could be neither taken nor refused, as its key could not be fetched.
    pub fn token_not_judged(&self) {
        self.keys.not_judged.add(1);
    }
}
