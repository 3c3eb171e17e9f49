//! `tidings tail`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, note, printable};
use super::publish::place;
use crate::event;
use crate::proto::subscribe_response::Message;
use crate::proto::{Event, Gap, Position, SubscribeRequest, Subscribed, Subscription};

/// What to follow.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The channels: exact names, `project:*` for a whole namespace, or `*` for all
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Resume after this position of the one channel
    #[arg(long, value_name = "EPOCH/OFFSET", value_parser = position, conflicts_with = "rewind")]
    since: Option<Position>,
    /// Print the newest N events of each channel first
    #[arg(long, value_name = "N")]
    rewind: Option<u32>,
    /// Only events for which this CEL expression is true, such as 'event.data.urgent'
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Only events of this type; a trailing `*` stands for any ending
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// End after this many events
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
    fn into_request(self) -> Result<SubscribeRequest, Failure> {
        if self.since.is_some() && self.channels.len() > 1 {
            let message = "--since takes a position of one channel: name only that one";
            return Err(Failure::Usage(String::from(message)));
        }
        let (since, rewind) = (self.since, self.rewind.unwrap_or(0));
        let subscriptions = self
            .channels
            .into_iter()
            .map(|channel| Subscription {
                channel,
                since: since.clone(),
                rewind,
            })
            .collect();
        Ok(SubscribeRequest {
            subscriptions,
            event_types: self.types,
            filter: self.filter.unwrap_or_default(),
        })
    }
}

/// Prints events as they come, until the server ends the stream or enough have come.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let mut left = args.count;
    let resumes = args.since.is_some();
    let request = args.into_request()?;
    let client = target.connect().await?;
    let mut stream = client
        .events()
        .subscribe(client.stream(request))
        .await?
        .into_inner();
    while let Some(response) = stream.message().await? {
        match response.message {
            Some(Message::Subscribed(subscribed)) => begin(&subscribed, resumes)?,
            Some(Message::Event(event)) => {
                print(&event, output)?;
                left = left.map(|left| left.saturating_sub(1));
                if left == Some(0) {
                    return Ok(());
                }
            }
            Some(Message::Gap(gap)) => tell(&gap, output)?,
            None => {}
        }
    }
    Err(Failure::new("unavailable: the server ended the stream"))
}

/// Says how each subscription began; a failure where none stands.
fn begin(subscribed: &Subscribed, resumes: bool) -> Result<(), Failure> {
    for channel in &subscribed.channels {
        let from = place(channel.position.as_ref());
        note(&format!("following {} from {from}", channel.channel));
        if resumes && !channel.recovered {
            note(&format!(
                "{}: events since that position can't all be had: reload what they led to",
                channel.channel
            ));
        }
    }
    for refused in &subscribed.errors {
        note(&format!(
            "{}: {}: {}",
            refused.channel, refused.code, refused.message
        ));
    }
    if subscribed.channels.is_empty() {
        return Err(Failure::new("no channel can be followed"));
    }
    Ok(())
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
            "from": gap.from,
            "to": gap.to,
            "reason": gap.reason,
        }));
    }
    let text = format!(
        "-- gap in {}: {} to {} ({})",
        gap.channel, gap.from, gap.to, gap.reason
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

    fn request(line: &str) -> Result<SubscribeRequest, Failure> {
        Line::parse_from(line.split_whitespace())
            .args
            .into_request()
    }

    #[test]
    fn everything_said_is_asked_for() {
        let request =
            request("tail a b:* --rewind 3 --type x --type y.* --filter true").expect("good");
        let channels: Vec<(&str, u32)> = request
            .subscriptions
            .iter()
            .map(|s| (s.channel.as_str(), s.rewind))
            .collect();
        assert_eq!(channels, [("a", 3), ("b:*", 3)]);
        assert_eq!(request.event_types, ["x", "y.*"]);
        assert_eq!(request.filter, "true");
    }

    #[test]
    fn a_position_belongs_to_one_channel() {
        let one = request("tail a --since 00000000000000ff/7").expect("good");
        let since = one.subscriptions.into_iter().next().and_then(|s| s.since);
        assert_eq!(
            since,
            Some(Position {
                epoch: String::from("00000000000000ff"),
                offset: 7
            })
        );
        assert!(matches!(
            request("tail a b --since ff/7"),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn a_line_says_when_where_what() {
        let event = Event {
            r#type: String::from("a.b"),
            channel: String::from("c:1"),
            data: bytes::Bytes::from_static(b"{\"x\":\n1}"),
            position: Some(Position {
                epoch: String::from("e"),
                offset: 9,
            }),
            ..Event::default()
        };
        assert_eq!(line(&event), " c:1/9 a.b {\"x\": 1}");
    }

    #[test]
    fn where_nothing_can_be_followed_the_command_fails() {
        assert!(begin(&Subscribed::default(), false).is_err());
    }
}
