//! What one subscriber has seen, whatever it came over.

use super::payload::Finder;
use super::sequence::Sequence;
use super::sieve::Sieve;
use super::tally::{Seen, Tally};

/// One subscriber's view of its channel.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Its channel.
    pub(super) channel: usize,
    /// What it asks for.
    pub(super) sieve: Sieve,
    /// One for each lane, once it is subscribed.
    sequences: Vec<Sequence>,
    finder: Finder,
}

impl Follower {
    pub(super) fn new(channel: usize, sieve: Sieve) -> Self {
        Follower {
            channel,
            sieve,
            ..Follower::default()
        }
    }

    /// Events of so many lanes will come.
    pub(super) fn begin(&mut self, lanes: usize) {
        self.sequences = vec![Sequence::default(); lanes];
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
        let lane = usize::try_from(stamp.lane).unwrap_or(usize::MAX);
        if let Some(sequence) = self.sequences.get_mut(lane) {
            match self.sieve.place(stamp.sequence) {
                Some(place) => sequence.saw(place),
                None => tally.unwanted(),
            }
        }
        tally.event(bytes, stamp.sent, now);
        true
    }

    /// The account of it; `to_the_end` if it was there until the run ended.
    pub(super) fn seen(self, to_the_end: bool) -> Seen {
        Seen {
            channel: self.channel,
            sieve: self.sieve,
            sequences: self.sequences,
            to_the_end,
        }
    }
}
