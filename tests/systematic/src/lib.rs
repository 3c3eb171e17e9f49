//! The shared parts of the bus under loom: the very files of the server, compiled over stand-ins
//! for threads, locks and atomics that try every order of events.
//!
//! What the files import from the bus and from the rooms below is stood in for here, as little of
//! it as they use. `cargo test --manifest-path tests/systematic/Cargo.toml`
#![cfg(test)]
#![allow(dead_code, reason = "the files hold more than the models use")]

mod stand_ins;
mod sync;

use stand_ins::hub::{self, Hub};
use stand_ins::{command, error, event, protocol, shard, telemetry};

#[path = "../../../src/hub/delivery.rs"]
mod delivery;
#[path = "../../../src/hub/queue.rs"]
mod queue;
#[path = "../../../src/hub/pipe.rs"]
mod pipe;
#[path = "../../../src/hub/interest.rs"]
mod interest;
#[path = "../../../src/hub/shard_cell.rs"]
mod shard_cell;

mod deliveries;
mod helping;
mod inboxes;
mod joining;
mod pipes;

/// A scene is gone through in every order in which threads are interrupted at most this often where
/// they need not be; switches at locks and waits are free. Without a bound it would take hours.
const INTERRUPTIONS: usize = 2;

/// Tries a scene in every order.
fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(INTERRUPTIONS);
    model.check(scene);
}
