//! When a publish was accepted.

use std::time::Duration;

use super::Timestamp;
use crate::clock::uptime;

/// When a node accepted a publish: the start of the latencies that are measured.
///
/// The node that accepted the publish measures with a clock that nobody can set, so that its
/// latencies are exact. Other nodes only know the time of day ([`AcceptedAt::wall`]). An event that
/// was read from disk has no such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedAt(At);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// On this node: its [`uptime`] in nanoseconds.
    Here(u64),
    /// On another node, by its calendar clock.
    Elsewhere(Timestamp),
    Unknown,
}

impl AcceptedAt {
    /// Unknown, so no latency is measured: the event was read from storage.
    pub const UNKNOWN: AcceptedAt = AcceptedAt(At::Unknown);

    /// Now, on this node.
    #[must_use]
    pub fn now() -> Self {
        AcceptedAt(At::Here(nanos(uptime())))
    }

    /// At this time, on another node.
    #[must_use]
    pub const fn elsewhere(at: Timestamp) -> Self {
        AcceptedAt(At::Elsewhere(at))
    }

    /// The time since then. `None` if it is unknown. Zero, and never negative, if the other node's
    /// clock is ahead of this one's.
    #[must_use]
    pub fn elapsed(self) -> Option<Duration> {
        self.until(nanos(uptime()), Timestamp::now)
    }

    fn until(self, uptime: u64, now: impl FnOnce() -> Timestamp) -> Option<Duration> {
        match self.0 {
            At::Here(at) => Some(Duration::from_nanos(uptime.saturating_sub(at))),
            At::Elsewhere(at) => {
                let passed = now().as_micros().saturating_sub(at.as_micros());
                Some(Duration::from_micros(u64::try_from(passed).unwrap_or(0)))
            }
            At::Unknown => None,
        }
    }

    /// The time of day, for a record that other nodes read. `None` if it is unknown.
    #[must_use]
    pub fn wall(self) -> Option<Timestamp> {
        if let At::Elsewhere(at) = self.0 {
            return Some(at);
        }
        let ago = i64::try_from(self.elapsed()?.as_micros()).unwrap_or(i64::MAX);
        let now = Timestamp::now().as_micros();
        Some(Timestamp::from_micros(now.saturating_sub(ago)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn latency_on_one_node_ignores_the_calendar_clock() {
        let accepted = AcceptedAt(At::Here(1_000));
        let jumped = || unreachable!("the calendar clock is not read");
        let took = accepted.until(4_500, jumped);
        assert_eq!(took, Some(Duration::from_nanos(3_500)));
    }

    #[test]
    fn latency_from_another_node_is_never_negative() {
        let accepted = AcceptedAt::elsewhere(at(1_000_000));
        let took = |now| accepted.until(0, || at(now));
        assert_eq!(took(1_000_250), Some(Duration::from_micros(250)));
        assert_eq!(took(999_000), Some(Duration::ZERO), "its clock is ahead");
        assert_eq!(took(i64::MIN), Some(Duration::ZERO));
    }

    #[test]
    fn time_of_day_survives_a_record() {
        let before = Timestamp::now();
        let accepted = AcceptedAt::now();
        let wall = accepted.wall().unwrap();
        assert!(wall.as_micros() >= before.as_micros() - 1_000_000);
        assert!(wall.as_micros() <= Timestamp::now().as_micros() + 1_000_000);
        assert_eq!(AcceptedAt::elsewhere(wall).wall(), Some(wall));
    }

    #[test]
    fn unknown_time_is_not_measured() {
        assert_eq!(AcceptedAt::UNKNOWN.elapsed(), None);
        assert_eq!(AcceptedAt::UNKNOWN.wall(), None);
        assert_eq!(size_of::<AcceptedAt>(), 16);
    }
}
