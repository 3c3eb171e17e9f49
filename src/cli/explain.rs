//! `tidings explain`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, printable};
use crate::proto::ExplainRequest;
use crate::proto::explain_request::Subject;

/// Who would do what, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What somebody would do: subscribe, publish, presence or history
    #[arg(value_parser = ["subscribe", "publish", "presence", "history"])]
    action: String,
    /// The channel
    channel: String,
    /// The user [default: an anonymous client]
    #[arg(long, conflicts_with = "claims")]
    user: Option<String>,
    /// The claims of a token, as a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// A role; repeat for more
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The event type, for publish and subscribe
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
}

/// Prints whether the rules allow it, and why. Exits with 1 if they do not.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let subject = match (args.user, args.claims) {
        (Some(user), _) => Some(Subject::User(user)),
        (None, Some(claims)) => Some(Subject::Claims(claims)),
        (None, None) => None,
    };
    let request = ExplainRequest {
        subject,
        roles: args.roles,
        action: args.action,
        channel: args.channel,
        event_type: args.event_type.unwrap_or_default(),
    };
    let asked = client.request(request).await?;
    let answer = client.connections().explain(asked).await?.into_inner();
    if output.is_json() {
        output.object(&json::explanation(&answer))?;
    } else {
        let verdict = if answer.allowed { "allowed" } else { "refused" };
        output.line(&printable(&format!("{verdict}: {}", answer.reason)))?;
        output.line(&printable(&format!("decided by: {}", answer.source)))?;
        if !answer.rule.is_empty() {
            output.line(&printable(&format!("rule: {}", answer.rule)))?;
        }
        let mut inputs: Vec<_> = answer.inputs.iter().collect();
        inputs.sort();
        for (name, value) in inputs {
            output.line(&printable(&format!("  {name} = {value}")))?;
        }
    }
    if answer.allowed {
        Ok(())
    } else {
        Err(Failure::new("the rules refuse it"))
    }
}
