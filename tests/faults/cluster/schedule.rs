//! The schedule of faults of several nodes. It is determined by its seed.

use std::time::Duration;

use fastrand::Rng;

use super::pipe::Direction;
use crate::options::Store;

/// A fault. `node` is the number of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// `kill -9` of a node, and a start after this long.
    KillNode { node: usize, down: Duration },
    /// SIGTERM, a clean stop, and a start.
    StopNode { node: usize },
    /// A node is stopped (SIGSTOP), for this long.
    StallNode { node: usize, lasts: Duration },
    /// `kill -9` of the engine, and a start with the same data after this long.
    KillEngine { down: Duration },
    /// The engine is stopped (SIGSTOP), for this long.
    StallEngine { lasts: Duration },
    /// Bytes between a node and the engine wait, for this long.
    StallPipe {
        node: usize,
        direction: Option<Direction>,
        lasts: Duration,
    },
    /// The connections between a node and the engine break.
    CutPipe { node: usize },
    /// Bytes of one direction are lost for this long. Then the connections break.
    Swallow {
        node: usize,
        direction: Direction,
        lasts: Duration,
    },
    /// The engine's data is removed. Redis: `running` does it by `FLUSHALL`.
    Wipe { running: bool },
    /// The engine is killed while its replica is behind, and the replica takes its place.
    Promote { behind: Duration },
    /// Connections of clients to a node break.
    CutClients { node: usize, share: f64 },
    /// Connections of clients to a node stop reading during a burst of events.
    FreezeClients {
        node: usize,
        share: f64,
        lasts: Duration,
    },
}

impl Fault {
    /// The name in the totals.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::KillNode { .. } => "kill_9_node",
            Fault::StopNode { .. } => "restart_node",
            Fault::StallNode { .. } => "stall_node",
            Fault::KillEngine { .. } => "kill_9_engine",
            Fault::StallEngine { .. } => "stall_engine",
            Fault::StallPipe { .. } => "stall_between",
            Fault::CutPipe { .. } => "cut_between",
            Fault::Swallow { .. } => "swallow_between",
            Fault::Wipe { running: true } => "flush",
            Fault::Wipe { running: false } => "wipe",
            Fault::Promote { .. } => "promote_replica",
            Fault::CutClients { .. } => "cut_clients",
            Fault::FreezeClients { .. } => "freeze_clients",
        }
    }
}

const KINDS: u8 = 12;
/// No faults begin in this last part of the run.
const CALM: Duration = Duration::from_secs(3);

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

fn direction(rng: &mut Rng) -> Direction {
    if rng.bool() {
        Direction::ToEngine
    } else {
        Direction::ToNode
    }
}

fn fault(rng: &mut Rng, kind: u8, store: Store) -> Fault {
    let node = rng.usize(..store.nodes());
    match kind {
        0 => Fault::KillNode {
            node,
            down: millis(rng, 0, 3000),
        },
        1 => Fault::StopNode { node },
        2 => Fault::StallNode {
            node,
            lasts: millis(rng, 2000, 8000),
        },
        3 => Fault::KillEngine {
            down: millis(rng, 0, 1500),
        },
        4 => Fault::StallEngine {
            lasts: millis(rng, 300, 5000),
        },
        5 => Fault::StallPipe {
            node,
            direction: [None, Some(direction(rng))][usize::from(rng.bool())],
            lasts: millis(rng, 300, 7000),
        },
        6 => Fault::CutPipe { node },
        7 => Fault::Swallow {
            node,
            direction: direction(rng),
            lasts: millis(rng, 200, 4000),
        },
        8 => Fault::Wipe {
            running: store == Store::Redis && rng.bool(),
        },
        9 => Fault::CutClients {
            node,
            share: if rng.u8(..4) == 0 { 1.0 } else { rng.f64() },
        },
        10 => Fault::FreezeClients {
            node,
            share: 0.02 + 0.3 * rng.f64(),
            lasts: millis(rng, 500, 5000),
        },
        _ => Fault::Promote {
            behind: millis(rng, 100, 1500),
        },
    }
}

/// The faults of a run, each with its pause before it. Every kind occurs before any is repeated.
pub fn plan(seed: u64, store: Store) -> impl Iterator<Item = (Duration, Fault)> {
    let mut rng = Rng::with_seed(seed);
    let mut round: Vec<u8> = Vec::new();
    std::iter::from_fn(move || {
        loop {
            let kind = round.pop().unwrap_or_else(|| {
                round = (0..KINDS).collect();
                round.extend([0, 3, 6, 7]);
                rng.shuffle(&mut round);
                round.pop().unwrap()
            });
            let fault = fault(&mut rng, kind, store);
            if store == Store::Redis || !matches!(fault, Fault::Promote { .. }) {
                return Some((millis(&mut rng, 300, 2500), fault));
            }
        }
    })
}

/// How long faults begin in a run of this length.
pub fn faulty_part(lasts: Duration) -> Duration {
    lasts.saturating_sub(CALM)
}
