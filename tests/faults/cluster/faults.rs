//! Injects faults into nodes, their engine, and what is between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::engine::Engine;
use super::pipe::{Direction, Flow, Pipe};
use super::schedule::Fault;
use crate::faults::tail;
use crate::options::Store;
use crate::publisher::Publisher;
use crate::server::{self, Server};
use crate::world::World;

/// The number of events published while connections are frozen.
const BURST: usize = 100;
/// How long a start may be refused, for instance without an engine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node's clients may take to be subscribed on others, and publishers to be
/// acknowledged again.
const BACK: Duration = Duration::from_secs(30);
/// The polling interval of measured times.
const LOOK: Duration = Duration::from_millis(2);

/// Injects faults.
pub struct Faults {
    world: Arc<World>,
    directory: PathBuf,
    engine: Engine,
    /// How many engines there have been.
    engines: u32,
    nodes: Vec<Server>,
    pipes: Vec<Pipe>,
    burst: Arc<Mutex<Publisher>>,
    rng: Rng,
    /// What lasts while other faults happen.
    lasting: JoinSet<()>,
}

impl Faults {
    pub async fn new(world: &Arc<World>, directory: &Path, burst: Publisher, rng: Rng) -> Self {
        let kind = world.options.store;
        let engine = Engine::new(kind, &directory.join("engine-0"));
        let (mut nodes, mut pipes) = (Vec::new(), Vec::new());
        for number in 0..kind.nodes() {
            let pipe = Pipe::start(engine.address).await;
            let own = directory.join(format!("node-{number}"));
            fs::create_dir(&own).unwrap();
            let configuration = server::joined(kind, number, pipe.address);
            nodes.push(Server::new(&own, &configuration, &own.join("store"), None));
            pipes.push(pipe);
        }
        Faults {
            world: Arc::clone(world),
            directory: directory.to_owned(),
            engine,
            engines: 1,
            nodes,
            pipes,
            burst: Arc::new(Mutex::new(burst)),
            rng,
            lasting: JoinSet::new(),
        }
    }

    /// Starts the engine and all nodes.
    pub async fn start(&mut self) {
        self.engine.start().await;
        for node in 0..self.nodes.len() {
            self.start_node(node).await;
        }
    }

    /// Retries while the node refuses, as it may without an engine.
    async fn start_node(&mut self, node: usize) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.nodes[node].start().await {
                Ok(addresses) => return self.world.nodes[node].lead_to(Some(addresses)),
                Err(_) => self.world.totals.refused_starts.add(1),
            }
            assert!(
                Instant::now() < deadline,
                "node {node} does not start:\n{}",
                tail(&self.nodes[node].log())
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Injects one fault. Lasting faults continue in the background.
    pub async fn happen(&mut self, fault: Fault) {
        self.check_alive().await;
        self.world.totals.fault(fault.kind());
        if self.world.options.trace {
            eprintln!("{fault:?}");
        }
        match fault {
            Fault::KillNode { node, down } => {
                self.measure_return(node);
                self.world.nodes[node].lead_to(None);
                self.nodes[node].kill();
                tokio::time::sleep(down).await;
                self.start_node(node).await;
            }
            Fault::StopNode { node } => {
                self.stop_node(node).await;
                self.start_node(node).await;
            }
            Fault::StallNode { node, lasts } => self.nodes[node].stall(lasts).await,
            Fault::KillEngine { down } => self.kill_engine(down).await,
            Fault::StallEngine { lasts } => self.engine.stall(lasts).await,
            Fault::StallPipe {
                node,
                direction,
                lasts,
            } => self.stall_pipe(node, direction, lasts),
            Fault::CutPipe { node } => self.pipes[node].cut(),
            Fault::Swallow {
                node,
                direction,
                lasts,
            } => self.swallow(node, direction, lasts),
            Fault::Wipe { running } => self.wipe(running).await,
            Fault::Promote { behind } => self.promote(behind).await,
            Fault::CutClients { node, share } => {
                let node = &self.world.nodes[node];
                node.public.cut(share, &mut self.rng);
                node.internal.cut(share, &mut self.rng);
            }
            Fault::FreezeClients { node, share, lasts } => self.freeze(node, share, lasts),
        }
    }

    /// Measures how long the clients of a node that is killed now take until they are subscribed.
    fn measure_return(&mut self, node: usize) {
        let began = Instant::now();
        let subscribers = self.world.subscribers.lock().unwrap().clone();
        let concerned = subscribers.into_iter().filter(|one| one.node() == node);
        let concerned: Vec<_> = concerned.map(|one| (one.answers(), one)).collect();
        let world = Arc::clone(&self.world);
        self.lasting.spawn(async move {
            for (before, subscriber) in concerned {
                while subscriber.answers() == before {
                    if began.elapsed() > BACK {
                        let why = format!("is not back on another node after {BACK:?}");
                        return world.wrong(&subscriber.name, why);
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
            world
                .totals
                .took("all clients of a killed node are back", began.elapsed());
        });
    }

    /// `kill -9`, and a start with the same data.
    async fn kill_engine(&mut self, down: Duration) {
        if self.world.options.store == Store::Redis {
            // Each process of Redis begins new epochs.
            self.world.time_lines.add(1);
        }
        let killed = Instant::now();
        self.engine.kill();
        tokio::time::sleep(down).await;
        self.engine.start().await;
        let (ready, before) = (Instant::now(), self.world.totals.acknowledged.get());
        let world = Arc::clone(&self.world);
        self.lasting.spawn(async move {
            while world.totals.acknowledged.get() == before {
                if ready.elapsed() > BACK {
                    let why = format!("nothing is acknowledged {BACK:?} after a restart");
                    return world.wrong("the engine", why);
                }
                tokio::time::sleep(LOOK).await;
            }
            let totals = &world.totals;
            totals.took("acknowledged after a kill of the engine", killed.elapsed());
            totals.took("acknowledged after its restart", ready.elapsed());
        });
    }

    fn stall_pipe(&mut self, node: usize, direction: Option<Direction>, lasts: Duration) {
        let pipe = self.pipes[node].clone();
        let directions = match direction {
            Some(direction) => vec![direction],
            None => vec![Direction::ToEngine, Direction::ToNode],
        };
        self.lasting.spawn(async move {
            let _one = pipe.busy.lock().await;
            for direction in &directions {
                pipe.set(*direction, Flow::Hold);
            }
            tokio::time::sleep(lasts).await;
            for direction in directions {
                pipe.set(direction, Flow::Pass);
            }
        });
    }

    fn swallow(&mut self, node: usize, direction: Direction, lasts: Duration) {
        let pipe = self.pipes[node].clone();
        self.lasting.spawn(async move {
            let _one = pipe.busy.lock().await;
            pipe.set(direction, Flow::Swallow);
            tokio::time::sleep(lasts).await;
            pipe.cut();
            pipe.set(direction, Flow::Pass);
        });
    }

    /// Removes all data of the engine.
    async fn wipe(&mut self, running: bool) {
        self.world.time_lines.add(1);
        if running {
            let answer = self.engine.ask("FLUSHALL\r\n").await;
            assert_eq!(answer.as_deref(), Some("+OK\r\n"));
            self.world.wipes.add(1);
            return;
        }
        self.engine.kill();
        self.engine.remove_data();
        self.world.wipes.add(1);
        self.engine.start().await;
    }

    /// Kills the engine while its replica is behind. The replica takes its place, without some of
    /// the acknowledged events.
    async fn promote(&mut self, behind: Duration) {
        let link = Pipe::start(self.engine.address).await;
        let data = self.directory.join(format!("engine-{}", self.engines));
        self.engines += 1;
        let mut replica = Engine::new(self.world.options.store, &data);
        replica.follow(link.address);
        replica.start().await;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let info = replica
                .ask("INFO replication\r\n")
                .await
                .unwrap_or_default();
            if info.contains("master_link_status:up") {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the replica is not in step: {info}"
            );
            tokio::time::sleep(LOOK).await;
        }
        link.set(Direction::ToNode, Flow::Hold);
        tokio::time::sleep(behind).await;
        self.world.time_lines.add(1);
        self.engine.kill();
        link.cut();
        replica.promote().await;
        self.world.wipes.add(1);
        for pipe in &self.pipes {
            pipe.lead_to(replica.address);
        }
        self.engine = replica;
    }

    fn freeze(&mut self, node: usize, share: f64, lasts: Duration) {
        let node = &self.world.nodes[node];
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

    /// SIGTERM. The node must stop cleanly.
    async fn stop_node(&mut self, node: usize) {
        let status = self.nodes[node].stop().await;
        self.world.nodes[node].lead_to(None);
        if !status.is_some_and(|status| status.success()) {
            let log = tail(&self.nodes[node].log());
            let why = format!("SIGTERM ended it with {status:?}:\n{log}");
            self.world.wrong(&format!("node {node}"), why);
        }
    }

    async fn check_alive(&mut self) {
        for node in 0..self.nodes.len() {
            if let Some(status) = self.nodes[node].ended() {
                let log = tail(&self.nodes[node].log());
                let why = format!("ended by itself with {status}:\n{log}");
                self.world.wrong(&format!("node {node}"), why);
                self.start_node(node).await;
            }
        }
    }

    /// Waits until all lasting faults are over.
    pub async fn over(&mut self) {
        let over = async {
            while let Some(ended) = self.lasting.join_next().await {
                ended.unwrap();
            }
        };
        if tokio::time::timeout(TIMEOUT, over).await.is_err() {
            let why = "a burst is never acknowledged";
            self.world.wrong("the publishers", why.into());
            self.lasting.abort_all();
        }
        self.check_alive().await;
    }

    /// Stops all nodes.
    pub async fn stop(&mut self) {
        for node in 0..self.nodes.len() {
            self.stop_node(node).await;
        }
    }

    /// No log may report an internal error.
    pub fn check_log(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            for line in log.lines().filter(|line| line.contains("panicked")) {
                self.world.wrong(&format!("node {number}"), line.to_owned());
            }
        }
    }

    /// The last lines of the nodes' logs.
    pub fn log(&self) -> String {
        let logs = self.nodes.iter().map(|node| tail(&node.log()));
        logs.collect::<Vec<_>>().join("\n---\n")
    }
}
