//! Records which events were published, and at which positions. Publishers record acknowledgements,
//! subscribers record deliveries, and at the end both are compared to the history.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::book::ChannelPosition;

/// An event: its publisher, and the publisher's own sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number {
    pub publisher: u32,
    pub count: u32,
}

impl Number {
    /// As encoded in the event's data.
    pub fn to_data(self) -> u64 {
        u64::from(self.publisher) << 32 | u64::from(self.count)
    }

    pub fn from_data(data: u64) -> Self {
        Number {
            publisher: u32::try_from(data >> 32).unwrap(),
            count: u32::try_from(data & u64::from(u32::MAX)).unwrap(),
        }
    }
}

/// What is known of one epoch of one channel.
#[derive(Default)]
struct EpochRecord {
    events: HashMap<u64, Number>,
    positions: HashMap<Number, u64>,
    acknowledged: Vec<(u64, Number)>,
}

impl EpochRecord {
    fn note(&mut self, offset: u64, number: Number) -> Result<(), String> {
        let event = *self.events.entry(offset).or_insert(number);
        if event != number {
            return Err(format!("offset {offset} is {event:?} and {number:?}"));
        }
        let position = *self.positions.entry(number).or_insert(offset);
        if position != offset {
            return Err(format!(
                "{number:?} has the offsets {position} and {offset}"
            ));
        }
        Ok(())
    }
}

/// What is known of one channel.
#[derive(Default)]
struct Table {
    epochs: HashMap<String, EpochRecord>,
    /// Acknowledged events, each with how often events had been removed on purpose when it was
    /// published.
    acknowledged: Vec<(Number, u64)>,
}

/// One table per channel.
pub struct Ledger(Vec<Mutex<Table>>);

impl Ledger {
    pub fn new(channels: usize) -> Self {
        Ledger((0..channels).map(|_| Mutex::default()).collect())
    }

    /// A subscriber saw this event at this position. Fails if another event has it, or if the event
    /// has another one.
    pub fn saw(
        &self,
        channel: usize,
        position: &ChannelPosition,
        number: Number,
    ) -> Result<(), String> {
        let mut table = self.0[channel].lock().unwrap();
        if let Some(epoch) = table.epochs.get_mut(&position.epoch) {
            return epoch.note(position.offset, number);
        }
        let epoch = table.epochs.entry(position.epoch.clone()).or_default();
        epoch.note(position.offset, number)
    }

    /// A publisher got this position for its event.
    pub fn acknowledged(
        &self,
        channel: usize,
        position: &ChannelPosition,
        number: Number,
        wipes: u64,
    ) -> Result<(), String> {
        let mut table = self.0[channel].lock().unwrap();
        table.acknowledged.push((number, wipes));
        let epoch = table.epochs.entry(position.epoch.clone()).or_default();
        epoch.acknowledged.push((position.offset, number));
        epoch.note(position.offset, number)
    }

    /// How many distinct events have a position.
    pub fn events(&self) -> usize {
        self.sum(|epoch| epoch.events.len())
    }

    fn sum(&self, count: impl Fn(&EpochRecord) -> usize) -> usize {
        let tables = self.0.iter().map(|table| {
            let table = table.lock().unwrap();
            table.epochs.values().map(&count).sum::<usize>()
        });
        tables.sum()
    }

    /// How many epochs a channel has had.
    pub fn epochs(&self, channel: usize) -> usize {
        self.0[channel].lock().unwrap().epochs.len()
    }

    /// The acknowledged events that were published after the last removal and are not in this
    /// history, whatever their epoch.
    pub fn missing(&self, channel: usize, wipes: u64, history: &[(u64, Number)]) -> Vec<Number> {
        let kept: HashSet<Number> = history.iter().map(|(_, number)| *number).collect();
        let table = self.0[channel].lock().unwrap();
        let acknowledged = table.acknowledged.iter();
        acknowledged
            .filter(|(number, before)| *before == wipes && !kept.contains(number))
            .map(|(number, _)| *number)
            .collect()
    }

    /// Compares a channel's whole history to the ledger, and reports missing acknowledged events
    /// and other differences. Publishers up to `ordered` publish sequentially.
    pub fn compare(
        &self,
        channel: usize,
        epoch: &str,
        history: &[(u64, Number)],
        ordered: u32,
    ) -> (Vec<String>, Vec<String>) {
        let mut wrong = Vec::new();
        let mut last: HashMap<u32, u32> = HashMap::new();
        for (at, (offset, number)) in history.iter().enumerate() {
            if u64::try_from(at).unwrap() + 1 != *offset {
                wrong.push(format!("offset {offset} stands at {at} of history"));
            }
            let position = ChannelPosition {
                epoch: epoch.to_owned(),
                offset: *offset,
            };
            wrong.extend(self.saw(channel, &position, *number).err());
            let before = last.insert(number.publisher, number.count);
            if number.publisher < ordered && before.is_some_and(|before| before >= number.count) {
                wrong.push(format!("{number:?} stands behind {before:?}"));
            }
        }
        let table = self.0[channel].lock().unwrap();
        let kept: HashMap<u64, Number> = history.iter().copied().collect();
        let missing = table.epochs.get(epoch).into_iter().flat_map(|epoch| {
            let acknowledged = epoch.acknowledged.iter();
            acknowledged.filter(|(offset, number)| kept.get(offset) != Some(number))
        });
        (missing.map(|event| format!("{event:?}")).collect(), wrong)
    }
}
