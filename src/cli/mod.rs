//! The command line.
//!
//! Results go to stdout, everything else to stderr. The exit code is 0 for success, 1 for a failure
//! and 2 for invalid arguments.

mod backup;
mod catalog;
mod channels;
mod check;
mod client;
mod connection_failure;
mod connections;
mod context;
mod contexts;
mod disconnect;
mod doctor;
mod explain;
mod failure;
mod healthcheck;
mod history;
mod init;
mod json;
mod nodes;
mod output;
mod presence;
mod private_file;
mod publish;
mod refusals;
mod restore;
pub mod serve;
mod shell;
mod sources;
mod stats;
mod tail;
mod token;
mod webhooks;

use std::num::NonZero;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
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
    /// Print results and errors as JSON, one object a line
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// The options of client commands, where they come before the command.
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = "Examples:
  tidings serve --dev
  tidings serve --config tidings.toml
  TIDINGS_AUTH__HS256_SECRET=… tidings serve --preset spc")]
    Serve(serve::Args),
    #[command(flatten)]
    Other(Errand),
}

/// A command that sends requests to a server.
#[derive(Debug, clap::Args)]
struct Asking<T: clap::Args> {
    #[command(flatten)]
    args: T,
    #[command(flatten)]
    target: Target,
}

/// `tidings bench`. It has its own address options, because it connects to both listeners.
#[derive(Debug, clap::Args)]
struct BenchArgs {
    #[command(flatten)]
    args: tidings_loadgen::Args,
    /// The token to show to the server, on both sides
    #[arg(long, value_name = "JWT")]
    token: Option<String>,
}

/// Commands that end by themselves. Most of them send requests to a server.
#[derive(Debug, Subcommand)]
enum Errand {
    /// Write a first configuration file with a generated secret
    #[command(after_help = "Examples:
  tidings init
  tidings init /etc/tidings/tidings.toml --data /var/lib/tidings --origin https://app.example.com")]
    Init(init::Args),
    /// Publish an event
    #[command(after_help = r#"Examples:
  tidings publish project:42 project.updated '{"status":"done"}'
  tidings publish '' job.done '{"id":7}' --user alice"#)]
    Publish(Asking<publish::Args>),
    /// Follow channels and print their events
    #[command(after_help = "Examples:
  tidings tail project:42 --rewind 10
  tidings tail 'project:*' --filter 'event.data.urgent' --json")]
    Tail(Asking<tail::Args>),
    /// Show the server's counters
    #[command(after_help = "Examples:
  tidings stats
  tidings stats --watch --interval 5s")]
    Stats(Asking<stats::Args>),
    /// List channels
    #[command(after_help = "Examples:
  tidings channels --prefix project:")]
    Channels(Asking<channels::Args>),
    /// Print the events of a channel's history
    #[command(after_help = "Examples:
  tidings history project:42 --limit 20")]
    History(Asking<history::Args>),
    /// Show who is in a channel
    #[command(after_help = "Examples:
  tidings presence project:42")]
    Presence(Asking<presence::Args>),
    /// Ask the rules whether somebody may do something, and why
    #[command(after_help = "Examples:
  tidings explain --user alice subscribe project:42")]
    Explain(Asking<explain::Args>),
    /// Show the newest refusals, and closes with a reason
    #[command(after_help = "Examples:
  tidings refusals")]
    Refusals(Asking<refusals::Args>),
    /// Show the sources of events: lag, rate and errors
    #[command(after_help = "Examples:
  tidings sources
  tidings sources --dead-letters")]
    Sources(Asking<sources::Args>),
    /// Prepare a source of events
    #[command(after_help = "Example:
  tidings source sql postgres | psql app")]
    Source(sources::SourceArgs),
    /// Show how the webhooks are doing, or send their dead letters again
    #[command(after_help = "Examples:
  tidings webhooks
  tidings webhooks --resend --url https://app.example.com/tidings")]
    Webhooks(Asking<webhooks::Args>),
    /// List connections
    #[command(after_help = "Examples:
  tidings connections --user alice
  tidings connections --channel project:42 --json")]
    Connections(Asking<connections::Args>),
    /// List the nodes of the cluster
    #[command(after_help = "Examples:
  tidings nodes")]
    Nodes(Asking<nodes::Args>),
    /// End a connection, or all of a user's
    #[command(after_help = "Examples:
  tidings disconnect 0198c0de-0000-7000-8000-000000000000
  tidings disconnect --user alice --revoke --reason 'signed out'")]
    Disconnect(Asking<disconnect::Args>),
    /// Make a token, signed with the configured `auth.hs256_secret`
    #[command(after_help = "Examples:
  tidings token --config tidings.toml --sub backend --role service --ttl 24h
  tidings token --config tidings.toml --sub alice --channel 'project:*'")]
    Token(token::Args),
    /// Remember servers and tokens, and choose the one in use
    #[command(after_help = "Examples:
  tidings context set production --server https://tidings.example.com:50051 --token -
  tidings context use production
  tidings context list")]
    Context(context::Args),
    /// Write a backup of a running server's store to a file
    #[command(after_help = "Example:
  tidings backup tidings.backup")]
    Backup(Asking<backup::Args>),
    /// Create a store from a backup, for a server that is started afterwards
    #[command(after_help = "Example:
  tidings restore tidings.backup --to /var/lib/tidings")]
    Restore(restore::Args),
    /// Check a configuration file, or a preset
    #[command(after_help = "Examples:
  tidings check tidings.toml
  tidings check --preset spc")]
    Check(check::Args),
    /// Check this machine and the configuration for production use
    #[command(after_help = "Examples:
  tidings doctor --config /etc/tidings/tidings.toml
  tidings doctor --json")]
    Doctor(doctor::Args),
    /// Check whether the server on this machine is ready, for container health checks
    #[command(after_help = "Examples:
  tidings healthcheck
  tidings healthcheck --live --url http://127.0.0.1:8000")]
    Healthcheck(healthcheck::Args),
    /// Print the whole default configuration, commented, or a preset
    #[command(after_help = "Examples:
  tidings config
  tidings config --preset spc")]
    Config(check::PrintArgs),
    /// Show the known event types
    #[command(after_help = r#"Examples:
  tidings catalog
  tidings catalog validate project.updated '{"status":"done"}'
  tidings catalog typescript --config tidings.toml"#)]
    Catalog(Asking<catalog::Args>),
    /// Put a server under load and measure it
    #[command(after_help = "Examples:
  tidings bench --connections 1000 --rate 500 --token …
  tidings bench --mode burst --publish stream --hs256-secret …")]
    Bench(Box<BenchArgs>),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  tidings completions bash > /etc/bash_completion.d/tidings
  tidings completions zsh > ~/.zfunc/_tidings")]
    Completions(shell::CompletionArgs),
    /// Print the manual page, or write one for each command
    #[command(after_help = "Example:
  tidings man --to /usr/local/share/man/man1")]
    Man(shell::ManArgs),
}

/// The command line. The options of client commands are accepted before the command as well, where
/// the help does not show them: they act only on those commands.
fn command() -> clap::Command {
    Target::OPTIONS
        .iter()
        .fold(Cli::command(), |command, name| {
            command.mut_arg(name, |option| option.global(false).hide(true))
        })
}

/// Runs the program with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return misuse(&error),
    };
    let json = cli.json;
    let outcome = match cli.command {
        // `serve` chooses the number of runtime threads itself.
        Command::Serve(args) => serve::run(args),
        Command::Other(errand) => runtime(0)
            .and_then(|runtime| runtime.block_on(run(errand, cli.target, Output::stdout(json)))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Help is a result; other messages of clap are usage errors (2).
fn misuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let text = text.trim().trim_start_matches("error: ");
        return Failure::Usage(text.to_owned()).report(true);
    }
    // If even this can't be written, there is nowhere left to report it.
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
        // The I/O driver is polled after this many tasks. With tokio's default of 61, an HTTP
        // publisher would wait behind as many connections of a connection flood.
        .event_interval(16)
        .on_thread_park(tidings_malloc::pausing)
        .build()?;
    Ok(runtime)
}

async fn run(errand: Errand, before: Target, mut output: Output) -> Result<(), Failure> {
    let output = &mut output;
    match errand {
        Errand::Init(args) => init::run(&args, output),
        Errand::Publish(asking) => asking.run(before, output, publish::run).await,
        Errand::Tail(asking) => asking.run(before, output, tail::run).await,
        Errand::Stats(asking) => asking.run(before, output, stats::run).await,
        Errand::Connections(asking) => asking.run(before, output, connections::run).await,
        Errand::Nodes(asking) => asking.run(before, output, nodes::run).await,
        Errand::Channels(asking) => asking.run(before, output, channels::run).await,
        Errand::History(asking) => asking.run(before, output, history::run).await,
        Errand::Presence(asking) => asking.run(before, output, presence::run).await,
        Errand::Explain(asking) => asking.run(before, output, explain::run).await,
        Errand::Refusals(asking) => asking.run(before, output, refusals::run).await,
        Errand::Sources(asking) => asking.run(before, output, sources::run).await,
        Errand::Source(args) => sources::source(&args, output),
        Errand::Webhooks(asking) => asking.run(before, output, webhooks::run).await,
        Errand::Disconnect(asking) => asking.run(before, output, disconnect::run).await,
        Errand::Token(args) => token::run(args, output),
        Errand::Context(args) => context::run(args, output),
        Errand::Backup(asking) => asking.run(before, output, backup::run).await,
        Errand::Restore(args) => restore::run(&args, output),
        Errand::Check(args) => check::run(&args, output),
        Errand::Doctor(args) => doctor::run(args, output).await,
        Errand::Healthcheck(args) => healthcheck::run(args, output).await,
        Errand::Config(args) => check::print(&args, output),
        Errand::Catalog(asking) => asking.run(before, output, catalog::run).await,
        Errand::Bench(bench) => {
            let BenchArgs { mut args, token } = *bench;
            let token = token.as_deref().or(before.token());
            args.token = token.map(tidings_loadgen::token::Secret::from);
            if tidings_loadgen::run(args, output.is_json(), &mut std::io::stdout()).await? {
                Ok(())
            } else {
                Err(Failure::new("not every event arrived once and in order"))
            }
        }
        Errand::Completions(args) => shell::completions(&args),
        Errand::Man(args) => shell::manual(&args),
    }
}

impl<T: clap::Args> Asking<T> {
    /// Runs the command. The failure of its connection names the server.
    async fn run<C>(self, before: Target, output: &mut Output, command: C) -> Result<(), Failure>
    where
        C: AsyncFnOnce(T, &Target, &mut Output) -> Result<(), Failure>,
    {
        let target = self.target.or(before);
        command(self.args, &target, output)
            .await
            .map_err(|failure| failure.at(&target.address()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_code(line: &str) -> i32 {
        parse(line.split_whitespace())
    }

    fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> i32 {
        command()
            .try_get_matches_from(words)
            .map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    /// The words of a shell command line, which has no quotes other than single ones.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (index, piece) in line.split('\'').enumerate() {
            let (quoted, last) = (index % 2 == 1, words.len() - 1);
            let mut parts = piece.split(|c: char| c == ' ' && !quoted);
            words[last].push_str(parts.next().unwrap_or_default());
            words.extend(parts.map(str::to_owned));
        }
        words
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        for one in command()
            .get_subcommands()
            .filter(|c| c.get_name() != "help")
        {
            let name = one.get_name();
            let help = one.get_after_help().expect(name).to_string();
            let mut examples = 0;
            for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
                let line = line.split(" > ").next().unwrap_or_default();
                let words = words(&line.replace("TIDINGS_AUTH__HS256_SECRET=… ", ""));
                assert_eq!(words[1], name, "{line}");
                assert_eq!(parse(words.iter().map(String::as_str)), 0, "{line}");
                examples += 1;
            }
            assert!(examples > 0, "{name}");
        }
    }

    #[test]
    fn options_of_clients_are_shown_only_where_they_act() {
        let mut command = command();
        assert!(!command.render_long_help().to_string().contains("--server"));
        for (name, acts) in [
            ("publish", true),
            ("catalog", true),
            ("serve", false),
            ("check", false),
        ] {
            let one = command.find_subcommand_mut(name).expect(name);
            let help = one.render_long_help().to_string();
            assert_eq!(help.contains("\nServer:\n"), acts, "{help}");
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
            "tidings webhooks",
            "tidings webhooks --resend --url http://a/b",
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
            "tidings catalog schema a --server http://h:1 --token t",
            "tidings stats --context production",
            "tidings init",
            "tidings init a.toml --data d --origin https://a --all-addresses --force",
            "tidings context",
            "tidings context set a --server http://h:1 --token - --ca ca.pem --client-cert c --client-key k",
            "tidings context use a",
            "tidings context remove a",
            "tidings doctor --config a.toml --preset spc",
            "tidings healthcheck --live --url https://h:1 --timeout 500ms",
            "tidings completions fish",
            "tidings man --to man",
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
            "tidings webhooks --url http://a/b",
            "tidings disconnect",
            "tidings disconnect a --user u",
            "tidings token",
            "tidings token --sub u --ttl soon",
            "tidings token --sub u --ttl 0s",
            "tidings token --sub u --channel a*b",
            "tidings serve --public localhost:80",
            "tidings serve --drain fast",
            "tidings stats --interval 1s",
            "tidings stats --server http://h:1 --context a",
            "tidings serve --server http://h:1",
            "tidings check a.toml --token t",
            "tidings context set a/b --server http://h:1",
            "tidings context set a --client-cert c",
            "tidings completions cmd",
            "tidings stats --watch --interval 1ms",
        ] {
            assert_eq!(exit_code(line), 2, "{line}");
        }
    }
}
