//! When keys may be fetched again, and what the last fetch came to.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two fetches. A token that would cause one earlier waits this long.
pub(super) const SPACING: Duration = Duration::from_secs(1);
/// How many fetches tokens may cause in a row, one [`SPACING`] apart. More come one by one, each
/// [`REFILL`]: so a flood of forged tokens costs the provider no more.
pub(super) const BURST: u32 = 10;
pub(super) const REFILL: Duration = Duration::from_secs(10);
/// When to come back where a token could not be judged, at least. Up to as much more is added by
/// chance, so that those who were sent away together don't come back together.
const RETRY: Duration = Duration::from_secs(2);
/// The longest pause of the background after a fetch that failed.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// Who asks for a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The clock.
    Routine,
    /// A token that the known keys don't judge.
    Token,
}

/// The keys could not be fetched; says when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotFetched {
    pub(super) retry_after: Duration,
}

/// The fetches so far.
pub(super) struct Fetches {
    /// Held during a fetch, so that there is one fetch at a time.
    only_one: tokio::sync::Mutex<()>,
    past: Mutex<Past>,
}

struct Past {
    last: Option<Last>,
    /// When a fetch began last, also one whose caller has gone away meanwhile.
    began: Option<Instant>,
    /// Fetches that tokens may still cause in a row.
    left: u32,
    /// Until when `left` is worked out.
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

    /// Fetches for somebody who asked at this time, or takes what another fetch since then has
    /// come to. Waits for the one that is under way, and for the [`SPACING`] behind the last.
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

    /// What became of a fetch that began after somebody had asked. One that was under way then
    /// counts where it failed: the next one would fail as well.
    fn since(&self, asked: Instant) -> Option<Result<(), NotFetched>> {
        let last = self.lock().last?;
        if last.succeeded {
            (last.began >= asked).then_some(Ok(()))
        } else {
            (last.ended >= asked).then(|| Err(not_fetched(Duration::ZERO)))
        }
    }

    /// Takes one fetch of those that are allowed; answers how long to wait before it.
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

    /// Lets the next fetch come at once.
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

/// How long the background waits after so many failures in a row, at least one.
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
    async fn a_flood_of_unknown_keys_costs_the_provider_a_bounded_number_of_fetches() {
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
    async fn a_fetch_serves_all_who_asked_before_it_began() {
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
        // Whoever asks after it began may need a key that it has not seen.
        let waited = Instant::now();
        assert_eq!(fetches.fetch(Cause::Token, waited, fetch).await, Ok(()));
        assert_eq!(count.get(), 2);
        assert!(waited.elapsed() + Duration::from_millis(100) >= SPACING);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_fetch_that_fails_do_not_start_another() {
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
    fn the_background_tries_again_soon_and_then_less_often() {
        let pauses = [1, 2, 3, 6, 7, 40].map(|failures| backoff(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60]);
    }
}
