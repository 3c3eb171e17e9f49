//! Injects faults into the real server, while many clients verify what they receive.
//!
//! The server is killed and restarted, its disk filled, its syncs made to fail. Its clients are
//! frozen and disconnected, and their tokens expire. A byte of its store is flipped, and an earlier
//! copy of it is restored. Publishers retry each event until it is acknowledged. At the end, every
//! client must have reached the end of its channels, and history must contain all that was
//! acknowledged.
//!
//! `cargo test --test faults -- --help`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::let_underscore_must_use,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod book;
mod client;
mod clock;
mod cluster;
mod disk;
mod faults;
mod ledger;
mod options;
mod proxy;
mod publisher;
mod run;
mod schedule;
mod server;
mod store;
mod stream;
mod subscriber;
mod totals;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = options::Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clean = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        // Processes that the run has started end when it is dropped.
        tokio::select! {
            clean = run::run(options) => clean,
            _ = terminated.recv() => false,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    // Clients that still run end with the program.
    runtime.shutdown_background();
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
