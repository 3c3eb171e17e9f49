//! A model of what a careful client knows of one channel. It checks what the client receives.
//!
//! It depends on no server code, only on the protocol's guarantees for positions, `recovered` and
//! `gap`. `self_check.rs` presents each kind of violation to it.

use std::collections::BTreeSet;

/// The guarantees of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// Its policy drops events for slow clients, and reports them.
    pub drops: bool,
    /// Its store survives restarts, and so do its epochs.
    pub durable: bool,
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
    /// Something impossible.
    Wrong(String),
}

/// A position in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The epoch.
    pub epoch: String,
    /// The event's offset in it.
    pub offset: u64,
}

/// The client's state for one channel.
#[derive(Debug)]
pub struct Book {
    promise: Promise,
    /// The last event that it has received, or knows to be missing.
    at: Option<Place>,
    /// The position from which it has asked to resume, until the reply.
    asked: Option<Place>,
    /// The events that it missed without notice, in this epoch.
    missed: BTreeSet<u64>,
    /// The store was restored from an earlier state: the epoch may change once.
    renumbered: bool,
}

impl Book {
    /// A client without any state.
    #[must_use]
    pub fn new(promise: Promise) -> Self {
        Book {
            promise,
            at: None,
            asked: None,
            missed: BTreeSet::new(),
            renumbered: false,
        }
    }

    /// The store was damaged or restored. Only a new epoch is correct.
    pub fn expect_new_epoch(&mut self) {
        self.renumbered = true;
    }

    /// The current position.
    #[must_use]
    pub fn at(&self) -> Option<&Place> {
        self.at.as_ref()
    }

    /// The client reconnects. Returns the position to resume from.
    pub fn resume(&mut self) -> Option<Place> {
        self.asked.clone_from(&self.at);
        self.asked.clone()
    }

    /// The channel's entry of `subscribed`.
    pub fn subscribed(&mut self, to: Place, recovered: bool, replayed: u64) -> Vec<Finding> {
        let asked = self.asked.take();
        let renumbered = std::mem::take(&mut self.renumbered);
        let told = format!("{to:?}, recovered {recovered}, replayed {replayed}");
        if recovered {
            return match asked {
                Some(asked) => self.recovered(&asked, &to, replayed, &told),
                None => vec![Finding::Wrong(format!("{told}: nobody asked"))],
            };
        }
        let mut findings = Vec::new();
        if replayed > 0 {
            findings.push(Finding::Wrong(format!("{told}: replayed all the same")));
        }
        if let Some(before) = asked.or_else(|| self.at.take()) {
            if before.epoch == to.epoch {
                let lost = to.offset.saturating_sub(before.offset).max(1);
                let why = format!("{told}: not recovered from {before:?}, all of which is kept");
                findings.push(Finding::Lost(lost, why));
            } else if self.promise.durable && !renumbered {
                let why = format!("{told}: a new epoch after {before:?}");
                findings.push(Finding::Wrong(why));
            }
        }
        self.missed.clear();
        self.at = Some(to);
        findings
    }

    fn recovered(&mut self, asked: &Place, to: &Place, replayed: u64, told: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        if asked.epoch != to.epoch {
            let why = format!("{told}: {asked:?} is of another epoch");
            findings.push(Finding::Wrong(why));
            self.missed.clear();
        } else if asked.offset + replayed != to.offset {
            let why = format!("{told}: that is not all since {asked:?}");
            findings.push(Finding::Wrong(why));
        }
        self.at = Some(Place {
            epoch: to.epoch.clone(),
            offset: asked.offset,
        });
        findings
    }

    /// An event, with its epoch if the transport reports it.
    pub fn event(&mut self, epoch: Option<&str>, offset: u64) -> Option<Finding> {
        let Some(at) = &mut self.at else {
            let why = format!("event {offset} before anything was said of its channel");
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
        let told = format!("gap {from} to {to}, {reason}, at {:?}", self.at);
        let Some(at) = &mut self.at else {
            return Some(Finding::Wrong(told));
        };
        if from != at.offset + 1 || to < from {
            return Some(Finding::Wrong(told));
        }
        at.offset = to;
        let dropped = matches!(reason, "slow_consumer" | "conflated");
        if self.promise.drops && dropped {
            return None;
        }
        Some(Finding::Lost(to - from + 1, told))
    }
}
