//! `tidings bench`: a load generator that costs less than the server that it measures.
//!
//! Subscribers are sockets in epoll threads, without tasks and without parsing; publishers are
//! tasks over gRPC, WebSocket or HTTP. Every event carries the time at which it was due and its
//! number, so that latency, loss, repetition and order are checked for each delivery. See
//! `benches/README.md` for the runs that compare the server with the least that the operating
//! system needs.

pub mod clock;
mod connection;
mod error;
mod floor_client;
pub mod histogram;
mod http_publish;
pub mod last;
mod outcome;
pub mod payload;
pub mod process;
pub mod progress;
mod publish;
mod publish_mode;
pub mod publisher_task;
pub mod report;
mod scenario;
pub mod sequence;
mod streams;
mod subscriber;
pub mod swarm;
pub mod tally;
pub mod token;
pub mod type_filter;
mod websocket;

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

pub use self::error::{Error, Result};
use self::token::{Minter, Secret, Tokens};

const MAX_CONNECTIONS: usize = 200_000;
const MAX_PUBLISHERS: usize = 256;
const MAX_WINDOW: usize = 1000;
const MAX_SECONDS: f64 = 3600.0;
/// A server limits the connections from one address; subscribers are spread over several addresses
/// below that limit.
const CONNECTIONS_PER_SOURCE: usize = 500;

/// The load of a run once the connections are subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Publishes at a fixed rate
    Paced,
    /// Publishes as fast as responses and subscribers allow
    Burst,
    /// Publishes nothing, and measures the server's memory and processor time
    Idle,
    /// Ends at once: measures only connecting and subscribing
    Connect,
}

/// How subscribers reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// One WebSocket per subscriber
    Ws,
    /// gRPC streams, a hundred per HTTP/2 connection
    Grpc,
}

/// How events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishBy {
    /// One call per event
    Unary,
    /// Many events per call
    Batch,
    /// A stream of events.
    Stream,
    /// The command `publish` of the JSON WebSocket, a connection for each publisher.
    Websocket,
    /// `POST /api/v1/events`, one request for each event.
    Http,
    /// The floor server of `benches/floor.rs`, at the address given with `--grpc`.
    Floor,
}

/// Load generator: connections, rate, size; prints latency percentiles, deliveries/s,
/// lost/duplicate/reordered.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// The kind of load
    #[arg(long, value_enum, default_value = "paced")]
    pub mode: Mode,
    /// The server's WebSocket URL
    #[arg(long, default_value = "ws://127.0.0.1:8000/ws")]
    pub url: String,
    /// The server's gRPC address
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub grpc: String,
    /// Number of subscribers; with 0 the run only publishes
    #[arg(long, short, default_value_t = 100)]
    pub connections: usize,
    /// The transport of the subscribers
    #[arg(long, value_enum, default_value = "ws")]
    pub transport: Transport,
    /// Number of distinct filters, each of which excludes one event in ten; 0 to 10
    #[arg(long, default_value_t = 0)]
    pub filters: u32,
    /// Number of channels over which the subscribers are spread: `bench:0`, `bench:1`, …
    #[arg(long, default_value_t = 1)]
    pub channels: usize,
    /// Events per second, over all publishers and channels (only `paced`)
    #[arg(long, short, default_value_t = 100.0)]
    pub rate: f64,
    /// Size of an event's data in bytes: 64 to 1048576
    #[arg(long, short, default_value_t = 200)]
    pub size: usize,
    /// Seconds of measurement, after the warm-up
    #[arg(long, short, default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds of the same traffic before the measurement
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds without traffic before the server's memory is read
    #[arg(long, default_value_t = 0.0)]
    pub quiet: f64,
    /// Number of publishing connections
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// How events are published
    #[arg(long, value_enum, default_value = "unary")]
    pub publish: PublishBy,
    /// Unanswered events of one publisher: concurrent calls or requests, events in a batch, or
    /// pending responses of a stream or WebSocket [default: 8 paced, 64 in a burst]
    #[arg(long)]
    pub window: Option<usize>,
    /// Events that subscribers may lag behind, on average, before a burst waits for them
    #[arg(long, default_value_t = 1000)]
    pub max_lag: u64,
    /// Connections that may be connecting at once
    #[arg(long, default_value_t = 100)]
    pub connecting: usize,
    /// Seconds after which a connection that is not subscribed counts as failed
    #[arg(long, default_value_t = 60.0)]
    pub setup_timeout: f64,
    /// Number of subscriber threads [default: half of the processors]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Number of loopback addresses of the subscribers [default: one for each 500]
    #[arg(long)]
    pub sources: Option<u8>,
    /// Process id of the server: also measures its processor time and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// The token for both sides: the caller's flag `--token`.
    #[arg(skip)]
    pub token: Option<Secret>,
    /// Secret to sign a token for each connection, each with a user of its own [env:
    /// `TIDINGS_AUTH__HS256_SECRET`]
    #[arg(long, value_parser = secret)]
    pub hs256_secret: Option<Secret>,
    /// The role in these tokens
    #[arg(long, default_value = "service")]
    pub role: String,
}

#[expect(clippy::unnecessary_wraps, reason = "the form that clap asks for")]
fn secret(value: &str) -> std::result::Result<Secret, std::convert::Infallible> {
    Ok(Secret::from(value))
}

/// Runs the load and writes the report to `out`, as JSON if `json`. True if nothing failed and
/// every event arrived once and in order.
///
/// # Errors
/// If an argument is out of range, the server can't be reached, or `out` fails.
pub async fn run(args: Args, json: bool, out: &mut (dyn Write + Send)) -> Result<bool> {
    args.check()?;
    raise_file_limit();
    let report = scenario::run(&args).await?;
    report
        .write(json, out)
        .map_err(|error| Error::new(format!("the report can't be written: {error}")))?;
    Ok(report.flawless())
}

impl Args {
    fn check(&self) -> Result<()> {
        let within = |value: f64, from: f64, to: f64| (from..=to).contains(&value);
        let rules = [
            (
                "connections",
                self.connections <= MAX_CONNECTIONS,
                "at most 200000",
            ),
            (
                "channels",
                (1..=MAX_CONNECTIONS).contains(&self.channels),
                "1 to 200000",
            ),
            (
                "publishers",
                (1..=MAX_PUBLISHERS).contains(&self.publishers),
                "1 to 256",
            ),
            (
                "window",
                (1..=MAX_WINDOW).contains(&self.window()),
                "1 to 1000",
            ),
            ("filters", self.filters <= payload::PARTS, "0 to 10"),
            ("connecting", self.connecting >= 1, "at least 1"),
            (
                "quiet",
                within(self.quiet, 0.0, MAX_SECONDS),
                "0 to 3600 seconds",
            ),
            (
                "rate",
                within(self.rate, 0.01, 1e7),
                "0.01 to 10000000 a second",
            ),
            (
                "duration",
                within(self.duration, 0.1, MAX_SECONDS),
                "0.1 to 3600 seconds",
            ),
            (
                "warmup",
                within(self.warmup, 0.0, MAX_SECONDS),
                "0 to 3600 seconds",
            ),
            (
                "setup-timeout",
                within(self.setup_timeout, 0.1, MAX_SECONDS),
                "0.1 to 3600 seconds",
            ),
            (
                "threads",
                self.threads.is_none_or(|n| (1..=256).contains(&n)),
                "1 to 256",
            ),
            (
                "sources",
                self.sources.is_none_or(|n| (1..=254).contains(&n)),
                "1 to 254",
            ),
        ];
        for (field, holds, expected) in rules {
            if !holds {
                return Err(Error::field(field, expected));
            }
        }
        payload::Template::new(self.size).map(|_| ())
    }

    /// The most unanswered events of one publisher.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window
            .unwrap_or(if self.mode == Mode::Burst { 64 } else { 8 })
    }

    /// The number of publisher tasks on each publisher's connection: concurrent calls have no
    /// order, so each of them is a task of its own.
    fn tasks_each(&self) -> usize {
        match self.publish {
            PublishBy::Unary | PublishBy::Http => self.window(),
            PublishBy::Batch | PublishBy::Stream | PublishBy::Websocket | PublishBy::Floor => 1,
        }
    }

    fn tasks(&self) -> usize {
        self.publishers * self.tasks_each()
    }

    fn threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads
            .unwrap_or(processors / 2)
            .clamp(1, self.connections.max(1))
    }

    fn tokens(&self) -> Tokens {
        let environment = |name| std::env::var(name).ok().map(Secret::from);
        if let Some(token) = &self.token {
            return Tokens::Shared(token.clone());
        }
        let key = self
            .hs256_secret
            .clone()
            .or_else(|| environment("TIDINGS_AUTH__HS256_SECRET"));
        if let Some(key) = key {
            return Tokens::Minted(Minter::new(&key, self.role.clone()));
        }
        environment("TIDINGS_TOKEN").map_or(Tokens::None, Tokens::Shared)
    }

    fn swarm(&self, tokens: &Tokens) -> Result<swarm::Plan> {
        let (host, path) = split_url(&self.url)?;
        let sources = self
            .connections
            .div_ceil(CONNECTIONS_PER_SOURCE)
            .clamp(1, 254);
        Ok(swarm::Plan {
            address: resolve(host)?,
            host: host.to_owned(),
            path: path.to_owned(),
            connections: self.connections,
            channels: self.channels,
            filters: self.filters,
            connecting: self.connecting,
            sources: self.sources.unwrap_or(u8::try_from(sources).unwrap_or(254)),
            tasks: self.tasks(),
            tokens: tokens.clone(),
        })
    }

    fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }
}

fn split_url(url: &str) -> Result<(&str, &str)> {
    let wrong = || Error::field("url", "ws://host:port/path");
    let rest = url.strip_prefix("ws://").ok_or_else(wrong)?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(slash).ok_or_else(wrong)?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !plain(host) || !plain(path) {
        return Err(wrong());
    }
    Ok((host, if path.is_empty() { "/" } else { path }))
}

fn resolve(host: &str) -> Result<SocketAddr> {
    let mut addresses = host
        .to_socket_addrs()
        .map_err(|_| Error::field("url", "a known host:port"))?;
    addresses
        .next()
        .ok_or_else(|| Error::field("url", "a known host:port"))
}

/// Raises the limit of open files to the hard limit. Sockets beyond it fail later with a specific
/// error.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Cli::try_parse_from([&["bench"], words].concat())
            .unwrap()
            .args
    }

    #[test]
    fn invalid_argument_is_named() {
        for (words, field) in [
            (["--connections", "200001"], "connections"),
            (["--channels", "0"], "channels"),
            (["--rate", "0"], "rate"),
            (["--rate", "NaN"], "rate"),
            (["--size", "10"], "size"),
            (["--filters", "11"], "filters"),
            (["--quiet", "1e9"], "quiet"),
            (["--window", "1001"], "window"),
            (["--duration", "1e9"], "duration"),
        ] {
            assert_eq!(args(&words).check().unwrap_err().field_name(), Some(field));
        }
        args(&[]).check().unwrap();
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut args = args(&["--hs256-secret", "ijklmnop"]);
        args.token = Some(Secret::from("abcdefgh"));
        let shown = format!("{args:?}");
        assert!(
            !shown.contains("abcdefgh") && !shown.contains("ijklmnop"),
            "{shown}"
        );
    }

    #[test]
    fn url_has_host_and_path() {
        assert_eq!(split_url("ws://h:1/ws?a=b").unwrap(), ("h:1", "/ws?a=b"));
        assert_eq!(split_url("ws://h:1").unwrap(), ("h:1", "/"));
        for wrong in ["http://h:1/", "ws:///ws", "ws://h:1/a b", "ws://h:1/\r\n"] {
            assert_eq!(
                split_url(wrong).unwrap_err().field_name(),
                Some("url"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn concurrent_calls_are_separate_tasks() {
        assert_eq!(args(&["--publishers", "2", "--window", "5"]).tasks(), 10);
        let two = |by| args(&["--publishers", "2", "--window", "5", "--publish", by]).tasks();
        assert_eq!(two("http"), 10);
        for ordered in ["batch", "stream", "websocket", "floor"] {
            assert_eq!(two(ordered), 2, "{ordered}");
        }
    }
}
