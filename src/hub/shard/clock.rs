//! A shard's clock, which excludes stalls of the shard.
//!
//! Deadlines of clients (for a Pong, a token, a close frame) count only time in which the shard
//! could have received them. A round that starts much later than it was due reveals a stall: the
//! process was stopped, the machine was suspended or overloaded, or the last round took that long.
//! A stall does not count.

use std::time::Duration;

use crate::clock::uptime_ms;

/// How much later than due a round may begin, in milliseconds; what is beyond it does not count.
const LATE: u64 = 500;
/// From so many milliseconds on, being late is a stall, after which everyone has another interval.
const STALL: u64 = 1_000;
/// For so long after a stall, in milliseconds, what clients have sent meanwhile is still coming in.
const BACKLOG: u64 = 1_000;

/// All times are milliseconds.
#[derive(Debug)]
pub(super) struct Clock {
    /// The machine's uptime when the shard began.
    started: u64,
    /// By when the thread will be back, if nothing stops it: since the start, stalls included.
    due: u64,
    /// How long it was not there, in all.
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

    /// Milliseconds in which the shard was there.
    pub(super) fn now(&self) -> u64 {
        self.at(self.elapsed())
    }

    fn at(&self, elapsed: u64) -> u64 {
        elapsed.min(self.due).saturating_sub(self.absent)
    }

    /// The thread begins a round: how long it was stopped, if it was.
    pub(super) fn wakes(&mut self) -> Option<Duration> {
        self.look(self.elapsed(), 0)
    }

    /// The thread goes to sleep for so many milliseconds at most: how long the round was, if it
    /// was so long that clients have waited for it.
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

    /// When the last stall ended, by [`Clock::now`]; 0 where there was none.
    pub(super) fn resumed(&self) -> u64 {
        self.resumed.map_or(0, |(now, _)| now)
    }

    /// How long somebody has had who came at this time of [`Clock::elapsed`]. After a stall
    /// everybody's time begins anew.
    pub(super) fn since(&self, came: u64) -> u64 {
        let resumed = self.resumed.map_or(0, |(_, elapsed)| elapsed);
        let elapsed = self.elapsed().min(self.due);
        elapsed.saturating_sub(came.max(resumed))
    }

    /// What a rate has grown by during a stall, in microseconds of it, while what clients sent
    /// meanwhile is still coming in.
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
        // Asked by a publisher meanwhile, it does not go on either.
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
