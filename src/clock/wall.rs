//! The calendar time, which ignores a clock step until it has lasted.
//!
//! NTP slews a clock gently, but steps happen: a virtual machine is resumed, an operator corrects a
//! wrong year, a time server is wrong for a second. Decisions made in such a second often persist
//! (an expiry, a refused token). Hence, a step counts only once it has lasted.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use super::uptime;

/// The tolerated deviation from the expected time, in microseconds. Covers slewing and leap
/// seconds.
const TOLERATED: i64 = 1_500_000;
/// How long a step must last to count, in microseconds.
const LASTS: i64 = 5_000_000;
/// The granularity at which drift is tracked, in microseconds. A finer one would make every thread
/// write often.
const DRIFT: i64 = 1_000;
/// The value is not known yet.
const NONE: i64 = i64::MIN;

/// Microseconds since 1970 by the system's clock. For 5 s after a clock step, the time without the
/// step.
#[must_use]
pub fn wall_micros() -> i64 {
    static WALL: Wall = Wall::new();
    let up = i64::try_from(uptime().as_micros()).unwrap_or(i64::MAX);
    let (now, stepped) = WALL.read(up, system());
    if let Some(by) = stepped {
        let seconds = by / 1_000_000;
        tracing::warn!(seconds, "the system's clock was set");
    }
    now
}

fn system() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN + 1, |m| -m),
    }
}

/// What is known of the system's clock. Threads may race: each number is valid by itself, so at
/// worst a step counts one reading later.
struct Wall {
    /// The offset of the system's clock from the uptime.
    offset: AtomicI64,
    /// The same after a step that does not count yet.
    doubted: AtomicI64,
    /// The uptime at which the step was first seen.
    since: AtomicI64,
}

impl Wall {
    const fn new() -> Self {
        Wall {
            offset: AtomicI64::new(NONE),
            doubted: AtomicI64::new(NONE),
            since: AtomicI64::new(NONE),
        }
    }

    /// The time, given the system's clock `system` at the uptime `up`, and the size of the step if
    /// it has just begun to count.
    fn read(&self, up: i64, system: i64) -> (i64, Option<i64>) {
        let offset = system.saturating_sub(up);
        let known = self.offset.load(Relaxed);
        if known == NONE {
            self.offset.store(offset, Relaxed);
            return (system, None);
        }
        if near(offset, known, TOLERATED) {
            if !near(offset, known, DRIFT) {
                self.offset.store(offset, Relaxed);
            }
            if self.doubted.load(Relaxed) != NONE {
                self.doubted.store(NONE, Relaxed);
            }
            return (system, None);
        }
        let doubted = self.doubted.load(Relaxed);
        if doubted == NONE || !near(offset, doubted, TOLERATED) {
            self.since.store(up, Relaxed);
            self.doubted.store(offset, Relaxed);
        } else if up.saturating_sub(self.since.load(Relaxed)) >= LASTS {
            self.offset.store(offset, Relaxed);
            self.doubted.store(NONE, Relaxed);
            return (system, Some(offset.saturating_sub(known)));
        }
        (up.saturating_add(known), None)
    }
}

fn near(a: i64, b: i64, by: i64) -> bool {
    a.abs_diff(b) <= by.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;
    /// Some time in 2026.
    const START: i64 = 1_790_000_000 * SECOND;

    /// A clock that was first read at uptime 0.
    fn wall() -> Wall {
        let wall = Wall::new();
        assert_eq!(wall.read(0, START), (START, None));
        wall
    }

    #[test]
    fn reverted_clock_step_has_no_effect() {
        for step in [30 * DAY, -DAY] {
            let wall = wall();
            assert_eq!(wall.read(SECOND, START + SECOND + step).0, START + SECOND);
            assert_eq!(
                wall.read(2 * SECOND, START + 2 * SECOND).0,
                START + 2 * SECOND
            );
            // The next step starts its own waiting period.
            let late = 20 * SECOND;
            assert_eq!(wall.read(late, START + late + step).0, START + late);
        }
    }

    #[test]
    fn lasting_clock_step_takes_effect() {
        for step in [30 * DAY, -DAY] {
            let wall = wall();
            let early = SECOND + LASTS - 1;
            assert_eq!(wall.read(SECOND, START + SECOND + step).0, START + SECOND);
            assert_eq!(wall.read(early, START + early + step).0, START + early);
            let late = early + 1;
            assert_eq!(
                wall.read(late, START + late + step),
                (START + late + step, Some(step))
            );
            assert_eq!(wall.read(late + 1, START + late + 1 + step).1, None);
        }
    }

    #[test]
    fn second_clock_step_waits_again() {
        let wall = wall();
        wall.read(SECOND, START + SECOND + DAY);
        let late = SECOND + LASTS;
        assert_eq!(wall.read(late, START + late - DAY).0, START + late);
    }

    #[test]
    fn clock_slewing_is_followed() {
        let wall = wall();
        let mut system = START;
        for second in 1..1000 {
            // A quarter of a second per second is more than any daemon slews.
            system += SECOND + SECOND / 4;
            assert_eq!(wall.read(second * SECOND, system), (system, None));
        }
    }
}
