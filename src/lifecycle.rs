//! The server's lifecycle: serving, not ready, draining.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::uptime;

/// The assumed minimum duration of a restart. A client that reconnects earlier finds no server.
const RESTART: Duration = Duration::from_secs(1);
/// The minimum window over which reconnecting clients are spread.
const SPREAD: Duration = Duration::from_millis(500);
/// The most connections that a single server closes per millisecond.
const A_MILLISECOND: usize = 1;

/// The server's lifecycle as the transports and the hub see it. Only the code that stops the server
/// changes it.
#[derive(Debug, Default)]
pub struct Lifecycle {
    unready: AtomicBool,
    departure: OnceLock<Departure>,
    /// Cancelled when draining begins.
    leaving: CancellationToken,
}

impl Lifecycle {
    /// True until the server is told to stop. While true, load balancers may send clients here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.unready.load(Relaxed)
    }

    /// The server is about to stop. Load balancers are told, and requests are still served.
    pub fn not_ready(&self) {
        self.unready.store(true, Relaxed);
    }

    /// Draining begins: connections are closed, and no new ones are admitted.
    pub fn leave(&self, departure: Departure) {
        self.not_ready();
        // The first call wins.
        self.departure.get_or_init(|| departure);
        self.leaving.cancel();
    }

    /// Cancelled when draining begins.
    #[must_use]
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// The schedule by which connections are closed, once draining has begun.
    #[must_use]
    pub fn departure(&self) -> Option<&Departure> {
        self.departure.get()
    }
}

/// The schedule by which connections are closed: one after the other, evenly over a window.
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    began: Duration,
    span: Duration,
    /// Whether other servers can take the clients.
    elsewhere: bool,
}

impl Departure {
    /// Begins draining. All connections are closed within `window`, including those that use the
    /// full time of the closing handshake.
    ///
    /// If a load balancer has had time to redirect clients to other servers (`elsewhere`),
    /// connections are closed evenly over the window, so that the others admit a few at a time. A
    /// single server restarts sooner the sooner its clients are gone, so it closes them as fast as
    /// it could admit them again.
    #[must_use]
    pub fn begin(connections: usize, window: Duration, elsewhere: bool) -> Self {
        let close_time = (window / 5).min(Duration::from_secs(1));
        let most = window.saturating_sub(close_time);
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

    /// The window over which connections are closed.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// When a client whose connection closes now should reconnect: soon to another server, or after
    /// the restart of this one. Spread out, so that clients do not reconnect all at once.
    #[must_use]
    pub fn come_back(&self) -> Duration {
        let left = (self.began + self.span).saturating_sub(uptime());
        let (least, spread) = if self.elsewhere {
            // Connections close one after the other, which spreads the clients enough.
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
    fn drain_with_other_servers_spreads_over_window() {
        for connections in [1, 100, 1_000_000] {
            let departure = Departure::begin(connections, WINDOW, true);
            assert_eq!(departure.span(), Duration::from_secs(9));
            assert!(departure.come_back() <= SPREAD);
        }
    }

    #[test]
    fn drain_of_single_small_server_is_short() {
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
    fn many_clients_reconnect_spread_out() {
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
    fn short_window_leaves_time_for_close_handshake() {
        let departure = Departure::begin(1_000_000, Duration::from_secs(1), false);
        assert_eq!(departure.span(), Duration::from_millis(800));
    }

    #[test]
    fn server_is_not_ready_before_draining() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.is_ready() && lifecycle.departure().is_none());
        lifecycle.not_ready();
        assert!(!lifecycle.is_ready() && lifecycle.departure().is_none());
        lifecycle.leave(Departure::begin(1, WINDOW, false));
        assert!(!lifecycle.is_ready() && lifecycle.departure().is_some());
    }
}
