//! Which fault happens when. The same seed gives the same schedule.

use std::time::Duration;

use fastrand::Rng;

use crate::clock;
use crate::options::Store;

/// Something that goes wrong. Shares are of the open connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// `kill -9`, and a start after this long.
    Kill { down: Duration },
    /// SIGTERM, the end, a start.
    Restart,
    /// SIGTERM, and `kill -9` while clients leave.
    KillWhileDraining { after: Duration },
    /// The file system has only so many bytes left, for so long.
    FillDisk { left: u64, lasts: Duration },
    /// Every sync fails, for so long.
    FailSync { lasts: Duration },
    /// Connections stop reading while events are published in a burst.
    Freeze { share: f64, lasts: Duration },
    /// Connections break.
    Cut { share: f64 },
    /// The process stands still, for so long.
    Stall { lasts: Duration },
    /// The system's clock is set, and set right again after so long.
    Clock {
        offset: &'static str,
        lasts: Duration,
    },
    /// `kill -9`, and a byte of a journal is changed: mended once the server has refused to start, or
    /// left, and the server goes on with new epochs.
    FlipByte { mend: bool },
    /// The store is copied, and the copy put back this much later.
    PutBack { after: Duration, over: bool },
}

impl Fault {
    /// Its name in the totals.
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
/// Nothing happens so long before the end.
const CALM: Duration = Duration::from_secs(3);

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

/// A fault of this kind, in a run that lasts so long.
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
            // Longer than clients may be silent, but never most of a short run.
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

/// The faults of a run, each with its time from the start. Each kind comes before any comes again.
pub fn plan(seed: u64, lasts: Duration, store: Store) -> Vec<(Duration, Fault)> {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Vec::new();
    let mut at = Duration::from_secs(1);
    let mut round: Vec<u8> = Vec::new();
    while at + CALM < lasts {
        let kind = round.pop().unwrap_or_else(|| {
            round = (0..KINDS).collect();
            // What happens to connections happens more often than what happens to the server.
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
