//! The hub's shared data structures under loom: the server's own files, compiled with loom's
//! threads, locks and atomics. Loom runs every interleaving.
//!
//! Stubs replace the imports of these files from other modules. `cargo test --manifest-path
//! tests/systematic/Cargo.toml`
#![cfg(test)]
#![allow(dead_code, reason = "the files hold more than the models use")]

mod stand_ins;
mod sync;

use stand_ins::{command, error, event, hub, protocol, shard, telemetry};

#[path = "../../../src/hub/delivery.rs"]
mod delivery;
#[path = "../../../src/hub/dialect_ids.rs"]
mod dialect_ids;
#[path = "../../../src/hub/interest.rs"]
mod interest;
#[path = "../../../src/hub/pipe.rs"]
mod pipe;
#[path = "../../../src/hub/queue.rs"]
mod queue;
#[path = "../../../src/hub/shard_cell.rs"]
mod shard_cell;

mod deliveries;
mod pipes;
mod queues;
mod small_rounds;
mod subscribing;

/// The bound on preemptions of an interleaving; switches at locks and waits are free. Without a
/// bound a model would run for hours.
const PREEMPTION_BOUND: usize = 2;

/// Runs a model in every interleaving.
fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTION_BOUND);
    model.check(scene);
}
