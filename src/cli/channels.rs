//! `tidings channels`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use crate::proto::{Channel, ListChannelsRequest};

/// Channels asked for at a time.
const PAGE: u32 = 500;

/// Which channels, in which order.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those whose names begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// The order: rate, subscribers or history [default: by name]
    #[arg(long, value_name = "ORDER")]
    order_by: Option<String>,
    /// The largest first
    #[arg(long, requires = "order_by")]
    desc: bool,
}

/// Prints channels, page by page, so that there may be any number of them.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let mut request = ListChannelsRequest {
        prefix: args.prefix.unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
        order_by: args.order_by.unwrap_or_default(),
        desc: args.desc,
    };
    let mut headings = &HEADINGS[..];
    loop {
        let asked = client.request(request.clone()).await?;
        let page = client
            .connections()
            .list_channels(asked)
            .await?
            .into_inner();
        if output.is_json() {
            page.channels
                .iter()
                .try_for_each(|channel| output.object(&json::channel(channel)))?;
        } else {
            let rows: Vec<Vec<String>> = page.channels.iter().map(row).collect();
            output.table(headings, &rows)?;
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
        headings = &[];
    }
}

const HEADINGS: [&str; 7] = [
    "CHANNEL",
    "SUBSCRIBERS",
    "USERS",
    "RATE",
    "HISTORY",
    "POSITION",
    "LAST EVENT",
];

fn row(channel: &Channel) -> Vec<String> {
    let position = channel.position.as_ref();
    vec![
        channel.channel.clone(),
        channel.subscribers.to_string(),
        channel
            .users
            .map_or_else(|| String::from("-"), |users| users.to_string()),
        format!("{:.1}/s", channel.rate),
        channel.history_events.to_string(),
        position.map_or_else(
            || String::from("-"),
            |at| format!("{}/{}", at.epoch, at.offset),
        ),
        json::time(channel.last_event_at.as_ref()).unwrap_or_else(|| String::from("-")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_under_every_heading() {
        assert_eq!(row(&Channel::default()).len(), HEADINGS.len());
    }
}
