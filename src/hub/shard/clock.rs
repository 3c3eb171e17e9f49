//! A shard's clock, which excludes stalls of the shard.
//!
//! Deadlines of clients (for a Pong, a token, a close frame) count only time in which the shard
//! could have received them. A round that starts much later than it was due reveals a stall: the
//! process was stopped, the machine was suspended or overloaded, or the last round took that long.
//! A stall does not count.

use std::time::Duration;

use crate::clock::uptime_ms;

/// How much later than due a round may begin, in milliseconds; time beyond it does not count.
const LATE: u64 = 500;
/// A delay of this many milliseconds is a stall, after which every client gets another interval.
const STALL: u64 = 1_000;
/// How long after a stall, in milliseconds, messages sent during the stall are still arriving.
const BACKLOG: u64 = 1_000;

/// All times are milliseconds.
#[derive(Debug)]
pub(super) struct Clock {
    /// The machine's uptime when the shard began.
    started: u64,
    /// When the thread is due to run again: since the start, stalls included.
    due: u64,
    /// The total time of stalls.
    absent: u64,
    /// The end of the last stall, by this clock and since the start.
    resumed: Option<(u64, u64)>,
    /// How long the last stall was.
    last_stall: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock {
            started: uptime_ms(),
            due: u64::MAX,
            absent: 0,
            resumed: None,
            last_stall: 0,
        }
    }

    /// Milliseconds since the start, stalls included.
    pub(super) fn elapsed(&self) -> u64 {
        uptime_ms().saturating_sub(self.started)
    }

    /// The machine's uptime at this time of [`Clock::elapsed`].
    pub(super) fn uptime_at(&self, elapsed: u64) -> u64 {
        self.started.saturating_add(elapsed)
    }

    /// Milliseconds in which the shard could run.
    pub(super) fn now(&self) -> u64 {
        self.at(self.elapsed())
    }

    fn at(&self, elapsed: u64) -> u64 {
        elapsed.min(self.due).saturating_sub(self.absent)
    }

    /// The thread begins a round. Returns the duration of the stall, if there was one.
    pub(super) fn wakes(&mut self) -> Option<Duration> {
        self.look(self.elapsed(), 0)
    }

    /// The thread goes to sleep for at most this many milliseconds. Returns the duration of the
    /// round, if it was a stall.
    pub(super) fn sleeps(&mut self, wait: u64) -> Option<Duration> {
        self.look(self.elapsed(), wait)
    }

    fn look(&mut self, elapsed: u64, wait: u64) -> Option<Duration> {
        let late = elapsed.saturating_sub(self.due);
        self.absent += late;
        self.due = elapsed.saturating_add(wait).saturating_add(LATE);
        let stall = late + LATE;
        if late == 0 || stall < STALL {
            return None;
        }
        self.resumed = Some((self.at(elapsed), elapsed));
        self.last_stall = stall;
        Some(Duration::from_millis(stall))
    }

    /// When the last stall ended, by [`Clock::now`]; 0 if there was none.
    pub(super) fn resumed(&self) -> u64 {
        self.resumed.map_or(0, |(now, _)| now)
    }

    /// How long a client that connected at this time of [`Clock::elapsed`] has had. After a stall
    /// every client's time starts again.
    pub(super) fn since(&self, came: u64) -> u64 {
        let resumed = self.resumed.map_or(0, |(_, elapsed)| elapsed);
        let elapsed = self.elapsed().min(self.due);
        elapsed.saturating_sub(came.max(resumed))
    }

    /// How much a rate limit is refilled by a stall, in microseconds, while messages sent during
    /// the stall are still arriving.
    pub(super) fn credit_us(&self) -> u64 {
        match self.resumed {
            Some((now, _)) if self.now() < now + BACKLOG => self.last_stall.saturating_mul(1_000),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        let mut clock = Clock::new();
        assert_eq!(clock.look(100, 0), None);
        clock
    }

    #[test]
    fn rounds_on_time_count_as_they_pass() {
        let mut clock = clock();
        for round in 1..1_000 {
            let now = 100 + round * 250;
            assert_eq!(clock.look(now - 200, 200), None);
            assert_eq!(clock.look(now + 10, 0), None);
            assert_eq!(clock.at(now + 10), now + 10);
        }
        assert_eq!(clock.resumed(), 0);
        assert_eq!(clock.credit_us(), 0);
    }

    #[test]
    fn stall_during_sleep_does_not_count() {
        let mut clock = clock();
        clock.look(100, 1_000);
        // When a publisher asks meanwhile, it does not advance either.
        assert_eq!(clock.at(60_000), 1_600);
        assert_eq!(clock.look(60_000, 0), Some(Duration::from_millis(58_900)));
        assert_eq!(clock.at(60_000), 1_600);
        assert_eq!(clock.resumed(), 1_600);
        assert_eq!(clock.at(60_100), 1_700);
    }

    #[test]
    fn long_round_does_not_count() {
        let mut clock = clock();
        assert_eq!(clock.look(8_100, 50), Some(Duration::from_secs(8)));
        assert_eq!(clock.at(8_100), 600);
    }

    #[test]
    fn short_delay_is_no_stall_and_does_not_count() {
        let mut clock = clock();
        assert_eq!(clock.look(900, 0), None);
        assert_eq!(clock.at(900), 600);
        assert_eq!(clock.resumed(), 0);
    }

    #[test]
    fn clock_never_goes_back_after_a_stall() {
        let mut clock = clock();
        let (mut now, mut before) = (100, 0);
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            now += rng.u64(0..2_000);
            if rng.bool() {
                clock.look(now, rng.u64(0..3_000));
            }
            let at = clock.at(now);
            assert!(at >= before, "{at} after {before}");
            before = at;
        }
    }
}
