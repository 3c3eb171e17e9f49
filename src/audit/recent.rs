//! The newest refusals and closes, in memory, for operators.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Record, What};
use crate::event::Timestamp;

/// How many are kept.
const KEPT: usize = 1000;
/// The longest text of one, in bytes: clients choose some of them.
const LONGEST: usize = 256;

/// A refusal, or a close that has a reason. Texts are cut off at 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its number since the start, from 1.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// What happened, as the audit log names it.
    pub kind: &'static str,
    /// The error's code; empty for a close.
    pub code: &'static str,
    /// The close code; 0 for a refusal that closed nothing.
    pub close_code: u16,
    /// Why.
    pub reason: String,
    /// The user; empty if unknown.
    pub user: String,
    /// The client's address; empty if unknown.
    pub address: String,
    /// Its transport; empty if unknown.
    pub transport: &'static str,
    /// The channel; empty if it is about none.
    pub channel: String,
    /// The event type; empty if it is about none.
    pub event_type: String,
    /// The connection; empty if there was none.
    pub connection: String,
    /// Who closed it: `client`, `server`, or an operator's name; empty for a refusal.
    pub by: String,
}

/// A part of what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// Oldest first.
    pub refusals: Vec<Arc<Refusal>>,
    /// How many came in between and are no longer kept.
    pub missed: u64,
}

/// A ring of the newest 1,000.
#[derive(Debug)]
pub struct RecentRefusals {
    ring: Mutex<VecDeque<Arc<Refusal>>>,
    /// The sequence number of the newest.
    newest: watch::Sender<u64>,
}

impl Default for RecentRefusals {
    fn default() -> Self {
        RecentRefusals {
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl RecentRefusals {
    /// Those after this sequence number, at most `limit`: the newest of them.
    #[must_use]
    pub fn after(&self, sequence: u64, limit: usize) -> Recent {
        let ring = self.lock();
        let newest = ring.back().map_or(0, |newest| newest.sequence);
        let wanted = usize::try_from(newest.saturating_sub(sequence)).unwrap_or(usize::MAX);
        let count = wanted.min(limit).min(ring.len());
        Recent {
            refusals: ring.range(ring.len() - count..).cloned().collect(),
            missed: u64::try_from(wanted - count).unwrap_or(u64::MAX),
        }
    }

    /// Changes whenever there is a new one; holds its sequence number.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Keeps a record if it is a refusal, or a close with a reason.
    pub(super) fn note(&self, what: What, record: &Record<'_>) {
        let closes = what == What::Disconnect;
        let by_client = record.by == Some("client");
        let is_wanted = match what {
            What::Refused
            | What::AuthenticationFailed
            | What::SubscribeRefused
            | What::PublishRefused => true,
            What::Disconnect => record.reason.is_some() || !by_client,
            What::Connect
            | What::Authenticated
            | What::Subscribe
            | What::Publish
            | What::Purge
            | What::Grant
            | What::Revoke
            | What::ResendWebhooks
            | What::Reload
            | What::Start
            | What::Stop => false,
        };
        if !is_wanted {
            return;
        }
        let reason = record.error.map(crate::error::Error::message);
        let text = |text: Option<&str>| cut(text.unwrap_or_default());
        let mut refusal = Refusal {
            sequence: 0,
            time: Timestamp::now(),
            kind: what.as_str(),
            code: record.error.map_or("", |error| error.code().as_str()),
            close_code: record.close.unwrap_or_default(),
            reason: cut(reason.as_deref().or(record.reason).unwrap_or_default()),
            user: text(record.user),
            address: record.address.map(|a| a.to_string()).unwrap_or_default(),
            transport: record
                .transport
                .map_or("", crate::telemetry::Transport::as_str),
            channel: text(record.channel),
            event_type: text(record.event_type),
            connection: record
                .connection
                .map(|id| id.to_string())
                .unwrap_or_default(),
            by: text(record.by.filter(|_| closes)),
        };
        let mut ring = self.lock();
        refusal.sequence = ring.back().map_or(0, |newest| newest.sequence) + 1;
        let oldest = (ring.len() >= KEPT).then(|| ring.pop_front());
        self.newest.send_replace(refusal.sequence);
        ring.push_back(Arc::new(refusal));
        drop(ring);
        drop(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Refusal>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn refuse(recent: &RecentRefusals, reason: &str) {
        let error = Error::denied(reason.to_owned());
        let record = Record {
            user: Some("ann"),
            error: Some(&error),
            ..Record::default()
        };
        recent.note(What::PublishRefused, &record);
    }

    #[test]
    fn ring_is_bounded_and_counts_what_a_reader_missed() {
        let recent = RecentRefusals::default();
        let watch = recent.watch();
        for n in 0..KEPT + 10 {
            refuse(&recent, &n.to_string());
        }
        assert!(watch.has_changed().unwrap());
        let all = recent.after(0, KEPT);
        assert_eq!((all.refusals.len(), all.missed), (KEPT, 10));
        let last = all.refusals.last().unwrap();
        assert_eq!(
            (last.sequence, last.kind, last.code),
            (1010, "publish_refused", "permission_denied")
        );
        assert_eq!((last.user.as_str(), last.by.as_str()), ("ann", ""));
        assert_eq!(recent.after(1010, KEPT), Recent::default());
        let two = recent.after(1000, 2);
        assert_eq!((two.refusals.len(), two.missed), (2, 8));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let recent = RecentRefusals::default();
        refuse(&recent, &"ä".repeat(300));
        let kept = recent.after(0, 1).refusals;
        assert!(kept[0].reason.len() <= LONGEST && kept[0].reason.ends_with('ä'));
    }

    #[test]
    fn only_closes_with_a_reason_are_kept() {
        let recent = RecentRefusals::default();
        let close = |by, reason| Record {
            close: Some(1000),
            by: Some(by),
            reason,
            ..Record::default()
        };
        recent.note(What::Disconnect, &close("client", None));
        recent.note(What::Connect, &Record::default());
        assert_eq!(recent.after(0, 9).refusals.len(), 0);
        recent.note(What::Disconnect, &close("server", None));
        recent.note(What::Disconnect, &close("client", Some("bye")));
        let kept = recent.after(0, 9).refusals;
        assert_eq!(kept.len(), 2);
        assert_eq!(
            (kept[1].by.as_str(), kept[1].reason.as_str()),
            ("client", "bye")
        );
    }
}
