//! The command line.
//!
//! Results go to stdout, everything else to stderr. The exit code is 0 for success, 1 for a failure
//! and 2 for invalid arguments.

mod backup;
mod catalog;
mod channels;
mod check;
mod client;
mod connections;
mod disconnect;
mod explain;
mod failure;
mod history;
mod json;
mod output;
mod presence;
mod publish;
mod refusals;
mod restore;
pub mod serve;
mod stats;
mod tail;
mod token;

use std::num::NonZero;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use self::client::Target;
use self::failure::Failure;
use self::output::Output;

/// A real-time event server: gRPC in, WebSocket out, nothing lost silently.
#[derive(Debug, Parser)]
#[command(
    name = "tidings",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Print results as JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Args),
    #[command(flatten)]
    Other(Errand),
}

/// Commands other than `serve`; most of them call a server.
#[derive(Debug, Subcommand)]
enum Errand {
    /// Publish an event
    Publish(publish::Args),
    /// Subscribe to channels and print their events
    Tail(tail::Args),
    /// Show the server's counters
    Stats(stats::Args),
    /// List connections
    Connections(connections::Args),
    /// Close a connection, or all connections of a user
    Disconnect(disconnect::Args),
    /// List channels
    Channels(channels::Args),
    /// Print the events of a channel's history
    History(history::Args),
    /// Show who is in a channel
    Presence(presence::Args),
    /// Ask the rules whether somebody may do something, and why
    Explain(explain::Args),
    /// Show the newest refusals, and closes with a reason
    Refusals(refusals::Args),
    /// Issue a token, signed with the configured `auth.hs256_secret`
    Token(token::Args),
    /// Write a backup of a running server's store to a file
    Backup(backup::Args),
    /// Create a store from a backup, for a server that is started afterwards
    Restore(restore::Args),
    /// Check a configuration file, or a preset
    Check(check::Args),
    /// Print the default configuration with comments, or a preset
    Config(check::PrintArgs),
    /// Show the declared event types
    Catalog(catalog::Args),
    /// Load-test a server
    Bench(Box<tidings_loadgen::Args>),
}

/// Runs the program with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misuse(&error),
    };
    let outcome = match cli.command {
        // `serve` chooses the number of runtime threads itself.
        Command::Serve(args) => serve::run(args),
        Command::Other(errand) => runtime(0).and_then(|runtime| {
            runtime.block_on(run(errand, &cli.target, Output::stdout(cli.json)))
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help is a result; other messages of clap are usage errors (2).
fn misuse(error: &clap::Error) -> ExitCode {
    // If even this can't be written, the message is lost.
    drop(error.print());
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The runtime, with this many threads; 0: half as many as there are processors. More threads would
/// only contend with each other: a server's shards have as many threads as there are processors,
/// and clients such as the load generator leave the server half of the machine.
fn runtime(threads: usize) -> Result<Runtime, Failure> {
    let processors = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match threads {
        0 => (processors() / 2).max(1),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        // The IO driver is polled after this many tasks. With tokio's default of 61, an HTTP
        // publisher would wait behind as many new connections of a flood.
        .event_interval(16)
        .on_thread_park(tidings_malloc::pausing)
        .build()?;
    Ok(runtime)
}

async fn run(errand: Errand, target: &Target, mut output: Output) -> Result<(), Failure> {
    match errand {
        Errand::Publish(args) => publish::run(args, target, &mut output).await,
        Errand::Tail(args) => tail::run(args, target, &mut output).await,
        Errand::Stats(args) => stats::run(&args, target, &mut output).await,
        Errand::Connections(args) => connections::run(args, target, &mut output).await,
        Errand::Disconnect(args) => disconnect::run(args, target, &mut output).await,
        Errand::Channels(args) => channels::run(args, target, &mut output).await,
        Errand::History(args) => history::run(args, target, &mut output).await,
        Errand::Presence(args) => presence::run(args, target, &mut output).await,
        Errand::Explain(args) => explain::run(args, target, &mut output).await,
        Errand::Refusals(args) => refusals::run(&args, target, &mut output).await,
        Errand::Token(args) => token::run(args, &mut output),
        Errand::Backup(args) => backup::run(&args, target, &mut output).await,
        Errand::Restore(args) => restore::run(&args, &mut output),
        Errand::Check(args) => check::run(&args, &mut output),
        Errand::Config(args) => check::print(&args, &mut output),
        Errand::Catalog(args) => catalog::run(args, target, &mut output).await,
        Errand::Bench(mut args) => {
            args.token = target.token().map(tidings_loadgen::token::Secret::from);
            if tidings_loadgen::run(*args, output.is_json(), &mut std::io::stdout()).await? {
                Ok(())
            } else {
                Err(Failure::new("not every event arrived once and in order"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn exit_code(line: &str) -> i32 {
        Cli::try_parse_from(line.split_whitespace()).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_shadows_a_global_flag() {
        let command = Cli::command();
        let common: Vec<_> = command.get_arguments().map(clap::Arg::get_id).collect();
        for one in command.get_subcommands() {
            for own in one.get_arguments() {
                assert!(!common.contains(&own.get_id()), "{} {own}", one.get_name());
            }
        }
    }

    #[test]
    fn every_command_is_parsed() {
        for line in [
            "tidings serve",
            "tidings serve --config a.toml --dev --ready-file r.json --drain 5s --public 127.0.0.1:0 --internal [::1]:0",
            "tidings publish global greeting {}",
            "tidings publish global greeting -1.5",
            "tidings publish global greeting -",
            "tidings publish global greeting - --header a=b --header c=d=e --key k --idempotency-key i --user u --role r",
            "tidings tail global project:* --rewind 5 --filter true --type a.* --json",
            "tidings tail project:42 --since 00000000000000ff/7",
            "tidings stats --watch --interval 500ms",
            "tidings connections --user u --role r --channel c --transport sse --client-type t",
            "tidings connections --address 192.0.2.0/24 --order-by outbox --desc",
            "tidings channels --prefix project: --order-by rate --desc",
            "tidings history project:42 --since 00000000000000ff/7 --reverse --limit 5",
            "tidings presence project:42",
            "tidings explain publish project:42 --user ann --role editor --type a.b",
            "tidings explain subscribe project:42 --claims {}",
            "tidings refusals",
            "tidings refusals --recent 5 --watch",
            "tidings disconnect 00 --reason bye",
            "tidings disconnect --user u",
            "tidings token --sub u --role a --role b --ttl 1h --channel project:*",
            "tidings backup store.backup",
            "tidings restore store.backup --to data",
            "tidings check a.toml",
            "tidings check --preset spc",
            "tidings check a.toml --preset spc --dev",
            "tidings serve --preset football",
            "tidings config",
            "tidings config --preset photo",
            "tidings catalog",
            "tidings catalog schema a",
            "tidings catalog example a",
            "tidings catalog validate a {}",
            "tidings catalog typescript",
            "tidings catalog typescript --preset spc",
            "tidings catalog asyncapi --config a.toml",
            "tidings --server http://h:1 --token t stats",
            "tidings bench --token t --connections 1",
            "tidings --token t bench",
        ] {
            assert_eq!(exit_code(line), 0, "{line}");
        }
    }

    #[test]
    fn invalid_arguments_are_usage_errors() {
        for line in [
            "tidings",
            "tidings fly",
            "tidings tail",
            "tidings tail a --since 7",
            "tidings tail a --since e/1 --rewind 2",
            "tidings publish global",
            "tidings publish global a {} --header novalue",
            "tidings backup",
            "tidings restore store.backup",
            "tidings check",
            "tidings check --preset chess",
            "tidings serve --preset chess",
            "tidings config --preset chess",
            "tidings channels --desc",
            "tidings history",
            "tidings presence",
            "tidings explain delete a",
            "tidings explain publish a --user u --claims {}",
            "tidings refusals --recent 1001",
            "tidings disconnect",
            "tidings disconnect a --user u",
            "tidings token",
            "tidings token --sub u --ttl soon",
            "tidings token --sub u --ttl 0s",
            "tidings token --sub u --channel a*b",
            "tidings serve --public localhost:80",
            "tidings serve --drain fast",
            "tidings stats --interval 1s",
            "tidings stats --watch --interval 1ms",
        ] {
            assert_eq!(exit_code(line), 2, "{line}");
        }
    }
}
