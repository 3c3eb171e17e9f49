//! `tidings stats`.

use std::collections::HashMap;
use std::time::Duration;

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::Output;
use crate::config::duration;
use crate::proto::{GetStatsRequest, LatencyStats, Stats, WatchStatsRequest};

/// How to show the counters.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this node: its name or number
    #[arg(long, conflicts_with = "watch")]
    node: Option<String>,
    /// Print those of the node that answers repeatedly
    #[arg(long)]
    watch: bool,
    /// Time between two prints, 100ms to 1h [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = interval, requires = "watch")]
    interval: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let interval = duration::parse(text)?;
    let allowed = Duration::from_millis(100)..=Duration::from_hours(1);
    if allowed.contains(&interval) {
        Ok(interval)
    } else {
        Err("expected 100ms to 1h")
    }
}

/// Prints the counters, once or until it is stopped.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let Args {
        node,
        watch,
        interval,
    } = args;
    let client = target.connect().await?;
    if !watch {
        let node = node.unwrap_or_default();
        let request = client.request(GetStatsRequest { node }).await?;
        let answer = client.connections().get_stats(request).await?.into_inner();
        if output.is_json() {
            return output.object(&json::cluster_stats(&answer));
        }
        print(&answer.stats.unwrap_or_default(), output)?;
        if answer.nodes.len() > 1 {
            let names = answer.nodes.iter().map(|stats| stats.node.as_str());
            output.line(&format!("sum of {}", names.collect::<Vec<_>>().join(", ")))?;
        }
        return missing(&answer.unreachable, output);
    }
    let interval = interval.and_then(|interval| prost_types::Duration::try_from(interval).ok());
    let request = client.endless(WatchStatsRequest { interval }).await?;
    let mut stream = client
        .connections()
        .watch_stats(request)
        .await?
        .into_inner();
    while let Some(answer) = stream.message().await? {
        print(&answer.stats.unwrap_or_default(), output)?;
        if !output.is_json() {
            output.line("")?;
        }
    }
    Err(Failure::new("unavailable: the server ended the stream"))
}

/// Names the nodes that did not answer.
pub(super) fn missing(unreachable: &[String], output: &mut Output) -> Result<(), Failure> {
    if unreachable.is_empty() {
        return Ok(());
    }
    output.line(&format!("without {}: no answer", unreachable.join(", ")))
}

fn print(stats: &Stats, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&json::stats(stats));
    }
    output.table(&[""], &rows(stats))
}

fn rows(stats: &Stats) -> Vec<Vec<String>> {
    let connections = stats.connections.clone().unwrap_or_default();
    let events = stats.events.clone().unwrap_or_default();
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let counter = |name: &str, value: u64| vec![name.to_owned(), value.to_string()];
    let mut rows = vec![
        row("node", stats.node.clone()),
        row("uptime", uptime(stats.uptime.as_ref())),
        row(
            "connections",
            format!(
                "{} (peak {}, total {})",
                connections.now, connections.peak, connections.total
            ),
        ),
        row("  by transport", pairs(&connections.by_transport)),
        row("  by client type", pairs(&connections.by_client_type)),
        counter("subscriptions", stats.subscriptions),
        counter("channels", stats.channels),
        counter("events published", events.published),
        counter("  delivered", events.delivered),
        counter("  replayed", events.replayed),
        counter("  dropped", events.dropped),
        counter("  conflated", events.conflated),
        counter("  filtered", events.filtered),
        row("  by type", pairs(&events.by_type)),
        counter("bytes in", stats.bytes_in),
        counter("bytes out", stats.bytes_out),
        row("errors", pairs(&stats.errors)),
        counter("auth failures", stats.auth_failures),
        counter("rate limited", stats.rate_limited),
        counter("slow consumers", stats.slow_consumers),
    ];
    rows.push(row("latency", latency(&stats.latency.unwrap_or_default())));
    rows
}

/// `name 3, other 1`, the greatest first; `-` for none.
fn pairs(counts: &HashMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::from("-");
    }
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|(name, count), (other, than)| than.cmp(count).then(name.cmp(other)));
    let texts: Vec<String> = sorted
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    texts.join(", ")
}

fn latency(latency: &LatencyStats) -> String {
    let text = |d: Option<prost_types::Duration>| match d.and_then(|d| Duration::try_from(d).ok()) {
        Some(duration) => format!("{duration:.1?}"),
        None => String::from("-"),
    };
    let (p50, p90, p99) = (text(latency.p50), text(latency.p90), text(latency.p99));
    format!("p50 {p50}, p90 {p90}, p99 {p99}, max {}", text(latency.max))
}

/// Days, hours, minutes and seconds.
fn uptime(uptime: Option<&prost_types::Duration>) -> String {
    let seconds = uptime.map_or(0, |uptime| uptime.seconds.max(0));
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days == 0 {
        clock
    } else {
        format!("{days}d {clock}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_shows_days_and_time() {
        let of = |seconds| uptime(Some(&prost_types::Duration { seconds, nanos: 0 }));
        assert_eq!(of(59), "00:00:59");
        assert_eq!(of(3 * 86_400 + 3661), "3d 01:01:01");
    }

    #[test]
    fn counts_are_sorted_descending() {
        let counts = [("a", 1), ("b", 5), ("c", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(pairs(&counts.into_iter().collect()), "b 5, a 1, c 1");
        assert_eq!(pairs(&HashMap::new()), "-");
    }

    #[test]
    fn empty_stats_are_printable() {
        assert!(rows(&Stats::default()).iter().all(|row| row.len() == 2));
    }
}
