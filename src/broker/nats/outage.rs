//! Outages of the connection, after which the streams may be other ones.
//!
//! While the connection was lost, the engine may have been replaced, or may have lost its data. Then
//! epochs are other ones, and a node that does not know that yet would show positions that no other
//! node accepts. So nothing is appended or read between a loss of the connection and the next look
//! at the streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts outages, and the looks at the streams after them.
pub(super) struct Outages {
    begun: AtomicU64,
    checked: watch::Sender<u64>,
}

impl Default for Outages {
    fn default() -> Self {
        Outages {
            begun: AtomicU64::new(0),
            checked: watch::Sender::new(0),
        }
    }
}

impl Outages {
    /// The connection was lost, or is back.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of outages so far, to pass to [`Outages::checked`].
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// All streams were looked at, beginning when there had been so many outages.
    pub(super) fn checked(&self, begun: u64) {
        self.checked
            .send_modify(|checked| *checked = begun.max(*checked));
    }

    /// True if the streams were looked at after the last outage.
    pub(super) fn is_over(&self) -> bool {
        *self.checked.borrow() == self.begun()
    }

    /// Waits until the streams were looked at; false if that takes too long.
    pub(super) async fn is_over_within(&self, patience: Duration) -> bool {
        if self.is_over() {
            return true;
        }
        let mut checked = self.checked.subscribe();
        let over = checked.wait_for(|checked| *checked == self.begun());
        timeout(patience, over).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn look_that_began_before_an_outage_does_not_end_it() {
        let outages = Outages::default();
        assert!(outages.is_over());
        outages.begin();
        let before = outages.begun();
        outages.begin();
        outages.checked(before);
        assert!(!outages.is_over_within(Duration::from_secs(1)).await);
        outages.checked(outages.begun());
        assert!(outages.is_over_within(Duration::ZERO).await);
    }
}
