//! What to run.

use clap::{Parser, ValueEnum};

/// Drives the server through faults, and checks that nothing is lost, repeated or reordered.
#[derive(Debug, Parser)]
pub struct Options {
    /// Replays the schedule of an earlier run; without it, a new seed is drawn and printed
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long faults are injected; the final checks take some more seconds
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    #[arg(long, value_enum, default_value_t = Store::Disk)]
    pub store: Store,
    /// WebSocket clients
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// gRPC subscribers
    #[arg(long, default_value_t = 8)]
    pub streams: usize,
    /// Events per second
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Print the totals as JSON
    #[arg(long)]
    pub json: bool,
    /// Print each fault of several nodes before it happens
    #[arg(long)]
    pub trace: bool,
    /// Have clients misreport what they received, to verify that the run fails
    #[arg(long, value_enum, hide = true)]
    pub sabotage: Option<Sabotage>,
    /// Some versions of cargo pass this to every test
    #[arg(long, hide = true)]
    pub nocapture: bool,
}

/// The store's location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    Memory,
    Disk,
    /// Three nodes on NATS JetStream
    Nats,
    /// Three nodes on Redis
    Redis,
}

impl Store {
    /// True if several nodes share it.
    pub fn is_engine(self) -> bool {
        matches!(self, Store::Nats | Store::Redis)
    }

    /// The number of nodes.
    pub fn nodes(self) -> usize {
        if self.is_engine() { 3 } else { 1 }
    }

    /// As the option names it.
    pub fn name(self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::Disk => "disk",
            Store::Nats => "nats",
            Store::Redis => "redis",
        }
    }
}

/// How clients misreport some events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    Drop,
    Repeat,
    Swap,
}

/// Clients per channel, on average. The cost of an event stays the same with more clients.
const CLIENTS_PER_CHANNEL: usize = 16;

/// The namespaces, one for each policy, and whether it drops events.
pub const NAMESPACES: [(&str, bool); 4] = [
    ("disconnect", false),
    ("resync", false),
    ("drop_oldest", true),
    ("conflate", true),
];

impl Options {
    /// The number of channels.
    pub fn channels(&self) -> usize {
        (self.clients / CLIENTS_PER_CHANNEL).max(3 * NAMESPACES.len())
    }
}

/// A channel's name.
pub fn channel_name(channel: usize) -> String {
    format!("{}:{channel}", NAMESPACES[channel % NAMESPACES.len()].0)
}
