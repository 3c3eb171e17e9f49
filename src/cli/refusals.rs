//! `tidings refusals`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, note, printable};
use crate::proto::{Refusal, WatchRefusalsRequest};

/// Which refusals.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many recent ones to print: at most 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    recent: u32,
    /// Go on with new ones as they happen
    #[arg(long)]
    watch: bool,
}

/// Prints the newest refusals and closes with a reason, oldest first.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let request = WatchRefusalsRequest {
        recent: args.recent,
        once: !args.watch,
    };
    let asked = client.endless(request).await?;
    let mut stream = client
        .connections()
        .watch_refusals(asked)
        .await?
        .into_inner();
    while let Some(answer) = stream.message().await? {
        if answer.missed > 0 {
            note(&format!("{} more came too fast to be sent", answer.missed));
        }
        for refusal in &answer.refusals {
            if output.is_json() {
                output.object(&json::refusal(refusal))?;
            } else {
                output.line(&printable(&line(refusal)))?;
            }
        }
    }
    if args.watch {
        return Err(Failure::new("unavailable: the server ended the stream"));
    }
    Ok(())
}

/// One line: when, what, why, and who.
fn line(refusal: &Refusal) -> String {
    let mut line = json::time(refusal.time.as_ref()).unwrap_or_default();
    let code = match (refusal.code.as_str(), refusal.close_code) {
        ("", 0) => String::new(),
        ("", close) => close.to_string(),
        (code, _) => code.to_owned(),
    };
    for part in [&refusal.kind, &code, &refusal.reason] {
        if !part.is_empty() {
            line.extend([" ", part]);
        }
    }
    for (name, value) in [
        ("user", &refusal.user),
        ("address", &refusal.address),
        ("channel", &refusal.channel),
        ("type", &refusal.event_type),
        ("by", &refusal.by),
    ] {
        if !value.is_empty() {
            line.extend([" ", name, "=", value]);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_leaves_out_what_is_not_known() {
        let refusal = Refusal {
            kind: String::from("disconnect"),
            close_code: 4410,
            reason: String::from("bye"),
            user: String::from("ann"),
            ..Refusal::default()
        };
        assert_eq!(line(&refusal), " disconnect 4410 bye user=ann");
    }
}
