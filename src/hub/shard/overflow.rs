//! Overflow of an outbox: dropping and conflating events, with a gap notice for what is dropped.

use std::collections::{HashMap, HashSet, VecDeque};

use super::chunk::Frame;
use super::outbox::{Entry, Kind, Missing, Outbox};

/// The number of removed events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    /// Dropped as the oldest.
    pub dropped: u64,
    /// Replaced by a newer event with the same key.
    pub conflated: u64,
}

/// A request for room in an outbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomRequest {
    /// The slot of the new event's channel.
    pub channel: u32,
    /// A hash of its key; 0 if it has none.
    pub key: u64,
    /// The length of the frame to be added, in bytes.
    pub needed: usize,
    /// The limit of queued bytes.
    pub limit: usize,
    /// Whether only the newest of the events with one key is kept.
    pub conflate: bool,
}

/// The queued bytes above which events are conflated: an eighth above the limit, so that the
/// traversal of the queue is amortised.
pub(super) fn conflates_at(limit: usize) -> usize {
    limit.saturating_add(limit / 8)
}

impl Outbox {
    /// Makes room for a new event, among events whose channel `may_go`. With `conflate`, only the
    /// newest of the queued events with one key is kept. Then the oldest are dropped, down to three
    /// quarters of the limit, so that the work is not repeated for the very next event. For the
    /// same reason `conflate` only starts at [`conflates_at`]. Removed events are replaced by a
    /// frame that `gap` makes for each range of offsets; frames of adjacent ranges are merged. A
    /// frame that is partly written stays, and so do replies.
    pub(super) fn shed(
        &mut self,
        room: RoomRequest,
        may_go: impl Fn(u32) -> bool,
        gap: impl Fn(Missing) -> Option<Frame>,
    ) -> Evicted {
        let RoomRequest {
            needed,
            limit,
            conflate,
            ..
        } = room;
        let Some(queue) = self.queue() else {
            return Evicted::default();
        };
        queue.split();
        let mut shed = Evicted::default();
        let mut entries: Vec<(Entry, bool)> = std::mem::take(&mut queue.entries)
            .into_iter()
            .map(|entry| (entry, false))
            .collect();
        let partly = usize::from(queue.written > 0);
        let mut bytes = queue.bytes;
        if conflate {
            shed.conflated = mark_superseded(&mut entries, partly, room, &may_go, &mut bytes);
        }
        let superseded: Vec<bool> = entries.iter().map(|(_, gone)| *gone).collect();
        if bytes.saturating_add(needed) > limit {
            let target = (limit / 4 * 3).saturating_sub(needed);
            shed.dropped = mark_oldest(&mut entries, partly, target, &may_go, &mut bytes);
        }
        let mut rebuilt = Rebuilt::new(&gap);
        let mut entries = entries.into_iter().zip(superseded);
        // Its first bytes are written: even a gap can no longer be extended.
        for ((begun, _), _) in entries.by_ref().take(partly) {
            rebuilt.entries.push_back(begun);
        }
        for ((entry, gone), superseded) in entries {
            rebuilt.take(entry, gone, superseded);
        }
        queue.entries = rebuilt.finish();
        let whole: usize = queue.entries.iter().map(|entry| entry.frame.len()).sum();
        queue.bytes = whole.saturating_sub(queue.written);
        if conflate && queue.bytes.saturating_add(needed) > limit {
            // The gaps between the kept events use too much: those of the oldest are merged.
            let room = RoomRequest {
                conflate: false,
                ..room
            };
            shed.dropped += self.shed(room, may_go, gap).dropped;
        }
        shed
    }
}

/// Marks events that have a newer one with the same key behind them; returns how many.
fn mark_superseded(
    entries: &mut [(Entry, bool)],
    partly: usize,
    room: RoomRequest,
    may_go: &impl Fn(u32) -> bool,
    bytes: &mut usize,
) -> u64 {
    let mut seen = HashSet::from([(room.channel, room.key)]);
    let mut count = 0;
    for (entry, gone) in entries.iter_mut().skip(partly).rev() {
        let (Kind::Events(channel), Some(part)) = (&entry.kind, entry.frame.part()) else {
            continue;
        };
        if part.key != 0 && may_go(*channel) && !seen.insert((*channel, part.key)) {
            *gone = true;
            *bytes = bytes.saturating_sub(entry.frame.len());
            count += 1;
        }
    }
    count
}

/// Marks the oldest events until at most `target` bytes are left; returns how many.
fn mark_oldest(
    entries: &mut [(Entry, bool)],
    partly: usize,
    target: usize,
    may_go: &impl Fn(u32) -> bool,
    bytes: &mut usize,
) -> u64 {
    let mut count = 0;
    for (entry, gone) in entries.iter_mut().skip(partly) {
        if *bytes <= target {
            break;
        }
        if let Kind::Events(channel) = entry.kind
            && !*gone
            && may_go(channel)
        {
            *gone = true;
            *bytes = bytes.saturating_sub(entry.frame.len());
            count += 1;
        }
    }
    count
}

/// The queue after events were dropped, with a gap for each range of offsets.
struct Rebuilt<G> {
    entries: VecDeque<Entry>,
    /// The range of each channel that may still grow.
    open: HashMap<u32, Missing>,
    gap: G,
}

impl<G: Fn(Missing) -> Option<Frame>> Rebuilt<G> {
    fn new(gap: G) -> Self {
        Rebuilt {
            entries: VecDeque::new(),
            open: HashMap::new(),
            gap,
        }
    }

    fn take(&mut self, entry: Entry, gone: bool, superseded: bool) {
        match entry.kind {
            Kind::Events(channel) if gone => {
                let offset = entry.frame.part().map_or(0, |part| part.offset);
                self.miss(Missing {
                    channel,
                    from: offset,
                    to: offset,
                    conflated: superseded,
                });
            }
            Kind::Events(channel) => {
                self.tell(channel);
                self.entries.push_back(entry);
            }
            Kind::Gap(missing) => self.miss(*missing),
            Kind::Fixed => self.entries.push_back(entry),
        }
    }

    /// Adds a missing range; one that is adjacent to the open range extends it.
    fn miss(&mut self, missing: Missing) {
        match self.open.get_mut(&missing.channel) {
            Some(open) if missing.from <= open.to + 1 => {
                open.to = open.to.max(missing.to);
                open.conflated &= missing.conflated;
            }
            Some(_) => {
                self.tell(missing.channel);
                self.open.insert(missing.channel, missing);
            }
            None => {
                self.open.insert(missing.channel, missing);
            }
        }
    }

    /// Inserts the gap of a channel in its place: before the next kept event.
    fn tell(&mut self, channel: u32) {
        if let Some(missing) = self.open.remove(&channel)
            && let Some(frame) = (self.gap)(missing)
        {
            self.entries.push_back(Entry {
                frame,
                kind: Kind::Gap(Box::new(missing)),
            });
        }
    }

    fn finish(mut self) -> VecDeque<Entry> {
        let mut channels: Vec<u32> = self.open.keys().copied().collect();
        channels.sort_unstable();
        for channel in channels {
            self.tell(channel);
        }
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::chunk::Chunk;
    use super::super::outbox::QueuePool;
    use super::*;

    fn frame(text: String) -> Frame {
        Chunk::plain(Bytes::from(text))
    }

    fn event(text: String, offset: u64, key: u64) -> Frame {
        Chunk::event(Bytes::from(text), offset, key)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `shed` wants it")]
    fn gap(missing: Missing) -> Option<Frame> {
        Some(frame(format!("[{}-{}]", missing.from, missing.to)))
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = outbox.slices(&mut slices);
        slices[..count]
            .iter()
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect()
    }

    fn filled(events: &[(u64, u64)], pool: &mut QueuePool) -> Outbox {
        let mut outbox = Outbox::default();
        for (offset, key) in events {
            let frame = event(format!("event-{offset}"), *offset, *key);
            outbox.push(frame, Some(0), pool);
        }
        outbox
    }

    #[test]
    fn oldest_events_are_dropped_with_one_gap() {
        let mut pool = QueuePool::default();
        let mut outbox = filled(&[(1, 0), (2, 0), (3, 0), (4, 0)], &mut pool);
        let shed = outbox.shed(
            RoomRequest {
                channel: 0,
                key: 0,
                needed: 7,
                limit: 28,
                conflate: false,
            },
            |_| true,
            gap,
        );
        assert_eq!(shed.dropped, 2);
        assert_eq!(texts(&outbox), ["[1-2]", "event-3", "event-4"]);
        let shed = outbox.shed(
            RoomRequest {
                channel: 0,
                key: 0,
                needed: 7,
                limit: 20,
                conflate: false,
            },
            |_| true,
            gap,
        );
        assert_eq!(shed.dropped, 2);
        assert_eq!(texts(&outbox), ["[1-4]"], "adjoining gaps become one");
    }

    #[test]
    fn newest_event_of_a_key_is_kept() {
        let mut pool = QueuePool::default();
        let mut outbox = filled(&[(1, 7), (2, 8), (3, 7), (4, 9)], &mut pool);
        let shed = outbox.shed(
            RoomRequest {
                channel: 0,
                key: 8,
                needed: 7,
                limit: 35,
                conflate: true,
            },
            |_| true,
            gap,
        );
        assert_eq!((shed.conflated, shed.dropped), (2, 0));
        assert_eq!(texts(&outbox), ["[1-2]", "event-3", "event-4"]);
    }

    #[test]
    fn conflation_is_amortised_near_the_limit() {
        let mut pool = QueuePool::default();
        let keys: Vec<(u64, u64)> = (1..=100).map(|n| (n, n)).collect();
        let mut outbox = filled(&keys, &mut pool);
        let limit = outbox.bytes();
        let mut sheds = 0;
        for offset in 101..=1100 {
            let key = offset % 100 + 1;
            let frame = event(format!("event-{offset}"), offset, key);
            if outbox.bytes() + frame.len() > conflates_at(limit) {
                let room = RoomRequest {
                    channel: 0,
                    key,
                    needed: frame.len(),
                    limit,
                    conflate: true,
                };
                outbox.shed(room, |_| true, gap);
                sheds += 1;
            }
            outbox.push(frame, Some(0), &mut pool);
            assert!(outbox.bytes() <= conflates_at(limit));
        }
        assert!(sheds < 200, "{sheds} times for 1,000 events");
    }

    #[test]
    fn gaps_between_kept_events_count_against_the_limit() {
        let mut pool = QueuePool::default();
        // Every other event is superseded: five events remain, and five gaps.
        let keys: Vec<(u64, u64)> = (1..=10)
            .map(|n| (n, if n % 2 == 0 { n } else { 99 }))
            .collect();
        let mut outbox = filled(&keys, &mut pool);
        let long = |missing: Missing| Some(frame(format!("{:>20}", missing.to)));
        let room = RoomRequest {
            channel: 0,
            key: 99,
            needed: 7,
            limit: 64,
            conflate: true,
        };
        let shed = outbox.shed(room, |_| true, long);
        assert_eq!(shed.conflated, 5);
        assert!(
            shed.dropped > 0 && outbox.bytes() + 7 <= 64,
            "{}",
            outbox.bytes()
        );
    }

    #[test]
    fn partly_written_frames_and_replies_are_kept() {
        let mut pool = QueuePool::default();
        let mut outbox = filled(&[(1, 0), (2, 0)], &mut pool);
        outbox.push(frame("reply".into()), None, &mut pool);
        outbox.advance(3, &mut pool);
        let shed = outbox.shed(
            RoomRequest {
                channel: 0,
                key: 0,
                needed: 7,
                limit: 4,
                conflate: false,
            },
            |_| true,
            gap,
        );
        assert_eq!(shed.dropped, 1);
        assert_eq!(texts(&outbox), ["nt-1", "reply", "[2-2]"]);
        assert_eq!(outbox.bytes(), 4 + 5 + 5);
    }

    #[test]
    fn partly_written_gap_does_not_grow() {
        let mut pool = QueuePool::default();
        let mut outbox = filled(&[(1, 0), (2, 0)], &mut pool);
        outbox.shed(
            RoomRequest {
                channel: 0,
                key: 0,
                needed: 7,
                limit: 7,
                conflate: false,
            },
            |_| true,
            gap,
        );
        assert_eq!(texts(&outbox), ["[1-2]"]);
        outbox.advance(4, &mut pool);
        outbox.push(event("event-3".into(), 3, 0), Some(0), &mut pool);
        outbox.shed(
            RoomRequest {
                channel: 0,
                key: 0,
                needed: 7,
                limit: 7,
                conflate: false,
            },
            |_| true,
            gap,
        );
        assert_eq!(texts(&outbox), ["]", "[3-3]"]);
    }

    proptest! {
        /// For any removals, in any number of rounds: the received events and the gaps together
        /// cover every event, each once and in order.
        #[test]
        fn events_and_gaps_together_are_everything(
            rounds in proptest::collection::vec((1_usize..12, 20_usize..200, any::<bool>(), any::<bool>(), 0_usize..30), 1..12),
        ) {
            let mut pool = QueuePool::default();
            let mut outbox = Outbox::default();
            let mut offset = 0;
            let mut seen = String::new();
            for (count, limit, conflate, joined, written) in rounds {
                let mut frames = Vec::new();
                for _ in 0..count {
                    offset += 1;
                    frames.push(event(format!("[{offset}]"), offset, offset % 3));
                }
                if joined {
                    frames = vec![Chunk::joined(&frames)];
                }
                for frame in frames {
                    outbox.push(frame, Some(0), &mut pool);
                }
                outbox.shed(RoomRequest { channel: 0, key: 1, needed: 0, limit, conflate }, |_| true, gap);
                let all = texts(&outbox).concat();
                let written = written.min(all.len());
                seen.push_str(&all[..written]);
                outbox.advance(written, &mut pool);
                prop_assert_eq!(outbox.bytes(), all.len() - written);
            }
            seen.push_str(&texts(&outbox).concat());
            let mut next = 1;
            for part in seen.split(['[', ']']).filter(|part| !part.is_empty()) {
                let (from, to) = part.split_once('-').unwrap_or((part, part));
                let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
                prop_assert_eq!(from, next, "{}", seen);
                next = to + 1;
            }
            prop_assert_eq!(next, offset + 1, "{}", seen);
        }
    }
}
