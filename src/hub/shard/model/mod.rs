//! The hub against a model: random schedules of publishing, subscribing, resuming, disconnecting,
//! reading slowly, trimming, epoch changes and late answers, on one shard whose rounds the test
//! runs.
//!
//! Every client tracks its positions like a careful client, and checks with each message that
//! nothing was lost without a gap, duplicated or reordered. At the end it must have reached its
//! channel's position.

mod broker;
mod client;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use self::broker::DIALECTS;
use self::client::Client;
use self::world::World;
use crate::event::{Position, SlowConsumer};

/// One channel for each policy.
const CHANNELS: [(&str, SlowConsumer); 4] = [
    ("disconnect:1", SlowConsumer::Disconnect),
    ("oldest:1", SlowConsumer::DropOldest),
    ("conflate:1", SlowConsumer::Conflate),
    ("resync:1", SlowConsumer::Resync),
];
const CLIENTS: usize = 3;
/// The events kept in each channel: few, so that some are always evicted.
const KEPT: usize = 24;
/// Large frames and a small outbox, so that a pipe and an outbox fill soon.
const FRAME: usize = 8 * 1024;
const OUTBOX: usize = 5 * FRAME;

/// One step of a schedule.
#[derive(Debug, Clone)]
enum Op {
    /// Publishes this many events into a channel, with keys from a few.
    Publish { channel: usize, count: u8, keys: u8 },
    /// Publishes as many events, which are lost between the broker and the hub. The hub is notified
    /// of the loss: of this channel, or of any channel.
    Lose {
        channel: usize,
        count: u8,
        named: bool,
    },
    /// A client subscribes to a channel, connecting first if necessary: from its position, with the
    /// newest few, or from now on.
    Join {
        client: usize,
        channel: usize,
        how: How,
    },
    /// A client unsubscribes from a channel.
    Leave { client: usize, channel: usize },
    /// A client's connection breaks; the client keeps its positions.
    Drop { client: usize },
    /// A client upgrades to another transport, with another dialect.
    Cross { client: usize },
    /// A client reads this many messages.
    Read { client: usize, count: u8 },
    /// The shard runs a round.
    Turn,
    /// A publisher runs a small round.
    Help,
    /// From now on the broker's reads are answered late, or at once again; the answers are as of
    /// the request, or as of the answer.
    Late { late: bool, stale: bool },
    /// This many late answers arrive.
    Answer { count: u8 },
    /// The broker loses everything and starts new epochs.
    Renumber,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Now,
    Since,
    Rewind(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let channel = 0..CHANNELS.len();
    let client = 0..CLIENTS;
    let how = prop_oneof![
        3 => Just(How::Now),
        4 => Just(How::Since),
        1 => (0_u8..30).prop_map(How::Rewind),
    ];
    let op = prop_oneof![
        8 => (channel.clone(), 1_u8..12, 1_u8..6)
            .prop_map(|(channel, count, keys)| Op::Publish { channel, count, keys }),
        6 => (client.clone(), channel.clone(), how)
            .prop_map(|(client, channel, how)| Op::Join { client, channel, how }),
        1 => (client.clone(), channel.clone()).prop_map(|(client, channel)| Op::Leave { client, channel }),
        2 => client.clone().prop_map(|client| Op::Drop { client }),
        3 => client.clone().prop_map(|client| Op::Cross { client }),
        6 => (client, 1_u8..30).prop_map(|(client, count)| Op::Read { client, count }),
        8 => Just(Op::Turn),
        8 => Just(Op::Help),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(late, stale)| Op::Late { late, stale }),
        4 => (1_u8..4).prop_map(|count| Op::Answer { count }),
        1 => Just(Op::Renumber),
        3 => (channel, 1_u8..4, any::<bool>()).prop_map(|(channel, count, named)| Op::Lose { channel, count, named }),
    ];
    proptest::collection::vec(op, 1..80)
}

fn run(ops: Vec<Op>) {
    let mut world = World::new();
    let mut clients: [Client; CLIENTS] = std::array::from_fn(|at| Client {
        dialect: DIALECTS[at % DIALECTS.len()],
        ..Client::default()
    });
    for op in ops {
        match op {
            Op::Publish {
                channel,
                count,
                keys,
            } => {
                for n in 0..count {
                    world.publish(channel, n % keys);
                }
            }
            Op::Lose {
                channel,
                count,
                named,
            } => {
                world.lose(channel, count, named);
            }
            Op::Join {
                client,
                channel,
                how,
            } => world.join(&mut clients[client], channel, how),
            Op::Leave { client, channel } => world.leave(&mut clients[client], channel),
            Op::Drop { client } => clients[client].lost_connection(),
            Op::Cross { client } => world.upgrade_transport(&mut clients[client]),
            Op::Read { client, count } => {
                for _ in 0..count {
                    clients[client].read(&world);
                }
            }
            Op::Turn => world.run_round(),
            Op::Help => world.help(),
            Op::Late { late, stale } => {
                world.broker.late.store(late, Ordering::Relaxed);
                world.broker.stale.store(stale, Ordering::Relaxed);
            }
            Op::Answer { count } => world.answer(usize::from(count)),
            Op::Renumber => {
                let memory = (world.broker.make)();
                world.broker.memory.store(Arc::new(memory));
            }
        }
    }
    // Every client gets one last event in each channel, and so reaches its position.
    world.broker.late.store(false, Ordering::Relaxed);
    for client in &mut clients {
        world.drain(client);
    }
    let last: Vec<Position> = (0..CHANNELS.len()).map(|c| world.publish(c, 0)).collect();
    check_books(&mut world, &mut clients, &last);
    // Then the last event of each channel is lost, and no later one shows it.
    let lost: Vec<Position> = (0..CHANNELS.len())
        .map(|c| world.lose(c, 1, c % 2 == 0).unwrap())
        .collect();
    check_books(&mut world, &mut clients, &lost);
}

/// Every client's position is the position of each channel to which it is subscribed.
fn check_books(world: &mut World, clients: &mut [Client], last: &[Position]) {
    for client in clients {
        world.drain(client);
        for channel in client.follows.clone() {
            let book = client.books[&channel];
            assert_eq!(
                (book.epoch, book.at),
                (last[channel].epoch, last[channel].offset),
                "{}: behind, and was told nothing",
                CHANNELS[channel].0
            );
        }
    }
}

proptest! {
    /// `PROPTEST_CASES` sets how many schedules are run.
    #[test]
    fn every_event_arrives_once_or_is_reported_missing(ops in ops()) {
        run(ops);
    }
}
