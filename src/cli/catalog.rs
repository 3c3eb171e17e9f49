//! `tidings catalog`.

mod described;

use std::io::Read;

use bytes::Bytes;
use clap::Subcommand;
use tidings_client::Client;

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use crate::proto::{
    EventType, GetEventTypeRequest, ListEventTypesRequest, ListEventTypesResponse,
    ValidateEventRequest,
};

/// Event types requested at a time.
const PAGE: u32 = 500;
/// The largest payload read from stdin, in bytes.
const LARGEST: u64 = 1 << 30;

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the JSON Schema of a type
    Schema {
        /// The event type
        #[arg(value_name = "TYPE")]
        name: String,
    },
    /// Print a valid payload of a type
    Example {
        /// The event type
        #[arg(value_name = "TYPE")]
        name: String,
    },
    /// Check whether a payload would be accepted
    Validate {
        /// The event type
        #[arg(value_name = "TYPE")]
        name: String,
        /// The payload, as JSON; `-` reads it from stdin
        #[arg(value_name = "JSON", allow_negative_numbers = true)]
        data: String,
    },
    /// Print a TypeScript module with the type of each event's data
    Typescript(described::Source),
    /// Print the AsyncAPI 3.0 description of the events, the content of `/asyncapi.json`
    Asyncapi(described::Source),
}

/// Lists the event types, or shows one.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    match args.command {
        Some(Command::Asyncapi(source)) => described::asyncapi(&source, output),
        Some(Command::Typescript(source)) => described::typescript(&source, target, output).await,
        None => list(&target.connect().await?, output).await,
        Some(Command::Schema { name }) => {
            let event_type = get(&target.connect().await?, &name).await?;
            show(&event_type.schema, &name, "schema", output)
        }
        Some(Command::Example { name }) => {
            let event_type = get(&target.connect().await?, &name).await?;
            show(&event_type.example, &name, "example", output)
        }
        Some(Command::Validate { name, data }) => {
            validate(&target.connect().await?, name, data, output).await
        }
    }
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let mut token = String::new();
    let mut first = true;
    loop {
        let page = page(client, token).await?;
        if output.is_json() {
            page.event_types
                .iter()
                .try_for_each(|t| output.object(&json::event_type(t)))?;
        } else {
            let rows: Vec<Vec<String>> = page.event_types.iter().map(row).collect();
            let headings: &[&str] = if first {
                &["TYPE", "NAMESPACE", "DESCRIPTION"]
            } else {
                &[]
            };
            output.table(headings, &rows)?;
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        token = page.next_page_token;
        first = false;
    }
}

async fn page(client: &Client, token: String) -> Result<ListEventTypesResponse, Failure> {
    let request = client
        .request(ListEventTypesRequest {
            page_size: PAGE,
            page_token: token,
        })
        .await?;
    let answer = client.catalog().list_event_types(request).await?;
    Ok(answer.into_inner())
}

fn row(event_type: &EventType) -> Vec<String> {
    vec![
        event_type.name.clone(),
        event_type.namespace.clone(),
        event_type.description.clone(),
    ]
}

async fn get(client: &Client, name: &str) -> Result<EventType, Failure> {
    let request = client
        .request(GetEventTypeRequest {
            name: name.to_owned(),
        })
        .await?;
    let answer = client.catalog().get_event_type(request).await?.into_inner();
    answer
        .event_type
        .ok_or_else(|| Failure::new(format!("not_found: no event type {name}")))
}

/// Prints JSON text: unchanged for machines, on several lines for people.
fn show(text: &str, name: &str, what: &str, output: &mut Output) -> Result<(), Failure> {
    if text.is_empty() {
        return Err(Failure::new(format!("not_found: {name} has no {what}")));
    }
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|_| Failure::new(format!("internal: the {what} of {name} is not JSON")))?;
    if output.is_json() {
        output.object(&value)
    } else {
        output.line(&format!("{value:#}"))
    }
}

async fn validate(
    client: &Client,
    name: String,
    data: String,
    output: &mut Output,
) -> Result<(), Failure> {
    let data = if data == "-" {
        let mut data = Vec::new();
        std::io::stdin()
            .lock()
            .take(LARGEST)
            .read_to_end(&mut data)?;
        Bytes::from(data)
    } else {
        Bytes::from(data)
    };
    let request = client
        .request(ValidateEventRequest { r#type: name, data })
        .await?;
    let judgement = client.catalog().validate_event(request).await?.into_inner();
    if output.is_json() {
        output.object(&json::judgement(&judgement))?;
    } else if judgement.valid {
        output.line("valid")?;
    } else {
        let rows: Vec<Vec<String>> = judgement
            .errors
            .iter()
            .map(|error| vec![format!("data{}", error.path), error.message.clone()])
            .collect();
        output.table(&["AT", "PROBLEM"], &rows)?;
    }
    if judgement.valid {
        Ok(())
    } else {
        Err(Failure::new("invalid_argument: the payload is not valid"))
    }
}
