//! Who was not let in, in the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Code, Error};

/// How often a refusal is told at level `info`. The others are told at `debug`, so that a flood of
/// them makes no flood of lines.
const EVERY: Duration = Duration::from_secs(1);

/// Tells why clients were not let in.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When a refusal was last told at level `info`.
    last: Option<Instant>,
    /// How many were not, since then.
    since: u64,
}

impl RefusalLog {
    /// Writes a line about a client from this address, or on this connection. What may hold a
    /// client's text is passed as a text, so that the line shows it in quotes and escaped.
    pub(super) fn tell(
        &self,
        address: &str,
        connection: Option<&str>,
        transport: Option<&str>,
        error: &Error,
    ) {
        let (code, reason) = (error.code().as_str(), error.message());
        let connection_id = connection;
        let what = if error.code() == Code::Unavailable {
            "a client was sent away for now"
        } else {
            "a client was not let in"
        };
        if let Some(untold) = self.take(Instant::now()) {
            let untold = (untold > 0).then_some(untold);
            tracing::info!(
                address,
                connection_id,
                transport,
                code,
                reason,
                untold,
                "{what}"
            );
        } else {
            tracing::debug!(address, connection_id, transport, code, reason, "{what}");
        }
    }

    /// How many refusals were not told since the last that was, if it is time to tell one.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told
            .last
            .is_some_and(|last| now.duration_since(last) < EVERY)
        {
            told.since += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_makes_one_line_a_second_that_counts_the_rest() {
        let (log, now) = (RefusalLog::default(), Instant::now());
        assert_eq!(log.take(now), Some(0));
        for _ in 0..1000 {
            assert_eq!(log.take(now + Duration::from_millis(999)), None);
        }
        assert_eq!(log.take(now + EVERY), Some(1000));
        assert_eq!(log.take(now + EVERY * 3), Some(0));
    }
}
