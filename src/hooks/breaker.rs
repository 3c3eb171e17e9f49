//! The circuit breaker: it stops asking an application that is down.
//!
//! It opens after a number of failures in a row that mean that the application is down. After a pause
//! it lets one question through. If that is answered, it closes; if not, the next pause is twice as
//! long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    /// 0 for a breaker that never opens.
    most_failures: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// When it lets a question through, while it is open.
    open_until: Option<Instant>,
    pause: Duration,
    /// A question was let through while it is open.
    is_probing: bool,
}

/// A question that was let through. If it is dropped without a result, another may probe.
pub(super) struct Attempt<'b> {
    breaker: &'b Breaker,
    is_probe: bool,
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new(most_failures: u32) -> Self {
        Breaker {
            most_failures,
            state: Mutex::new(State {
                failures: 0,
                open_until: None,
                pause: FIRST_PAUSE,
                is_probing: false,
            }),
        }
    }

    /// Lets a question through.
    ///
    /// # Errors
    ///
    /// The time until the breaker lets one through.
    pub(super) fn admit(&self) -> Result<Attempt<'_>, Duration> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Result<Attempt<'_>, Duration> {
        let mut state = self.lock();
        let Some(until) = state.open_until else {
            return Ok(Attempt {
                breaker: self,
                is_probe: false,
            });
        };
        let left = until.saturating_duration_since(now);
        if state.is_probing || !left.is_zero() {
            return Err(left);
        }
        state.is_probing = true;
        Ok(Attempt {
            breaker: self,
            is_probe: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// Records the result: `down` if it means that the application is down, `answered` if it gave a
    /// valid answer. Returns whether the breaker is open now, if that has changed.
    pub(super) fn record(self, down: bool, answered: bool) -> Option<bool> {
        self.record_at(down, answered, Instant::now())
    }

    fn record_at(mut self, down: bool, answered: bool, now: Instant) -> Option<bool> {
        let mut state = self.breaker.lock();
        let was_probe = std::mem::take(&mut self.is_probe);
        if was_probe {
            state.is_probing = false;
            if down {
                state.pause = state.pause.saturating_mul(2).min(LONGEST_PAUSE);
                state.open_until = Some(now + state.pause);
                return None;
            }
            state.open_until = None;
            state.failures = 0;
            state.pause = FIRST_PAUSE;
            return Some(false);
        }
        if answered {
            state.failures = 0;
        }
        if !down || state.open_until.is_some() {
            return None;
        }
        state.failures = state.failures.saturating_add(1);
        if self.breaker.most_failures == 0 || state.failures < self.breaker.most_failures {
            return None;
        }
        state.open_until = Some(now + state.pause);
        Some(true)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) -> Option<bool> {
        let attempt = breaker.admit_at(now).ok().unwrap();
        attempt.record_at(true, false, now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let (breaker, start) = (Breaker::new(3), Instant::now());
        let well = |now| {
            let attempt = breaker.admit_at(now).ok().unwrap();
            attempt.record_at(false, true, now)
        };
        assert_eq!(fail(&breaker, start), None);
        assert_eq!(fail(&breaker, start), None);
        assert_eq!(well(start), None, "an answer ends the row");
        assert_eq!(fail(&breaker, start), None);
        assert_eq!(fail(&breaker, start), None);
        assert_eq!(fail(&breaker, start), Some(true));
        assert_eq!(breaker.admit_at(start).err(), Some(FIRST_PAUSE));
        let later = start + FIRST_PAUSE;
        let probe = breaker.admit_at(later).ok().unwrap();
        assert!(breaker.admit_at(later).is_err(), "one probe at a time");
        assert_eq!(probe.record_at(true, false, later), None);
        assert_eq!(breaker.admit_at(later).err(), Some(FIRST_PAUSE * 2));
        let later = later + FIRST_PAUSE * 2;
        assert_eq!(well(later), Some(false));
        assert!(breaker.admit_at(later).is_ok());
    }

    #[test]
    fn abandoned_probe_lets_another_one_through() {
        let (breaker, start) = (Breaker::new(1), Instant::now());
        assert_eq!(fail(&breaker, start), Some(true));
        let later = start + FIRST_PAUSE;
        drop(breaker.admit_at(later));
        assert!(breaker.admit_at(later).is_ok());
    }

    #[test]
    fn zero_failures_never_open_it() {
        let (breaker, now) = (Breaker::new(0), Instant::now());
        assert!((0..100).all(|_| fail(&breaker, now).is_none()));
    }
}
