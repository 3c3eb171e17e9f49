//! `tidings presence`.

use serde_json::json;

use super::client::Target;
use super::failure::Failure;
use super::output::Output;
use crate::proto::GetPresenceRequest;

/// Which channel.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The channel
    channel: String,
}

/// Prints the users in a channel; the total first, as there may be more than are named.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let request = GetPresenceRequest {
        channel: args.channel,
    };
    let asked = client.request(request).await?;
    let present = client.connections().get_presence(asked).await?.into_inner();
    if output.is_json() {
        let users = present.users.iter();
        let users: Vec<_> = users
            .map(|user| json!({ "user": user.user, "connections": user.connections }))
            .collect();
        return output.object(&json!({
            "channel": present.channel,
            "users": users,
            "total": present.total,
        }));
    }
    output.line(&format!("{} users", present.total))?;
    let rows: Vec<Vec<String>> = present
        .users
        .iter()
        .map(|user| vec![user.user.clone(), user.connections.to_string()])
        .collect();
    output.table(&["USER", "CONNECTIONS"], &rows)
}
