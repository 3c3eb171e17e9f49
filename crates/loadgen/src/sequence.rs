//! Detects lost, repeated and reordered events in one stream of numbered events.

/// How many separate gaps are remembered for each stream; a late event from a gap beyond them
/// counts as repeated, not as reordered.
const MAX_GAPS: usize = 1024;

/// The results for the numbered events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicate: u64,
    /// Arrived after a later one.
    pub reordered: u64,
}

impl Counts {
    /// Adds what another stream counted.
    pub fn add(&mut self, other: Counts) {
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
    }
}

/// One stream: the events of one task on one channel, as one subscriber sees them.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    next: u32,
    trouble: Option<Box<Trouble>>,
}

/// Boxed, because nearly no stream has any and there are many streams.
#[derive(Debug, Clone, Default)]
struct Trouble {
    counts: Counts,
    /// First missing number and the first one after the gap, oldest gap first.
    gaps: Vec<(u32, u32)>,
}

impl Sequence {
    /// Records event number `n`; the first one is 0.
    pub fn saw(&mut self, n: u32) {
        if n == self.next {
            self.next = n.wrapping_add(1);
        } else {
            self.saw_unexpected(n);
        }
    }

    #[cold]
    fn saw_unexpected(&mut self, n: u32) {
        let trouble = self.trouble.get_or_insert_default();
        if n > self.next {
            trouble.counts.lost += u64::from(n - self.next);
            if trouble.gaps.len() < MAX_GAPS {
                trouble.gaps.push((self.next, n));
            }
            self.next = n.wrapping_add(1);
        } else if trouble.fill(n) {
            trouble.counts.lost = trouble.counts.lost.saturating_sub(1);
            trouble.counts.reordered += 1;
        } else {
            trouble.counts.duplicate += 1;
        }
    }

    /// The results so far, given that `sent` events were sent in total.
    #[must_use]
    pub fn counts(&self, sent: u32) -> Counts {
        let mut counts = self.gaps_only();
        counts.lost += u64::from(sent.saturating_sub(self.next));
        counts
    }

    /// The results between the first and the newest event, for a stream that ended early.
    #[must_use]
    pub fn gaps_only(&self) -> Counts {
        self.trouble
            .as_ref()
            .map_or(Counts::default(), |trouble| trouble.counts)
    }
}

impl Trouble {
    /// Removes `n` from the gap that contains it; false if there is none.
    fn fill(&mut self, n: u32) -> bool {
        let Some(index) = self
            .gaps
            .iter()
            .position(|(from, to)| (*from..*to).contains(&n))
        else {
            return false;
        };
        let (from, to) = self.gaps.remove(index);
        if n + 1 < to {
            self.gaps.insert(index, (n + 1, to));
        }
        if from < n {
            self.gaps.insert(index, (from, n));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(seen: &[u32], sent: u32) -> (u64, u64, u64) {
        let mut sequence = Sequence::default();
        for n in seen {
            sequence.saw(*n);
        }
        let Counts {
            lost,
            duplicate,
            reordered,
        } = sequence.counts(sent);
        (lost, duplicate, reordered)
    }

    #[test]
    fn complete_sequence_has_no_errors() {
        assert_eq!(counts(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(counts(&[], 0), (0, 0, 0));
    }

    #[test]
    fn missing_events_are_lost_at_any_position() {
        assert_eq!(counts(&[1, 2], 3), (1, 0, 0));
        assert_eq!(counts(&[0, 4], 5), (3, 0, 0));
        assert_eq!(counts(&[0], 5), (4, 0, 0));
        assert_eq!(counts(&[], 5), (5, 0, 0));
    }

    #[test]
    fn repeated_event_is_duplicate_after_filled_gap() {
        assert_eq!(counts(&[0, 0, 1, 1, 1], 2), (0, 3, 0));
        assert_eq!(counts(&[0, 2, 1, 1], 3), (0, 1, 1));
    }

    #[test]
    fn late_event_is_reordered_not_lost() {
        assert_eq!(counts(&[1, 0], 2), (0, 0, 1));
        assert_eq!(counts(&[0, 5, 3, 1, 2, 4], 6), (0, 0, 4));
        assert_eq!(counts(&[0, 5, 3], 6), (3, 0, 1));
    }

    #[test]
    fn early_end_counts_only_gaps() {
        let mut sequence = Sequence::default();
        sequence.saw(0);
        sequence.saw(2);
        assert_eq!(
            sequence.gaps_only(),
            Counts {
                lost: 1,
                ..Counts::default()
            }
        );
    }
}
