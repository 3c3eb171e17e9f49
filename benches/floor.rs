//! The minimal cost of an event server on this machine, as a baseline for Tidings.
//!
//! `floor serve` writes one prepared frame to each subscribed socket from an epoll loop: no
//! history, no authorization, no encoding. `floor echo` is a bare tonic server that answers
//! publishes without doing anything. Both speak the protocol of `tidings bench`. `benches/run.py`
//! starts them.

#[path = "floor/echo.rs"]
mod echo;
#[path = "floor/serve.rs"]
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// WebSocket server that only writes
    Serve(serve::Args),
    /// gRPC server that only answers
    Echo(echo::Args),
}

/// The options of both servers.
#[derive(Debug, Clone, clap::Args)]
struct FloorArgs {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Written once it listens: `{"public":"…","internal":"…"}`
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Seconds after which the server exits by itself
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

impl FloorArgs {
    fn ready(&self, public: SocketAddr, internal: SocketAddr) -> std::io::Result<()> {
        let text = format!("{{\"public\":\"{public}\",\"internal\":\"{internal}\"}}");
        match &self.ready_file {
            // Renamed into place, so that no reader sees a partial file.
            Some(path) => {
                let unfinished = path.with_extension("tmp");
                std::fs::write(&unfinished, text)?;
                std::fs::rename(unfinished, path)
            }
            None => Ok(()),
        }
    }

    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<(), Failure> {
    match Cli::parse().command {
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Echo(args)) => echo::run(&args),
        None => Ok(()),
    }
}
