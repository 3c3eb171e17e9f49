//! Rejected clients in the log, rate-limited.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Code, Error};

/// How often a rejection is logged at level `info`. The others are logged at `debug`, so that a flood of
/// requests makes no flood of lines.
const EVERY: Duration = Duration::from_secs(1);

/// Logs why clients were rejected.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    logged: Mutex<Logged>,
}

#[derive(Debug, Default)]
struct Logged {
    /// When a rejection was last logged at level `info`.
    last: Option<Instant>,
    /// How many were logged at `debug` since then.
    since: u64,
}

impl RefusalLog {
    /// Logs a rejection of a client at this address or on this connection. Values that may hold a
    /// client's text are strings, so that the line shows them quoted and escaped.
    pub(super) fn log(
        &self,
        address: &str,
        connection: Option<&str>,
        transport: Option<&str>,
        error: &Error,
    ) {
        let (code, reason) = (error.code().as_str(), error.message());
        let connection_id = connection;
        let what = if error.code() == Code::Unavailable {
            "a client was rejected for now"
        } else {
            "a client was rejected"
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

    /// If a rejection is due at level `info`: how many were only logged at `debug` since the last.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged
            .last
            .is_some_and(|last| now.duration_since(last) < EVERY)
        {
            logged.since += 1;
            return None;
        }
        logged.last = Some(now);
        Some(std::mem::take(&mut logged.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_flood_logs_one_info_line_per_second() {
        let (log, now) = (RefusalLog::default(), Instant::now());
        assert_eq!(log.take(now), Some(0));
        for _ in 0..1000 {
            assert_eq!(log.take(now + Duration::from_millis(999)), None);
        }
        assert_eq!(log.take(now + EVERY), Some(1000));
        assert_eq!(log.take(now + EVERY * 3), Some(0));
    }
}
