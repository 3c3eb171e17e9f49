//! `tidings tail`.

use tidings_client::{Gap, Joined, Position, Step, Subscribe};

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, note, printable};
use crate::event;
use crate::proto::Event;

/// The arguments of `tidings tail`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The channels: exact names, `project:*` for a whole namespace, or `*` for all
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Resume after this position; only with one channel
    #[arg(long, value_name = "EPOCH/OFFSET", value_parser = position, conflicts_with = "rewind")]
    since: Option<Position>,
    /// Print the newest N events of each channel first
    #[arg(long, value_name = "N")]
    rewind: Option<u32>,
    /// Only events for which this CEL expression is true, such as 'event.data.urgent'
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Only events of this type; a trailing `*` matches any ending
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Exit after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn position(text: &str) -> Result<Position, String> {
    let checked: event::Position = text
        .parse()
        .map_err(|error: crate::error::Error| error.message())?;
    let (epoch, _) = text.split_once('/').unwrap_or_default();
    Ok(Position {
        epoch: epoch.to_owned(),
        offset: checked.offset,
    })
}

impl Args {
    fn into_request(self) -> Result<Subscribe, Failure> {
        if self.since.is_some() && self.channels.len() > 1 {
            let message = "--since takes a position of one channel: name only that one";
            return Err(Failure::Usage(String::from(message)));
        }
        let first = self.channels.first().cloned().unwrap_or_default();
        let mut request = Subscribe::to(self.channels)
            .rewind(self.rewind.unwrap_or(0))
            .filter(self.filter.unwrap_or_default())
            .on_interruption(|error| note(&format!("interrupted, trying again: {error}")));
        if let Some(since) = self.since {
            request = request.since(first, since);
        }
        for event_type in self.types {
            request = request.event_type(event_type);
        }
        Ok(request)
    }
}

/// Prints events as they arrive, over any number of connections, until the count is reached or the
/// server refuses.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let mut left = args.count;
    let request = args.into_request()?;
    let mut following = target.connect().await?.subscribe(request);
    while let Some(step) = following.next().await {
        match step? {
            Step::Subscribed(joined) => begin(&joined),
            Step::Event(event) => {
                print(event.as_message(), output)?;
                left = left.map(|left| left.saturating_sub(1));
                if left == Some(0) {
                    break;
                }
            }
            Step::Gap(gap) => tell(&gap, output)?,
        }
    }
    Ok(())
}

/// Prints how a subscription began.
fn begin(joined: &Joined) {
    let from = match &joined.position {
        Some(position) => position.to_string(),
        None => String::from("-"),
    };
    note(&format!("following {} from {from}", joined.channel));
    if joined.recovered == Some(false) {
        note(&format!(
            "{}: events since that position can't all be had: reload what they led to",
            joined.channel
        ));
    }
}

fn print(event: &Event, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&json::event(event));
    }
    output.line(&line(event))
}

/// `time channel/offset type data`.
fn line(event: &Event) -> String {
    let time = json::time(event.time.as_ref()).unwrap_or_default();
    let channel = if event.channel.is_empty() {
        "-"
    } else {
        &event.channel
    };
    let place = match &event.position {
        Some(position) => format!("{channel}/{}", position.offset),
        None => channel.to_owned(),
    };
    let data = match json::payload(event) {
        Some(data) => data.get().to_owned(),
        None => format!("({} bytes of {})", event.data.len(), event.content_type),
    };
    printable(&format!("{time} {place} {} {data}", event.r#type))
}

fn tell(gap: &Gap, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&serde_json::json!({
            "type": "gap",
            "channel": gap.channel,
            "from": gap.first,
            "to": gap.last,
            "reason": gap.reason,
        }));
    }
    let text = format!(
        "-- gap in {}: {} to {} ({})",
        gap.channel, gap.first, gap.last, gap.reason
    );
    output.line(&printable(&text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn request(line: &str) -> Result<Subscribe, Failure> {
        Line::parse_from(line.split_whitespace())
            .args
            .into_request()
    }

    #[test]
    fn since_requires_one_channel() {
        assert!(request("tail a --since 00000000000000ff/7").is_ok());
        assert!(matches!(
            request("tail a b --since 00000000000000ff/7"),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn line_has_time_position_type_and_data() {
        let event = Event {
            r#type: String::from("a.b"),
            channel: String::from("c:1"),
            data: bytes::Bytes::from_static(b"{\"x\":\n1}"),
            position: Some(crate::proto::Position {
                epoch: String::from("e"),
                offset: 9,
            }),
            ..Event::default()
        };
        assert_eq!(line(&event), " c:1/9 a.b {\"x\": 1}");
    }
}
