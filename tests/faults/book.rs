//! The book that a careful client keeps of one channel, and what it finds wrong.
//!
//! It knows nothing of the server's code: only what the protocol promises of positions,
//! `recovered` and `gap`. `self_check.rs` puts each fault in front of it that it is there to find.

use std::collections::BTreeSet;

/// What a channel promises.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// Its policy drops events for slow clients, and says so.
    pub drops: bool,
    /// Its store keeps everything over restarts, and so its numbering.
    pub durable: bool,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// So many events did not come, and nothing was said.
    Lost(u64, String),
    /// An event came again.
    Repeated(String),
    /// An event that had been missed came after later ones.
    Reordered(String),
    /// Something that can't be.
    Wrong(String),
}

/// A place in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The numbering.
    pub epoch: String,
    /// The event's number in it.
    pub offset: u64,
}

/// Where a client stands in one channel.
#[derive(Debug)]
pub struct Book {
    promise: Promise,
    /// The last event that it has, or knows to be missing.
    at: Option<Place>,
    /// From where it asked to resume, until it is told.
    asked: Option<Place>,
    /// What it missed without a word, in this numbering.
    missed: BTreeSet<u64>,
    /// The store has another time line: it may be numbered anew, once.
    renumbered: bool,
}

impl Book {
    /// A client that knows nothing yet.
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

    /// Its store was damaged, or put back: a new epoch is right, and only that.
    pub fn expect_new_epoch(&mut self) {
        self.renumbered = true;
    }

    /// Where it stands.
    #[must_use]
    pub fn at(&self) -> Option<&Place> {
        self.at.as_ref()
    }

    /// It connects again: from where to resume.
    pub fn resume(&mut self) -> Option<Place> {
        self.asked.clone_from(&self.at);
        self.asked.clone()
    }

    /// The channel's part of `subscribed`.
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

    /// An event; its epoch where the transport tells it.
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
