//! Retention by count, bytes and age, determined without reading what is kept.
//!
//! Each event stores how many bytes its channel had received before it, and times never decrease
//! within a channel. Hence, the [`Mark`] of an event alone determines whether it is expired, and
//! the first kept event is found by binary search.

use std::collections::VecDeque;

use super::record::Numbers;
use super::trouble::Trouble;
use crate::broker::clock::millis;
use crate::event::HistoryPolicy;

/// How many marks of the oldest events are cached per channel.
pub(super) const MARKS: usize = 64;

/// The data that retention needs of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// When it was stored, in milliseconds since 1970, by the store's clock.
    pub(super) at: u64,
    /// The bytes that its channel had received before it.
    pub(super) before: u64,
}

/// The start and the end of a channel's kept events.
#[derive(Debug, Clone)]
pub(super) struct History {
    numbers: Numbers,
    /// The marks of the oldest events: of `first` and its successors.
    marks: VecDeque<Mark>,
}

/// Reads marks from disk: a sequence of up to this many from an offset on, with the offset at which
/// it begins (a later one, if an event is unreadable).
pub(super) type LookUp<'l> =
    &'l mut dyn FnMut(u64, usize) -> Result<Option<(u64, Vec<Mark>)>, Trouble>;

impl History {
    pub(super) fn new(numbers: Numbers) -> Self {
        History {
            numbers,
            marks: VecDeque::new(),
        }
    }

    /// The state of a channel without events.
    pub(super) const EMPTY: Numbers = Numbers {
        last: 0,
        last_at: 0,
        total: 0,
        first: 1,
        first_at: 0,
        before: 0,
    };

    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// True if no event is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.first > self.numbers.last
    }

    fn len(&self) -> u64 {
        (self.numbers.last + 1).saturating_sub(self.numbers.first)
    }

    /// Appends an event of this weight. Returns its offset and mark.
    pub(super) fn append(&mut self, now: u64, weight: usize) -> (u64, Mark) {
        let numbers = &mut self.numbers;
        let mark = Mark {
            at: now.max(numbers.last_at),
            before: numbers.total,
        };
        let known = u64::try_from(self.marks.len()).unwrap_or(u64::MAX);
        if numbers.first > numbers.last {
            numbers.first_at = mark.at;
            numbers.before = mark.before;
        }
        if known == (numbers.last + 1).saturating_sub(numbers.first) && self.marks.len() < MARKS {
            self.marks.push_back(mark);
        }
        numbers.last += 1;
        numbers.last_at = mark.at;
        numbers.total += u64::try_from(weight).unwrap_or(u64::MAX);
        (numbers.last, mark)
    }

    /// Advances the start to the first event to keep, as far as the cached marks tell. False if the
    /// disk must be read.
    pub(super) fn trim(&mut self, policy: &HistoryPolicy, now: u64) -> bool {
        if !self.is_empty() && expired(self.numbers.last_at, policy, now) {
            self.clear();
        }
        while !self.is_empty() && self.is_gone(self.numbers.first, self.front(), policy, now) {
            if self.numbers.first == self.numbers.last {
                self.clear();
                return true;
            }
            let Some(next) = self.marks.get(1).copied() else {
                return false;
            };
            self.marks.pop_front();
            self.begin(self.numbers.first + 1, next);
        }
        true
    }

    /// Like [`History::trim`], reading the disk if necessary.
    pub(super) fn trim_with(
        &mut self,
        policy: &HistoryPolicy,
        now: u64,
        look_up: LookUp<'_>,
    ) -> Result<(), Trouble> {
        if self.trim(policy, now) {
            return Ok(());
        }
        // Usually, only the next few are expired.
        self.take_run(look_up(self.numbers.first, MARKS)?);
        if self.trim(policy, now) {
            return Ok(());
        }
        self.halve(policy, now, look_up)?;
        self.take_run(look_up(self.numbers.first, MARKS)?);
        Ok(())
    }

    /// Finds the first event to keep after `first`, which is expired.
    fn halve(
        &mut self,
        policy: &HistoryPolicy,
        now: u64,
        look_up: LookUp<'_>,
    ) -> Result<(), Trouble> {
        // Invariant: `low` is expired. `high` is to be kept if `found` is set, or is after the
        // newest.
        let (mut low, mut high) = (self.numbers.first, self.numbers.last + 1);
        let mut found = None;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let run = look_up(middle, 1)?;
            let readable = run.and_then(|(offset, marks)| Some((offset, *marks.first()?)));
            match readable {
                Some((offset, mark)) if offset < high => {
                    if self.is_gone(offset, mark, policy, now) {
                        low = offset;
                    } else {
                        high = middle;
                        found = Some((offset, mark));
                    }
                }
                // Nothing readable from here to `high`.
                _ => high = middle,
            }
        }
        match found {
            Some((offset, mark)) => {
                self.marks.clear();
                self.begin(offset, mark);
            }
            None => self.clear(),
        }
        Ok(())
    }

    fn front(&self) -> Mark {
        Mark {
            at: self.numbers.first_at,
            before: self.numbers.before,
        }
    }

    fn is_gone(&self, offset: u64, mark: Mark, policy: &HistoryPolicy, now: u64) -> bool {
        let count = (self.numbers.last + 1).saturating_sub(offset);
        let bytes = self.numbers.total.saturating_sub(mark.before);
        count > u64::try_from(policy.size).unwrap_or(u64::MAX)
            || bytes > u64::try_from(policy.bytes).unwrap_or(u64::MAX)
            || expired(mark.at, policy, now)
    }

    fn begin(&mut self, first: u64, mark: Mark) {
        self.numbers.first = first;
        self.numbers.first_at = mark.at;
        self.numbers.before = mark.before;
    }

    fn clear(&mut self) {
        self.marks.clear();
        let (last, total) = (self.numbers.last, self.numbers.total);
        self.begin(
            last + 1,
            Mark {
                at: 0,
                before: total,
            },
        );
    }

    /// Caches marks that were read from `first` on.
    fn take_run(&mut self, run: Option<(u64, Vec<Mark>)>) {
        let Some((offset, marks)) = run else { return };
        let known = usize::try_from(self.len()).unwrap_or(usize::MAX);
        if offset == self.numbers.first {
            self.marks = marks.into_iter().take(MARKS.min(known)).collect();
        }
    }

    /// Adopts the start that another reader of the same channel found.
    pub(super) fn adopt_start_of(&mut self, other: &History) {
        if other.numbers.first > self.numbers.first && !other.is_empty() {
            self.marks.clone_from(&other.marks);
            self.begin(other.numbers.first, other.front());
        } else if other.is_empty() && other.numbers.last == self.numbers.last {
            self.clear();
        }
    }
}

fn expired(at: u64, policy: &HistoryPolicy, now: u64) -> bool {
    now.saturating_sub(at) >= millis(policy.ttl)
}
