//! The pauses between attempts.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::event::Timestamp;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_secs(1);

/// The pause after this many failures in a row: doubled each time up to `longest`, of which a random
/// half is left out, so that servers that failed together do not return together.
pub(super) fn pause(failures: u32, longest: Duration) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(30));
    let full = FIRST.saturating_mul(doubled).min(longest);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What the application asks for with `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let micros = date.timestamp().as_microsecond() - now.as_micros();
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let longest = Duration::from_mins(5);
        for (failures, most) in [(1, 1), (2, 2), (4, 8), (9, 256), (10, 300), (4_000, 300)] {
            let most = Duration::from_secs(most);
            for _ in 0..50 {
                let pause = pause(failures, longest);
                assert!(pause <= most && pause >= most / 2, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("1994-11-06T08:49:07Z").unwrap();
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-5"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
