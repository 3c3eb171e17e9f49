//! What is kept of a channel: by count, by bytes and by age, found without reading what is not.
//!
//! Each event carries how many bytes its channel had taken before it, and times never go back
//! within a channel. So whether an event is too old or one too many can be told from its own
//! [`Mark`] alone, and where the kept ones begin is found by halving.

use std::collections::VecDeque;

use super::clock::millis;
use super::record::Numbers;
use super::trouble::Trouble;
use crate::event::HistoryPolicy;

/// The marks of the oldest events that are kept in memory for each channel.
pub(super) const MARKS: usize = 64;

/// What retention asks of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// When it was stored, in milliseconds since 1970.
    pub(super) at: u64,
    /// How many bytes its channel had taken before it.
    pub(super) before: u64,
}

/// Where a channel stands and where its kept events begin.
#[derive(Debug, Clone)]
pub(super) struct History {
    numbers: Numbers,
    /// The marks of the oldest events: of `first`, of the one after it, and so on.
    marks: VecDeque<Mark>,
}

/// Looks marks up on disk: a run of up to so many from an offset on, with the offset at which it
/// begins (a later one, where an event can't be read).
pub(super) type LookUp<'l> =
    &'l mut dyn FnMut(u64, usize) -> Result<Option<(u64, Vec<Mark>)>, Trouble>;

impl History {
    pub(super) fn new(numbers: Numbers) -> Self {
        History {
            numbers,
            marks: VecDeque::new(),
        }
    }

    /// The numbers of a channel that has had no event.
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

    /// Adds an event of this weight: its offset and mark.
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

    /// Moves the beginning up to the first event that is still to be kept, as far as that is
    /// known in memory; false where the disk must be asked.
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

    /// As [`History::trim`], asking the disk where need be.
    pub(super) fn trim_with(
        &mut self,
        policy: &HistoryPolicy,
        now: u64,
        look_up: LookUp<'_>,
    ) -> Result<(), Trouble> {
        if self.trim(policy, now) {
            return Ok(());
        }
        // Mostly only the next few have to go.
        self.take_run(look_up(self.numbers.first, MARKS)?);
        if self.trim(policy, now) {
            return Ok(());
        }
        self.halve(policy, now, look_up)?;
        self.take_run(look_up(self.numbers.first, MARKS)?);
        Ok(())
    }

    /// Finds the first event to be kept among those after `first`, which is not.
    fn halve(
        &mut self,
        policy: &HistoryPolicy,
        now: u64,
        look_up: LookUp<'_>,
    ) -> Result<(), Trouble> {
        // `low` is not to be kept; `high` is, if `found` is there, or lies behind the newest.
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
                // Nothing that can be read from here to `high`.
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

    /// Takes marks that were looked up from `first` on.
    fn take_run(&mut self, run: Option<(u64, Vec<Mark>)>) {
        let Some((offset, marks)) = run else { return };
        let known = usize::try_from(self.len()).unwrap_or(usize::MAX);
        if offset == self.numbers.first {
            self.marks = marks.into_iter().take(MARKS.min(known)).collect();
        }
    }

    /// Takes over where another look at the same channel found that the kept events begin.
    pub(super) fn catch_up_with(&mut self, other: &History) {
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
