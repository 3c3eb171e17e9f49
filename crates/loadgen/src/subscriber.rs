//! The events that one subscriber has received, independent of its transport.

use crate::payload::Finder;
use crate::sequence::Sequence;
use crate::tally::{Seen, Tally};
use crate::type_filter::TypeFilter;

/// One subscriber's view of its channel.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// Its channel.
    pub(super) channel: usize,
    /// Its filter.
    pub(super) filter: TypeFilter,
    /// One for each task, once it is subscribed.
    sequences: Vec<Sequence>,
    finder: Finder,
}

impl Subscriber {
    pub(super) fn new(channel: usize, filter: TypeFilter) -> Self {
        Subscriber {
            channel,
            filter,
            ..Subscriber::default()
        }
    }

    /// Events of this many tasks will arrive.
    pub(super) fn begin(&mut self, tasks: usize) {
        self.sequences = vec![Sequence::default(); tasks];
    }

    /// True if `payload`, a message of `bytes` bytes or its data, was a test event.
    #[inline]
    pub(super) fn take(
        &mut self,
        payload: &[u8],
        bytes: usize,
        now: u64,
        tally: &mut Tally,
    ) -> bool {
        let Some(stamp) = self.finder.find(payload) else {
            return false;
        };
        let task = usize::try_from(stamp.task).unwrap_or(usize::MAX);
        if let Some(sequence) = self.sequences.get_mut(task) {
            match self.filter.rank(stamp.sequence) {
                Some(rank) => sequence.saw(rank),
                None => tally.unwanted(),
            }
        }
        tally.event(bytes, stamp.sent, now);
        true
    }

    /// Its results; `to_the_end` if it was connected until the run ended.
    pub(super) fn seen(self, to_the_end: bool) -> Seen {
        Seen {
            channel: self.channel,
            filter: self.filter,
            sequences: self.sequences,
            to_the_end,
        }
    }
}
