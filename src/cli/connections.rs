//! `tidings connections`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use super::stats;
use crate::proto::{Connection, ListConnectionsRequest};

/// Connections requested at a time.
const PAGE: u32 = 500;

/// Selects connections; all conditions must hold.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only connections of this user
    #[arg(long)]
    user: Option<String>,
    /// Only connections with this role
    #[arg(long)]
    role: Option<String>,
    /// Only connections subscribed to this channel
    #[arg(long)]
    channel: Option<String>,
    /// Only this transport: websocket, socketio, sse or grpc
    #[arg(long)]
    transport: Option<String>,
    /// Only connections registered with this client type
    #[arg(long)]
    client_type: Option<String>,
    /// Only those from this address or network, such as 192.0.2.0/24
    #[arg(long)]
    address: Option<String>,
    /// Only of this node: its name or number
    #[arg(long)]
    node: Option<String>,
    /// The order: `outbox`, `dropped`, `bytes`, `connected_at` or `round_trip`
    #[arg(long, value_name = "ORDER")]
    order_by: Option<String>,
    /// The largest first
    #[arg(long, requires = "order_by")]
    desc: bool,
}

/// Prints connections page by page, so that their number is not limited.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let mut request = ListConnectionsRequest {
        user: args.user.unwrap_or_default(),
        role: args.role.unwrap_or_default(),
        channel: args.channel.unwrap_or_default(),
        transport: args.transport.unwrap_or_default(),
        client_type: args.client_type.unwrap_or_default(),
        page_size: PAGE,
        page_token: String::new(),
        address: args.address.unwrap_or_default(),
        order_by: args.order_by.unwrap_or_default(),
        desc: args.desc,
        node: args.node.unwrap_or_default(),
    };
    let (mut first, mut unreachable) = (true, Vec::new());
    loop {
        let asked = client.request(request.clone()).await?;
        let page = client
            .connections()
            .list_connections(asked)
            .await?
            .into_inner();
        print(&page.connections, first, output)?;
        unreachable.extend(page.unreachable);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        first = false;
    }
    if output.is_json() || unreachable.is_empty() {
        return Ok(());
    }
    unreachable.sort_unstable();
    unreachable.dedup();
    stats::missing(&unreachable, output)
}

const HEADINGS: [&str; 8] = [
    "ID",
    "USER",
    "TRANSPORT",
    "CLIENT",
    "ADDRESS",
    "CONNECTED",
    "DELIVERED",
    "CHANNELS",
];

fn print(connections: &[Connection], first: bool, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return connections
            .iter()
            .try_for_each(|c| output.object(&json::connection(c)));
    }
    let rows: Vec<Vec<String>> = connections.iter().map(row).collect();
    if first {
        output.table(&HEADINGS, &rows)
    } else {
        output.table(&[], &rows)
    }
}

fn row(connection: &Connection) -> Vec<String> {
    let or_dash = |text: &str| String::from(if text.is_empty() { "-" } else { text });
    let channels: Vec<&str> = connection
        .subscriptions
        .iter()
        .map(|subscription| subscription.channel.as_str())
        .collect();
    vec![
        connection.id.clone(),
        or_dash(&connection.user),
        connection.transport.clone(),
        or_dash(&connection.client_type),
        connection.address.clone(),
        json::time(connection.connected_at.as_ref()).unwrap_or_default(),
        connection.delivered.to_string(),
        or_dash(&channels.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_all_columns() {
        assert_eq!(row(&Connection::default()).len(), HEADINGS.len());
    }
}
