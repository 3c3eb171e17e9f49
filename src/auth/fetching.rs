//! When keys may be fetched again, and the result of the last fetch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two fetches. A token that would cause one earlier waits this long.
pub(super) const SPACING: Duration = Duration::from_secs(1);
/// The number of fetches that tokens may cause in a row, one [`SPACING`] apart. Further fetches are
/// at least [`REFILL`] apart, so that a flood of forged tokens does not burden the provider.
pub(super) const BURST: u32 = 10;
pub(super) const REFILL: Duration = Duration::from_secs(10);
/// The shortest retry delay for a token that could not be judged. A random delay of up to the same
/// length is added, so that rejected clients do not return together.
const RETRY: Duration = Duration::from_secs(2);
/// The longest delay between two attempts in the background after failed fetches.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// The cause of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The periodic refresh.
    Routine,
    /// A token that the known keys can't judge.
    Token,
}

/// The keys could not be fetched; has the time of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotFetched {
    pub(super) retry_after: Duration,
}

/// State of the fetches.
pub(super) struct Fetches {
    /// Held during a fetch, so that there is one fetch at a time.
    only_one: tokio::sync::Mutex<()>,
    past: Mutex<Past>,
}

struct Past {
    last: Option<Last>,
    /// When the last fetch began, including one whose caller was dropped meanwhile.
    began: Option<Instant>,
    /// The number of fetches that tokens may still cause in a row.
    left: u32,
    /// The time for which `left` was computed.
    refilled: Instant,
}

#[derive(Clone, Copy)]
struct Last {
    began: Instant,
    ended: Instant,
    succeeded: bool,
}

impl Fetches {
    pub(super) fn new() -> Self {
        Fetches {
            only_one: tokio::sync::Mutex::new(()),
            past: Mutex::new(Past {
                last: None,
                began: None,
                left: BURST,
                refilled: Instant::now(),
            }),
        }
    }

    /// Fetches for a caller that asked at this time, or returns the result of another fetch that
    /// began after it. Waits for the fetch in progress, and for the [`SPACING`] after the last one.
    pub(super) async fn fetch<F: Future<Output = bool>>(
        &self,
        cause: Cause,
        asked: Instant,
        fetch: impl FnOnce() -> F,
    ) -> Result<(), NotFetched> {
        let _only_one = self.only_one.lock().await;
        if let Some(outcome) = self.since(asked) {
            return outcome;
        }
        let wait = self.take(cause)?;
        tokio::time::sleep(wait).await;
        let began = Instant::now();
        self.lock().began = Some(began);
        let succeeded = fetch().await;
        self.lock().last = Some(Last {
            began,
            ended: Instant::now(),
            succeeded,
        });
        if succeeded {
            Ok(())
        } else {
            Err(not_fetched(Duration::ZERO))
        }
    }

    /// The result of a fetch that began after the caller asked. A fetch already in progress then
    /// counts only if it failed: the next one would fail as well.
    fn since(&self, asked: Instant) -> Option<Result<(), NotFetched>> {
        let last = self.lock().last?;
        if last.succeeded {
            (last.began >= asked).then_some(Ok(()))
        } else {
            (last.ended >= asked).then(|| Err(not_fetched(Duration::ZERO)))
        }
    }

    /// Takes one of the allowed fetches; returns the delay before it.
    fn take(&self, cause: Cause) -> Result<Duration, NotFetched> {
        let mut past = self.lock();
        let now = Instant::now();
        while past.left < BURST && now.duration_since(past.refilled) >= REFILL {
            past.left += 1;
            past.refilled += REFILL;
        }
        if past.left == BURST {
            past.refilled = now;
        }
        if cause == Cause::Token {
            let Some(left) = past.left.checked_sub(1) else {
                let wait = REFILL.saturating_sub(now.duration_since(past.refilled));
                return Err(not_fetched(wait));
            };
            past.left = left;
        }
        let since = past.began.map(|began| now.duration_since(began));
        Ok(since.map_or(Duration::ZERO, |since| SPACING.saturating_sub(since)))
    }

    /// Allows the next fetch immediately.
    #[cfg(test)]
    pub(super) fn let_time_pass(&self) {
        let mut past = self.lock();
        (past.last, past.began, past.left) = (None, None, BURST);
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_fetched(wait: Duration) -> NotFetched {
    let least = wait.max(RETRY);
    NotFetched {
        retry_after: least + RETRY.mul_f64(fastrand::f64()),
    }
}

/// The delay in the background after this many failures in a row, at least one.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
    SPACING
        .saturating_mul(doubled.unwrap_or(u32::MAX))
        .min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn flood_of_unknown_keys_causes_bounded_fetches() {
        let (fetches, count) = (Fetches::new(), Cell::new(0));
        let fetch = || async {
            count.set(count.get() + 1);
            true
        };
        let began = Instant::now();
        while began.elapsed() < Duration::from_mins(2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let outcome = fetches.fetch(Cause::Token, Instant::now(), fetch).await;
            if let Err(NotFetched { retry_after }) = outcome {
                assert!(retry_after <= REFILL + RETRY, "{retry_after:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // The burst, and one each 10 s.
        assert!((20..=BURST + 12).contains(&count.get()), "{}", count.get());
        assert!(
            fetches
                .fetch(Cause::Routine, Instant::now(), fetch)
                .await
                .is_ok(),
            "the background is not held to it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn fetch_serves_all_earlier_callers() {
        let (fetches, count) = (Fetches::new(), Cell::new(0));
        let fetch = || async {
            count.set(count.get() + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            true
        };
        let asked = Instant::now();
        let (one, other) = tokio::join!(
            fetches.fetch(Cause::Token, asked, fetch),
            fetches.fetch(Cause::Token, asked, fetch)
        );
        assert_eq!((one, other, count.get()), (Ok(()), Ok(()), 1));
        // A caller that asks after the fetch began may need a key that the fetch has not seen.
        let waited = Instant::now();
        assert_eq!(fetches.fetch(Cause::Token, waited, fetch).await, Ok(()));
        assert_eq!(count.get(), 2);
        assert!(waited.elapsed() + Duration::from_millis(100) >= SPACING);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_fetch_is_not_repeated_for_waiters() {
        let (fetches, count) = (Fetches::new(), Cell::new(0));
        let fetch = || async {
            count.set(count.get() + 1);
            tokio::time::sleep(Duration::from_secs(5)).await;
            false
        };
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fetches.fetch(Cause::Token, Instant::now(), fetch).await
        };
        let (one, other) = tokio::join!(fetches.fetch(Cause::Token, Instant::now(), fetch), later);
        assert!(one.is_err() && other.is_err());
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn background_retries_with_backoff() {
        let pauses = [1, 2, 3, 6, 7, 40].map(|failures| backoff(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60]);
    }
}
