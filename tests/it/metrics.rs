//! `/metrics` against what is written about it: the documents, the dashboard and the alerts.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use http::Method;

use crate::harness::{Config, Server};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every name of a metric in a text: what begins as the server's and the process's do.
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

/// The metrics that a server shows, by the lines that describe them.
async fn shown() -> BTreeSet<String> {
    let server = Server::start(Config::rooms()).await;
    let answer = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    let lines = answer.text().lines();
    let types = lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_metrics_that_there_are() {
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
async fn the_document_describes_exactly_the_metrics_that_there_are() {
    let shown = shown().await;
    let document = read("docs/reference/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    let described: BTreeSet<String> = cells.flat_map(named).collect();
    assert_eq!(described, shown);
}

#[test]
fn alerts_build_on_rules_that_are_recorded_and_each_is_tested() {
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
