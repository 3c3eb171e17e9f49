//! Where the server is in its life: serving, about to stop, or sending everyone away.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::uptime;

/// How long a restart takes, at least: whoever comes back earlier meets nobody.
const RESTART: Duration = Duration::from_secs(1);
/// The least time over which those who come back are spread.
const SPREAD: Duration = Duration::from_millis(500);
/// A lone server sends at most so many connections away in a millisecond.
const A_MILLISECOND: usize = 1;

/// What the transports and the bus know of the server's end. Everything is said once, by whoever
/// stops the server.
#[derive(Debug, Default)]
pub struct Lifecycle {
    unready: AtomicBool,
    departure: OnceLock<Departure>,
    /// Rings when connections leave.
    leaving: CancellationToken,
}

impl Lifecycle {
    /// True until the server is told to stop: balancers may send clients here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.unready.load(Relaxed)
    }

    /// The server will stop: balancers are told so, and everything is served as before.
    pub fn not_ready(&self) {
        self.unready.store(true, Relaxed);
    }

    /// From now on connections leave, and no new ones are taken.
    pub fn leave(&self, departure: Departure) {
        self.not_ready();
        // The first word holds.
        self.departure.get_or_init(|| departure);
        self.leaving.cancel();
    }

    /// Rings when connections leave.
    #[must_use]
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// How connections leave, once they do.
    #[must_use]
    pub fn departure(&self) -> Option<&Departure> {
        self.departure.get()
    }
}

/// How connections leave: one after the other, evenly over a span.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    began: Duration,
    span: Duration,
    /// There are other servers to go to.
    elsewhere: bool,
}

impl Departure {
    /// Connections leave from now on and have gone within `window`, those included that take their
    /// time for the closing handshake.
    ///
    /// Where a balancer was given time to lead clients to other servers (`elsewhere`), they leave
    /// evenly over the window: the others take up a few at a time. A lone server is back the
    /// sooner, the sooner they have gone, so they leave as fast as it could take them up again.
    #[must_use]
    pub fn begin(connections: usize, window: Duration, elsewhere: bool) -> Self {
        let last_words = (window / 5).min(Duration::from_secs(1));
        let most = window.saturating_sub(last_words);
        let needed = u64::try_from(connections / A_MILLISECOND).unwrap_or(u64::MAX);
        let span = if elsewhere {
            most
        } else {
            most.min(Duration::from_millis(needed))
        };
        Departure {
            began: uptime(),
            span,
            elsewhere,
        }
    }

    /// Over how long they leave.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// After how long a client that leaves now finds a server again: another one soon, this one
    /// after its restart. Spread, so that they don't come all at once.
    #[must_use]
    pub fn come_back(&self) -> Duration {
        let left = (self.began + self.span).saturating_sub(uptime());
        let (least, spread) = if self.elsewhere {
            // They leave one after the other: that is spread enough.
            (Duration::ZERO, SPREAD)
        } else {
            (left + RESTART, self.span.max(SPREAD))
        };
        least + spread.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn with_others_to_go_to_they_leave_evenly_over_the_window_and_come_back_soon() {
        for connections in [1, 100, 1_000_000] {
            let departure = Departure::begin(connections, WINDOW, true);
            assert_eq!(departure.span(), Duration::from_secs(9));
            assert!(departure.come_back() <= SPREAD);
        }
    }

    #[test]
    fn a_lone_server_with_few_connections_is_back_soon() {
        let departure = Departure::begin(200, WINDOW, false);
        assert_eq!(departure.span(), Duration::from_millis(200));
        for _ in 0..1000 {
            let after = departure.come_back();
            assert!(
                after >= RESTART && after <= Duration::from_secs(2),
                "{after:?}"
            );
        }
    }

    #[test]
    fn a_crowd_comes_back_spread_after_all_have_gone() {
        let departure = Departure::begin(1_000_000, WINDOW, false);
        assert_eq!(departure.span(), Duration::from_secs(9));
        let (mut soonest, mut latest) = (Duration::MAX, Duration::ZERO);
        for _ in 0..1000 {
            let after = departure.come_back();
            (soonest, latest) = (soonest.min(after), latest.max(after));
        }
        assert!(soonest >= Duration::from_secs(9), "{soonest:?}");
        assert!(
            latest > soonest + Duration::from_secs(5),
            "{soonest:?} to {latest:?}"
        );
    }

    #[test]
    fn a_short_window_leaves_time_for_last_words() {
        let departure = Departure::begin(1_000_000, Duration::from_secs(1), false);
        assert_eq!(departure.span(), Duration::from_millis(800));
    }

    #[test]
    fn it_is_unready_before_anyone_leaves() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.is_ready() && lifecycle.departure().is_none());
        lifecycle.not_ready();
        assert!(!lifecycle.is_ready() && lifecycle.departure().is_none());
        lifecycle.leave(Departure::begin(1, WINDOW, false));
        assert!(!lifecycle.is_ready() && lifecycle.departure().is_some());
    }
}
