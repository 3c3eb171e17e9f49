//! The schedule of faults. It is determined by its seed.

use std::time::Duration;

use fastrand::Rng;

use crate::clock;
use crate::options::Store;

/// A fault. Fractions are of the open connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// `kill -9`, and a restart after this long.
    Kill { down: Duration },
    /// SIGTERM, a clean stop, and a restart.
    Restart,
    /// SIGTERM, and `kill -9` during draining.
    KillWhileDraining { after: Duration },
    /// The file system has only this much space left, for this long.
    FillDisk { left: u64, lasts: Duration },
    /// Every sync fails, for this long.
    FailSync { lasts: Duration },
    /// Connections stop reading during a burst of events.
    Freeze { share: f64, lasts: Duration },
    /// Connections break.
    Cut { share: f64 },
    /// The process is stopped (SIGSTOP), for this long.
    Stall { lasts: Duration },
    /// The system's clock is stepped, and corrected after this long.
    Clock {
        offset: &'static str,
        lasts: Duration,
    },
    /// `kill -9`, and a byte of a journal is changed. It is either reverted once the server has
    /// refused to start, or left, and the server continues with new epochs.
    FlipByte { mend: bool },
    /// The store is copied, and the copy is restored this much later.
    PutBack { after: Duration, over: bool },
}

impl Fault {
    /// The name in the totals.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill_9",
            Fault::Restart => "restart",
            Fault::KillWhileDraining { .. } => "kill_9_while_draining",
            Fault::FillDisk { .. } => "disk_full",
            Fault::FailSync { .. } => "sync_fails",
            Fault::Freeze { .. } => "freeze",
            Fault::Cut { .. } => "cut",
            Fault::Stall { .. } => "stall",
            Fault::Clock { .. } => "clock",
            Fault::FlipByte { .. } => "flipped_byte",
            Fault::PutBack { .. } => "restored_copy",
        }
    }
}

const KINDS: u8 = 11;
/// No faults happen in this last part of the run.
const CALM: Duration = Duration::from_secs(3);

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

/// A random fault of this kind, scaled to the run's duration.
fn fault(rng: &mut Rng, kind: u8, lasts: Duration) -> Fault {
    match kind {
        0 => Fault::Kill {
            down: millis(rng, 0, 700),
        },
        1 => Fault::Restart,
        2 => Fault::KillWhileDraining {
            after: millis(rng, 0, 1500),
        },
        3 => Fault::FillDisk {
            left: rng.choice([0, 4, 16, 64, 256]).unwrap() * 1024,
            lasts: millis(rng, 500, 4000),
        },
        4 => Fault::FailSync {
            lasts: millis(rng, 300, 2000),
        },
        5 => Fault::Freeze {
            share: 0.02 + 0.3 * rng.f64(),
            lasts: millis(rng, 500, 5000),
        },
        6 => Fault::Cut {
            share: if rng.u8(..4) == 0 { 1.0 } else { rng.f64() },
        },
        7 => Fault::Stall {
            // Longer than the silence timeout, but never most of a short run.
            lasts: millis(rng, 500, 10_000).min(lasts / 6),
        },
        8 => Fault::FlipByte { mend: rng.bool() },
        9 => Fault::PutBack {
            after: millis(rng, 300, 2000),
            over: rng.bool(),
        },
        _ => Fault::Clock {
            offset: clock::offset(rng),
            lasts: millis(rng, 300, 3000),
        },
    }
}

/// The faults of a run, each with its time from the start. Every kind occurs before any is
/// repeated.
pub fn plan(seed: u64, lasts: Duration, store: Store) -> Vec<(Duration, Fault)> {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Vec::new();
    let mut at = Duration::from_secs(1);
    let mut round: Vec<u8> = Vec::new();
    while at + CALM < lasts {
        let kind = round.pop().unwrap_or_else(|| {
            round = (0..KINDS).collect();
            // Faults of connections are more frequent than faults of the server.
            round.extend([5, 5, 6]);
            rng.shuffle(&mut round);
            round.pop().unwrap()
        });
        let fault = fault(&mut rng, kind, lasts);
        let of_disk = matches!(
            fault,
            Fault::FillDisk { .. }
                | Fault::FailSync { .. }
                | Fault::FlipByte { .. }
                | Fault::PutBack { .. }
        );
        if of_disk && store == Store::Memory {
            continue;
        }
        plan.push((at, fault));
        at += millis(&mut rng, 500, 3000);
    }
    plan
}
