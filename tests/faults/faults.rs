//! Injects faults.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::disk::{SmallDisk, fail_syncs};
use crate::publisher::Publisher;
use crate::schedule::Fault;
use crate::server::{Addresses, Server};
use crate::store::{self, Flipped};
use crate::world::World;

/// The number of events published while connections are frozen.
const BURST: usize = 100;
/// How long a start may be refused, for instance on a full disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Injects faults.
pub struct Faults {
    world: Arc<World>,
    server: Server,
    disk: Arc<Mutex<Option<SmallDisk>>>,
    can_fail_syncs: bool,
    clock: Option<Clock>,
    syncs: Arc<Mutex<()>>,
    burst: Arc<Mutex<Publisher>>,
    rng: Rng,
    /// Faults that last while others happen.
    lasting: JoinSet<()>,
}

impl Faults {
    pub fn new(
        world: &Arc<World>,
        server: Server,
        disk: Option<SmallDisk>,
        can_fail_syncs: bool,
        clock: Option<Clock>,
        burst: Publisher,
        rng: Rng,
    ) -> Self {
        Faults {
            world: Arc::clone(world),
            server,
            disk: Arc::new(Mutex::new(disk)),
            can_fail_syncs,
            clock,
            syncs: Arc::default(),
            burst: Arc::new(Mutex::new(burst)),
            rng,
            lasting: JoinSet::new(),
        }
    }

    /// Starts the server. Retries while it refuses, as it may on a full disk.
    pub async fn start(&mut self) {
        let started = async {
            loop {
                match self.server.start().await {
                    Ok(addresses) => return self.lead_to(addresses),
                    Err(_) => self.world.totals.refused_starts.add(1),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let started = tokio::time::timeout(TIMEOUT, started).await;
        assert!(started.is_ok(), "no start:\n{}", tail(&self.server.log()));
    }

    /// Injects one fault. Lasting faults continue in the background.
    pub async fn happen(&mut self, fault: Fault) {
        self.check_alive().await;
        match fault {
            Fault::Kill { down } => {
                self.kill();
                tokio::time::sleep(down).await;
                self.start().await;
            }
            Fault::Restart => {
                self.stop().await;
                self.start().await;
            }
            Fault::KillWhileDraining { after } => {
                self.server.terminate();
                tokio::time::sleep(after).await;
                self.kill();
                self.start().await;
            }
            Fault::FillDisk { left, lasts } => self.fill_disk(left, lasts),
            Fault::FailSync { lasts } => self.fail_syncs(lasts),
            Fault::Freeze { share, lasts } => self.freeze(share, lasts),
            Fault::FlipByte { mend } => self.flip_byte(mend).await,
            Fault::PutBack { after, over } => self.put_back(after, over).await,
            Fault::Cut { share } => {
                self.world.nodes[0].public.cut(share, &mut self.rng);
                self.world.nodes[0].internal.cut(share, &mut self.rng);
            }
            Fault::Stall { lasts } => self.server.stall(lasts).await,
            Fault::Clock { offset, lasts } => self.set_clock(offset, lasts).await,
        }
        let skipped = match fault {
            Fault::FailSync { .. } => !self.can_fail_syncs,
            Fault::FillDisk { .. } => self.disk.try_lock().is_ok_and(|disk| disk.is_none()),
            Fault::Clock { .. } => self.clock.is_none(),
            Fault::Kill { .. }
            | Fault::Stall { .. }
            | Fault::Restart
            | Fault::KillWhileDraining { .. }
            | Fault::Freeze { .. }
            | Fault::FlipByte { .. }
            | Fault::PutBack { .. }
            | Fault::Cut { .. } => false,
        };
        if !skipped {
            self.world.totals.fault(fault.kind());
        }
    }

    /// Changes one byte of acknowledged data while the server is down.
    async fn flip_byte(&mut self, mend: bool) {
        self.kill();
        let flipped = Flipped::new(&self.server.store, &mut self.rng);
        if mend {
            // If the server refuses to start, nothing may have been changed.
            if let Ok(addresses) = self.server.start().await {
                self.lead_to(addresses);
                return;
            }
            let log = tail(&self.server.log());
            if !log.contains("the store is damaged") {
                self.world
                    .wrong("the server", format!("refused to start:\n{log}"));
            }
            flipped.into_iter().for_each(Flipped::mend);
        } else {
            self.world.time_lines.add(1);
            self.server.bears_damage = true;
        }
        self.start().await;
        self.server.bears_damage = false;
    }

    /// Restores an earlier copy of the store.
    async fn put_back(&mut self, after: Duration, over: bool) {
        self.stop().await;
        let backup = tempfile::tempdir().unwrap();
        store::copy(&self.server.store, backup.path());
        self.start().await;
        tokio::time::sleep(after).await;
        self.kill();
        {
            // The copy needs space.
            let disk = self.disk.lock().await;
            self.world.time_lines.add(1);
            store::put_back(backup.path(), &self.server.store, over);
            drop(disk);
        }
        self.start().await;
    }

    fn lead_to(&self, addresses: Addresses) {
        self.world.nodes[0].lead_to(Some(addresses));
    }

    async fn check_alive(&mut self) {
        if let Some(status) = self.server.ended() {
            let log = tail(&self.server.log());
            let why = format!("ended by itself with {status}:\n{log}");
            self.world.wrong("the server", why);
            self.start().await;
        }
    }

    fn kill(&mut self) {
        self.world.nodes[0].lead_to(None);
        self.server.kill();
    }

    /// SIGTERM. The server must stop cleanly.
    pub async fn stop(&mut self) {
        let status = self.server.stop().await;
        self.world.nodes[0].lead_to(None);
        if !status.is_some_and(|status| status.success()) {
            let log = tail(&self.server.log());
            let why = format!("SIGTERM ended it with {status:?}:\n{log}");
            self.world.wrong("the server", why);
        }
    }

    fn fill_disk(&mut self, left: u64, lasts: Duration) {
        let disk = Arc::clone(&self.disk);
        self.lasting.spawn(async move {
            let disk = disk.lock().await;
            if let Some(disk) = &*disk {
                disk.fill(left);
                tokio::time::sleep(lasts).await;
                disk.free();
            }
        });
    }

    fn fail_syncs(&mut self, lasts: Duration) {
        let (syncs, process) = (Arc::clone(&self.syncs), self.server.process());
        if let (true, Some(process)) = (self.can_fail_syncs, process) {
            self.lasting.spawn(async move {
                let _one = syncs.lock().await;
                fail_syncs(process, lasts).await;
            });
        }
    }

    /// No other fault happens meanwhile: a server that starts while its clock is wrong cannot
    /// detect it.
    async fn set_clock(&self, offset: &str, lasts: Duration) {
        if let Some(clock) = &self.clock {
            clock.set(offset);
            tokio::time::sleep(lasts).await;
            clock.set("+0");
        }
    }

    fn freeze(&mut self, share: f64, lasts: Duration) {
        let node = &self.world.nodes[0];
        let mut frozen = node.public.freeze(share, &mut self.rng);
        frozen.extend(node.internal.freeze(share / 4.0, &mut self.rng));
        self.lasting.spawn(async move {
            tokio::time::sleep(lasts).await;
            for link in frozen {
                link.send_replace(false);
            }
        });
        let channel = self.rng.usize(..self.world.options.channels());
        let burst = Arc::clone(&self.burst);
        self.lasting.spawn(async move {
            burst.lock().await.burst(channel, BURST).await;
        });
    }

    /// Waits until all lasting faults are over.
    pub async fn over(&mut self) {
        while let Some(ended) = self.lasting.join_next().await {
            ended.unwrap();
        }
        self.check_alive().await;
    }

    /// The log must not report an internal error of the server.
    pub fn check_log(&self) {
        let log = self.server.log();
        let bad = log.lines().filter(|line| line.contains("panicked"));
        for line in bad {
            self.world.wrong("the server's log", line.to_owned());
        }
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        tail(&self.server.log())
    }
}

pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
