//! A subscriber on any transport, which checks what it receives.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use crate::book::{Book, ChannelPosition, Guarantees};
use crate::ledger::Number;
use crate::options::{NAMESPACES, Sabotage, Store};
use crate::world::World;

/// Misreports every n-th event, if requested.
const SABOTAGED: u64 = 50;

/// A subscriber: its channels, and its book for each.
pub struct Subscriber {
    pub name: String,
    pub channels: Vec<usize>,
    books: Mutex<Vec<Book>>,
    /// For each channel, which restores of the store it has taken into account.
    time_lines: Mutex<Vec<u64>>,
    world: Arc<World>,
    seen: Mutex<Seen>,
    /// The node to which it connects.
    node: AtomicUsize,
    /// How often it was subscribed.
    answers: AtomicU64,
}

#[derive(Default)]
struct Seen {
    events: u64,
    /// Held back, to be delivered out of order.
    held: Option<Event>,
}

/// An event as received.
#[derive(Clone)]
pub struct Event {
    pub channel: usize,
    pub epoch: Option<String>,
    pub offset: u64,
    pub number: Number,
}

impl Subscriber {
    pub fn new(world: &Arc<World>, name: String, channels: Vec<usize>) -> Arc<Self> {
        let book = |channel: &usize| {
            Book::new(Guarantees {
                drops: NAMESPACES[channel % NAMESPACES.len()].1,
                remote: world.options.store.is_engine(),
                durable: world.options.store != Store::Memory,
            })
        };
        let books = channels.iter().map(book).collect();
        let subscriber = Arc::new(Subscriber {
            name,
            time_lines: Mutex::new(vec![0; channels.len()]),
            channels,
            books: Mutex::new(books),
            world: Arc::clone(world),
            seen: Mutex::default(),
            node: AtomicUsize::new(0),
            answers: AtomicU64::new(0),
        });
        world
            .subscribers
            .lock()
            .unwrap()
            .push(Arc::clone(&subscriber));
        subscriber
    }

    /// The node to which it is connected, or was last.
    pub fn node(&self) -> usize {
        self.node.load(Ordering::Relaxed)
    }

    /// Chooses the node to connect to, as a load balancer would.
    pub fn choose_node(&self, rng: &mut Rng) -> usize {
        let node = rng.usize(..self.world.nodes.len());
        self.node.store(node, Ordering::Relaxed);
        node
    }

    /// How often it was subscribed.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Reconnects. Returns the channels, each with the position to resume from.
    pub fn resume(&self) -> Vec<(usize, Option<ChannelPosition>)> {
        let mut books = self.books.lock().unwrap();
        let positions = books.iter_mut().map(Book::resume);
        self.channels.iter().copied().zip(positions).collect()
    }

    pub fn subscribed(&self, channel: usize, to: ChannelPosition, recovered: bool, replayed: u64) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.on(channel, |book| {
            if book.at().is_some() {
                let count = if recovered {
                    &self.world.totals.recovered
                } else {
                    &self.world.totals.not_recovered
                };
                count.add(1);
            }
            let now = self.world.time_lines.get();
            if let Some(at) = self.channels.iter().position(|other| *other == channel) {
                let mut received = self.time_lines.lock().unwrap();
                if received[at] < now && book.at().is_some_and(|at| at.epoch != to.epoch) {
                    // One entry per restore. Reports from before the newest may still be queued and
                    // read afterwards.
                    received[at] += 1;
                    book.expect_new_epoch();
                }
            }
            for finding in book.subscribed(to, recovered, replayed) {
                self.world.totals.found(&self.of(channel), finding);
            }
        });
    }

    pub fn event(&self, event: Event) {
        self.world.totals.delivered.add(1);
        let Some(sabotage) = self.world.options.sabotage else {
            return self.take(&event);
        };
        let mut seen = self.seen.lock().unwrap();
        seen.events += 1;
        let held = seen.held.take();
        if !seen.events.is_multiple_of(SABOTAGED) {
            drop(seen);
            self.take(&event);
            if let Some(held) = held {
                self.take(&held);
            }
            return;
        }
        match sabotage {
            Sabotage::Drop => {}
            Sabotage::Repeat => {
                self.take(&event);
                self.take(&event);
            }
            Sabotage::Swap => seen.held = Some(event),
        }
    }

    fn take(&self, event: &Event) {
        self.on(event.channel, |book| {
            if let Some(finding) = book.event(event.epoch.as_deref(), event.offset) {
                self.world.totals.found(&self.of(event.channel), finding);
            }
            if let Some(at) = book.at() {
                let position = ChannelPosition {
                    offset: event.offset,
                    ..at.clone()
                };
                let saw = self
                    .world
                    .ledger
                    .saw(event.channel, &position, event.number);
                if let Err(why) = saw {
                    self.world.wrong(&self.of(event.channel), why);
                }
            }
        });
    }

    pub fn gap(&self, channel: usize, from: u64, to: u64, reason: &str) {
        self.on(channel, |book| match book.gap(from, to, reason) {
            Some(finding) => self.world.totals.found(&self.of(channel), finding),
            None => self.world.totals.reported.add(to - from + 1),
        });
    }

    /// The channels in which it has not reached the end.
    pub fn behind(&self, ends: &[ChannelPosition]) -> Vec<(usize, Option<ChannelPosition>)> {
        let books = self.books.lock().unwrap();
        let positions = self.channels.iter().zip(&*books);
        let behind = positions.filter(|(channel, book)| book.at() != Some(&ends[**channel]));
        behind
            .map(|(channel, book)| (*channel, book.at().cloned()))
            .collect()
    }

    fn on(&self, channel: usize, then: impl FnOnce(&mut Book)) {
        let Some(at) = self.channels.iter().position(|other| *other == channel) else {
            return self
                .world
                .wrong(&self.of(channel), "not requested for".into());
        };
        then(&mut self.books.lock().unwrap()[at]);
    }

    fn of(&self, channel: usize) -> String {
        format!("{} in {}", self.name, crate::options::channel_name(channel))
    }
}
