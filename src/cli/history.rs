//! `tidings history`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, printable};
use crate::proto::{GetHistoryRequest, Position};

/// The most events of one page.
const PAGE: u32 = 500;

/// Which part of a channel's history.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The channel
    channel: String,
    /// Only events after this position, or before it with --reverse: EPOCH/OFFSET
    #[arg(long, value_name = "POSITION")]
    since: Option<crate::event::Position>,
    /// The newest first
    #[arg(long)]
    reverse: bool,
    /// The most events [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Prints the events of a channel's history, page by page.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let mut left = args.limit.unwrap_or(u32::MAX);
    let mut request = GetHistoryRequest {
        channel: args.channel,
        since: args.since.map(|since| Position {
            epoch: since.epoch.to_string(),
            offset: since.offset,
        }),
        page_size: PAGE,
        page_token: String::new(),
        reverse: args.reverse,
    };
    while left > 0 {
        request.page_size = left.min(PAGE);
        let asked = client.request(request.clone()).await?;
        let page = client.events().get_history(asked).await?.into_inner();
        for event in &page.events {
            if output.is_json() {
                output.object(&json::event(event))?;
                continue;
            }
            let data = json::payload(event);
            let data = data.as_deref().map_or("(not JSON)", |data| data.get());
            let offset = event
                .position
                .as_ref()
                .map_or(0, |position| position.offset);
            let time = json::time(event.time.as_ref()).unwrap_or_default();
            output.line(&printable(&format!(
                "{offset} {time} {} {data}",
                event.r#type
            )))?;
        }
        left = left.saturating_sub(u32::try_from(page.events.len()).unwrap_or(u32::MAX));
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
    Ok(())
}
