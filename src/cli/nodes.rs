//! `tidings nodes`.

use std::time::Duration;

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use crate::proto::{GetServerInfoRequest, ServerNode};

/// No options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

const HEADINGS: [&str; 8] = [
    "NODE",
    "NUMBER",
    "VERSION",
    "STARTED",
    "CONNECTIONS",
    "ENGINE",
    "HEARD",
    "STATE",
];

/// Prints the nodes that serve together.
pub(super) async fn run(_: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    let request = client.request(GetServerInfoRequest {}).await?;
    let answer = client.connections().get_server_info(request).await?;
    let nodes = answer.into_inner().server.unwrap_or_default().nodes;
    if output.is_json() {
        return nodes
            .iter()
            .try_for_each(|node| output.object(&json::node(node)));
    }
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    output.table(&HEADINGS, &rows)
}

fn row(node: &ServerNode) -> Vec<String> {
    let millis = |took: Option<prost_types::Duration>| {
        let took = took.and_then(|took| Duration::try_from(took).ok());
        took.map_or_else(
            || "-".to_owned(),
            |took| format!("{:.1} ms", took.as_secs_f64() * 1e3),
        )
    };
    let heard = node.heard_ago.and_then(|ago| Duration::try_from(ago).ok());
    let state = match (node.leaving, node.self_) {
        (true, _) => "leaving",
        (false, true) => "serving, answers",
        (false, false) => "serving",
    };
    vec![
        node.name.clone(),
        node.id.clone(),
        node.version.clone(),
        json::time(node.started_at.as_ref()).unwrap_or_default(),
        node.connections.to_string(),
        millis(node.round_trip),
        heard.map_or_else(
            || "-".to_owned(),
            |ago| format!("{:.1} s ago", ago.as_secs_f64()),
        ),
        state.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_all_columns() {
        assert_eq!(row(&ServerNode::default()).len(), HEADINGS.len());
    }
}
