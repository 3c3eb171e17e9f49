//! `tidings sources` and `tidings source sql`.

use std::time::Duration;

use serde_json::json;

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, printable};
use crate::proto::{ListSourcesRequest, SourceState};
use crate::sources::POSTGRES_MIGRATION;

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the newest dead letters instead, newest first
    #[arg(long)]
    dead_letters: bool,
}

/// What to do for a source.
#[derive(Debug, clap::Args)]
pub(super) struct SourceArgs {
    #[command(subcommand)]
    command: SourceCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SourceCommand {
    /// Print the migration that a database needs before it can be a source
    Sql {
        /// The database
        #[arg(value_enum)]
        database: Database,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Database {
    /// PostgreSQL 14 or newer
    Postgres,
}

/// Prints a migration.
pub(super) fn source(args: &SourceArgs, output: &mut Output) -> Result<(), Failure> {
    let SourceCommand::Sql {
        database: Database::Postgres,
    } = args.command;
    if output.is_json() {
        return output.object(&json!({ "sql": POSTGRES_MIGRATION }));
    }
    output.line(POSTGRES_MIGRATION.trim_end())
}

/// Prints the sources of the server, with lag, rate and errors.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let asked = client.request(ListSourcesRequest {}).await?;
    let answer = client.connections().list_sources(asked).await?.into_inner();
    if output.is_json() {
        let mut sources = answer.sources.iter();
        return sources.try_for_each(|source| output.object(&json::source(source)));
    }
    if args.dead_letters {
        let letters = answer.sources.iter().flat_map(|source| {
            source.recent_dead_letters.iter().map(|letter| {
                vec![
                    json::time(letter.time.as_ref()).unwrap_or_default(),
                    source.name.clone(),
                    printable(&letter.record),
                    printable(&letter.channel),
                    printable(&letter.reason),
                ]
            })
        });
        let rows: Vec<Vec<String>> = letters.collect();
        return output.table(&["TIME", "SOURCE", "RECORD", "CHANNEL", "REASON"], &rows);
    }
    let rows: Vec<Vec<String>> = answer.sources.iter().map(row).collect();
    output.table(&HEADINGS, &rows)
}

const HEADINGS: [&str; 10] = [
    "NAME",
    "KIND",
    "STATE",
    "LAG",
    "BEHIND",
    "RATE",
    "EVENTS",
    "DUPLICATES",
    "DEAD",
    "LAST FAILURE",
];

fn row(source: &SourceState) -> Vec<String> {
    let behind = source.lag_time.and_then(|lag| Duration::try_from(lag).ok());
    let behind = behind.unwrap_or_default().as_secs_f64();
    let state = if source.connected {
        "connected"
    } else {
        "disconnected"
    };
    vec![
        source.name.clone(),
        source.kind.clone(),
        state.to_owned(),
        source
            .lag
            .map_or_else(|| "?".to_owned(), |lag| lag.to_string()),
        format!("{behind:.1}s"),
        format!("{:.1}/s", source.rate),
        source.events.to_string(),
        source.duplicates.to_string(),
        source.dead_letters.to_string(),
        printable(&source.last_failure),
    ]
}
