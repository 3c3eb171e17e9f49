//! A model of what a careful client knows of one channel. It checks what the client receives.
//!
//! It depends on no server code, only on the protocol's guarantees for positions, `recovered` and
//! `gap`. `self_check.rs` presents each kind of violation to it.

use std::collections::BTreeSet;

/// The guarantees of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Guarantees {
    /// Its policy drops events for slow clients, and reports them.
    pub drops: bool,
    /// Its store survives restarts, and so do its epochs.
    pub durable: bool,
    /// Its history may be out of reach for a while: then a `gap` names what could not be read.
    pub remote: bool,
}

/// A violated guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// This many events were lost without notice.
    Lost(u64, String),
    /// An event was delivered twice.
    Repeated(String),
    /// A missed event was delivered after later ones.
    Reordered(String),
    /// A new epoch that nothing explains.
    NewEpoch(String),
    /// Something impossible.
    Wrong(String),
}

/// A position in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPosition {
    /// The epoch.
    pub epoch: String,
    /// The event's offset in it.
    pub offset: u64,
}

/// The client's state for one channel.
#[derive(Debug)]
pub struct Book {
    guarantees: Guarantees,
    /// The last event that it has received, or knows to be missing.
    at: Option<ChannelPosition>,
    /// The position from which it has requested to resume, until the reply.
    requested: Option<ChannelPosition>,
    /// The events that it missed without notice, in this epoch.
    missed: BTreeSet<u64>,
    /// The store was restored from an earlier state: the epoch may change once.
    new_epoch: bool,
}

impl Book {
    /// A client without any state.
    #[must_use]
    pub fn new(guarantees: Guarantees) -> Self {
        Book {
            guarantees,
            at: None,
            requested: None,
            missed: BTreeSet::new(),
            new_epoch: false,
        }
    }

    /// The store was damaged or restored. Only a new epoch is correct.
    pub fn expect_new_epoch(&mut self) {
        self.new_epoch = true;
    }

    /// The current position.
    #[must_use]
    pub fn at(&self) -> Option<&ChannelPosition> {
        self.at.as_ref()
    }

    /// The client reconnects. Returns the position to resume from.
    pub fn resume(&mut self) -> Option<ChannelPosition> {
        self.requested.clone_from(&self.at);
        self.requested.clone()
    }

    /// The channel's entry of `subscribed`.
    pub fn subscribed(
        &mut self,
        to: ChannelPosition,
        recovered: bool,
        replayed: u64,
    ) -> Vec<Finding> {
        let requested = self.requested.take();
        let new_epoch = std::mem::take(&mut self.new_epoch);
        let reported = format!("{to:?}, recovered {recovered}, replayed {replayed}");
        if recovered {
            return match requested {
                Some(requested) => self.recovered(&requested, &to, replayed, &reported),
                None => vec![Finding::Wrong(format!("{reported}: nobody requested"))],
            };
        }
        let mut findings = Vec::new();
        if replayed > 0 {
            findings.push(Finding::Wrong(format!("{reported}: replayed all the same")));
        }
        if let Some(before) = requested.or_else(|| self.at.take()) {
            if before.epoch == to.epoch {
                let lost = to.offset.saturating_sub(before.offset).max(1);
                let why =
                    format!("{reported}: not recovered from {before:?}, all of which is kept");
                findings.push(Finding::Lost(lost, why));
            } else if self.guarantees.durable && !new_epoch {
                let why = format!("{reported}: a new epoch after {before:?}");
                findings.push(Finding::NewEpoch(why));
            }
        }
        self.missed.clear();
        self.at = Some(to);
        findings
    }

    fn recovered(
        &mut self,
        requested: &ChannelPosition,
        to: &ChannelPosition,
        replayed: u64,
        reported: &str,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        if requested.epoch != to.epoch {
            let why = format!("{reported}: {requested:?} is of another epoch");
            findings.push(Finding::Wrong(why));
            self.missed.clear();
        } else if requested.offset + replayed != to.offset {
            let why = format!("{reported}: that is not all since {requested:?}");
            findings.push(Finding::Wrong(why));
        }
        self.at = Some(ChannelPosition {
            epoch: to.epoch.clone(),
            offset: requested.offset,
        });
        findings
    }

    /// An event, with its epoch if the transport reports it.
    pub fn event(&mut self, epoch: Option<&str>, offset: u64) -> Option<Finding> {
        let Some(at) = &mut self.at else {
            let why = format!("event {offset} before its channel was answered");
            return Some(Finding::Wrong(why));
        };
        if epoch.is_some_and(|epoch| epoch != at.epoch) {
            return Some(Finding::Wrong(format!("{offset} of {epoch:?} at {at:?}")));
        }
        let next = at.offset + 1;
        if offset == next {
            at.offset = offset;
            return None;
        }
        if offset > next {
            let why = format!("{offset} came at {at:?}");
            self.missed.extend(next..offset);
            at.offset = offset;
            return Some(Finding::Lost(offset - next, why));
        }
        let why = format!("{offset} came at {at:?}");
        if self.missed.remove(&offset) {
            Some(Finding::Reordered(why))
        } else {
            Some(Finding::Repeated(why))
        }
    }

    /// A `gap`.
    pub fn gap(&mut self, from: u64, to: u64, reason: &str) -> Option<Finding> {
        let reported = format!("gap {from} to {to}, {reason}, at {:?}", self.at);
        let Some(at) = &mut self.at else {
            return Some(Finding::Wrong(reported));
        };
        if from != at.offset + 1 || to < from {
            return Some(Finding::Wrong(reported));
        }
        at.offset = to;
        let dropped = matches!(reason, "slow_consumer" | "conflated");
        if self.guarantees.drops && dropped || self.guarantees.remote && reason == "unavailable" {
            return None;
        }
        Some(Finding::Lost(to - from + 1, reported))
    }
}
