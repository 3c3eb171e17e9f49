//! `/metrics` agrees with the documents, the dashboard and the alerts.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use http::Method;

use crate::harness::{Config, Server};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All metric names in a text: those with the prefixes of the server and of the process.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|word| word.starts_with("tidings_") || word.starts_with("process_"));
    let bare = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"].iter();
        let end = ends.clone().find_map(|end| word.strip_suffix(end));
        end.unwrap_or(word).to_owned()
    };
    ours.filter(|word| !word.contains(':')).map(bare).collect()
}

/// The metrics of a server with hooks, by their `# TYPE` lines.
async fn shown() -> BTreeSet<String> {
    let config = Config::rooms()
        .webhook("127.0.0.1:9", "")
        .set("hooks.endpoint", r#""http://127.0.0.1:9""#)
        .set("hooks.ask", r#"["rpc"]"#);
    let server = Server::start(config).await;
    let answer = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    let lines = answer.text().lines();
    let types = lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[tokio::test]
async fn dashboard_and_alerts_use_existing_metrics() {
    let shown = shown().await;
    assert!(shown.len() > 30, "{shown:?}");
    for path in [
        "deploy/grafana/tidings.json",
        "deploy/prometheus/rules.yml",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts_test.yml",
    ] {
        let named = named(&read(path));
        assert!(!named.is_empty(), "{path}");
        let missing: Vec<_> = named.difference(&shown).collect();
        assert!(missing.is_empty(), "{path} names {missing:?}");
    }
}

#[tokio::test]
async fn document_lists_exactly_existing_metrics() {
    let shown = shown().await;
    let document = read("docs/reference/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let described: BTreeSet<String> = cells.flat_map(named).collect();
    // Those of a cluster appear with an engine only; `cluster.rs` sees them. Those of sources appear
    // with a source only; `sources_postgres.rs` sees them.
    let is_optional = |name: &String| {
        name.starts_with("tidings_source_")
            || (name.starts_with("tidings_cluster_") && name != "tidings_cluster_lost_total")
    };
    let described: BTreeSet<String> = described.into_iter().filter(|n| !is_optional(n)).collect();
    assert_eq!(described, shown);
}

#[test]
fn alerts_use_recorded_rules_and_are_tested() {
    let (rules, alerts) = (
        read("deploy/prometheus/rules.yml"),
        read("deploy/prometheus/alerts.yml"),
    );
    let tests = read("deploy/prometheus/alerts_test.yml");
    let recorded: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    let words = alerts.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let used: BTreeSet<&str> = words.filter(|word| word.starts_with("tidings:")).collect();
    assert!(used.is_subset(&recorded), "{used:?} {recorded:?}");
    for name in alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        assert!(tests.contains(name), "{name} has no test");
    }
}
