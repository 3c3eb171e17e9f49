//! `tidings publish`.

use std::io::Read;

use bytes::Bytes;

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use crate::proto::{Audience, Position, PublishRequest};

/// The largest payload read from stdin, in bytes: the most that a server can be configured to
/// accept.
const LARGEST: u64 = 1 << 30;

/// The event to publish.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The channel, such as `project:42`; empty with --user or --role to send directly to them
    channel: String,
    /// The event type, such as `project.updated`
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The payload, as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    data: String,
    /// A header of the event
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Conflation key: a newer event may replace an older one with the same key
    #[arg(long)]
    key: Option<String>,
    /// Idempotency key: a repeat within five minutes returns the id and position of the first
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Only for this user
    #[arg(long = "user", value_name = "USER")]
    users: Vec<String>,
    /// Only for connections with this role
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Args {
    fn into_request(self) -> Result<PublishRequest, Failure> {
        let data = if self.data == "-" {
            read_stdin()?
        } else {
            Bytes::from(self.data)
        };
        let everyone = self.users.is_empty() && self.roles.is_empty();
        let audience = Audience {
            users: self.users,
            roles: self.roles,
            ..Audience::default()
        };
        Ok(PublishRequest {
            channels: Some(self.channel)
                .filter(|channel| !channel.is_empty())
                .into_iter()
                .collect(),
            r#type: self.event_type,
            data,
            headers: self.headers.into_iter().collect(),
            key: self.key.unwrap_or_default(),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            audience: (!everyone).then_some(audience),
            ..PublishRequest::default()
        })
    }
}

fn read_stdin() -> Result<Bytes, Failure> {
    let mut data = Vec::new();
    std::io::stdin()
        .lock()
        .take(LARGEST)
        .read_to_end(&mut data)?;
    Ok(Bytes::from(data))
}

/// Publishes one event and prints its id and position.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let request = args.into_request()?;
    let client = target.connect().await?;
    let response = client
        .events()
        .publish(client.request(request).await?)
        .await?
        .into_inner();
    if output.is_json() {
        return output.object(&json::published(&response));
    }
    let rows: Vec<Vec<String>> = response
        .results
        .iter()
        .map(|result| {
            vec![
                response.id.clone(),
                result.channel.clone(),
                place(result.position.as_ref()),
                result.subscribers.to_string(),
                String::from(if result.duplicate { "yes" } else { "no" }),
            ]
        })
        .collect();
    output.table(
        &["ID", "CHANNEL", "POSITION", "SUBSCRIBERS", "DUPLICATE"],
        &rows,
    )
}

/// A position in the form of `--since`; `-` if there is none.
pub(super) fn place(position: Option<&Position>) -> String {
    position.map_or_else(
        || String::from("-"),
        |p| format!("{}/{}", p.epoch, p.offset),
    )
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

    fn request(line: &[&str]) -> PublishRequest {
        let line = Line::parse_from(["publish"].iter().chain(line));
        line.args.into_request().expect("a request")
    }

    #[test]
    fn every_argument_is_in_the_request() {
        let request = request(&[
            "project:42",
            "a.b",
            "{\"x\": 1}",
            "--header",
            "k=v=w",
            "--key",
            "key",
            "--idempotency-key",
            "once",
            "--user",
            "u",
            "--role",
            "r",
        ]);
        assert_eq!(request.channels, ["project:42"]);
        assert_eq!(request.data, "{\"x\": 1}");
        assert_eq!(request.headers.get("k").map(String::as_str), Some("v=w"));
        assert_eq!(
            (request.key.as_str(), request.idempotency_key.as_str()),
            ("key", "once")
        );
        let audience = request.audience.expect("an audience");
        assert_eq!(
            (audience.users, audience.roles),
            (vec![String::from("u")], vec![String::from("r")])
        );
    }

    #[test]
    fn no_user_or_role_means_everyone() {
        assert_eq!(request(&["global", "a", "{}"]).audience, None);
    }

    #[test]
    fn empty_channel_publishes_directly_to_audience() {
        assert!(request(&["", "a", "{}", "--user", "u"]).channels.is_empty());
    }
}
