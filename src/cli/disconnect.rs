//! `tidings disconnect`.

use super::client::Target as Server;
use super::failure::Failure;
use super::output::Output;
use crate::api::Disconnected;
use crate::proto::DisconnectRequest;
use crate::proto::disconnect_request::Target;

/// Selects the connections to close.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["id", "user"]))]
pub(super) struct Args {
    /// The id of the connection
    id: Option<String>,
    /// All of this user's connections
    #[arg(long)]
    user: Option<String>,
    /// Revoke the connection's token, or all tokens issued to the user until now
    #[arg(long)]
    revoke: bool,
    /// Reason sent to the client; at most 123 bytes
    #[arg(long, default_value = "")]
    reason: String,
}

/// Closes connections and prints how many.
pub(super) async fn run(args: Args, server: &Server, output: &mut Output) -> Result<(), Failure> {
    let client = server.connect().await?;
    let target = args
        .id
        .map(Target::ConnectionId)
        .or(args.user.map(Target::User));
    let request = client
        .request(DisconnectRequest {
            target,
            reason: args.reason,
            revoke: args.revoke,
        })
        .await?;
    let count = client
        .connections()
        .disconnect(request)
        .await?
        .into_inner()
        .disconnected;
    if output.is_json() {
        return output.object(&Disconnected {
            disconnected: count,
        });
    }
    let plural = if count == 1 { "" } else { "s" };
    let revoked = if args.revoke {
        "; the tokens shown until now are refused"
    } else {
        ""
    };
    output.line(&format!("{count} connection{plural} ended{revoked}"))
}
