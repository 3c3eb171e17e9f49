//! The report of a run, for people and for machines.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Percentiles;
use crate::process::Cpu;

/// All results of a run. Parts that the run did not measure are absent.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The mode: `paced`, `burst`, `idle` or `connect`.
    pub mode: &'static str,
    /// Requested connections.
    pub connections: usize,
    /// Channels over which they were spread.
    pub channels: usize,
    /// Bytes of an event's `data`.
    pub size: usize,
    /// Connecting and subscribing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
    /// The server's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The time without traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// Receiving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// `error` messages that connections received, and events that a filter should have excluded.
    pub errors: u64,
    /// Subscribed connections that ended before the run did, by close code; 0 is "without one".
    pub closes: BTreeMap<u16, u64>,
    /// The first few errors and refusals.
    pub samples: Vec<String>,
}

/// Connecting and subscribing.
#[derive(Debug, Serialize)]
pub struct Setup {
    /// Connections that were subscribed.
    pub ready: u64,
    /// Connections that failed before they were subscribed.
    pub failed: u64,
    /// From the first connect to the last answered subscription.
    pub seconds: f64,
    /// Subscribed connections for each second.
    pub per_second: f64,
    /// From connect to the answered subscription.
    pub latency_ms: Percentiles,
    /// The server's processor time for each connection; absent without `--pid`.
    pub cpu: Option<CpuEach>,
}

/// Processor time per unit, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CpuEach {
    /// User and system.
    pub total_us: f64,
    /// In the program.
    pub user_us: f64,
    /// In the kernel.
    pub system_us: f64,
    /// Of all processors together, the share of one that was busy.
    pub busy: f64,
}

impl CpuEach {
    /// `cpu` was used in `elapsed` for `count` units.
    #[must_use]
    pub fn of(cpu: Cpu, count: u64, elapsed: Duration) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / real(count.max(1));
        Self {
            total_us: each(cpu.total()),
            user_us: each(cpu.user),
            system_us: each(cpu.system),
            busy: cpu.total().as_secs_f64() / elapsed.as_secs_f64().max(1e-9),
        }
    }
}

/// The server's resident memory, in bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Before the first connection.
    pub before: u64,
    /// When all were subscribed.
    pub subscribed: u64,
    /// At the end.
    pub after: u64,
    /// What each connection added until it was subscribed.
    pub per_connection: f64,
    /// What each connection added until the end of the run.
    pub per_connection_after: f64,
}

/// The time without traffic.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// How long.
    pub seconds: f64,
    /// The server's processor time for each connection and second; absent without `--pid`.
    pub cpu: Option<CpuEach>,
}

/// Publishing.
#[derive(Debug, Serialize)]
pub struct Publish {
    /// Events sent after the warm-up.
    pub events: u64,
    /// Events refused, in the whole run.
    pub refused: u64,
    /// Events for each second.
    pub per_second: f64,
    /// From publishing to the answer.
    pub acknowledged_ms: Percentiles,
    /// How late events were sent, because of the timer or of missing responses; all zero in a
    /// burst.
    pub behind_ms: Percentiles,
    /// The server's processor time for each event; absent without `--pid`.
    pub cpu: Option<CpuEach>,
}

/// Receiving.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// Events that arrived after the warm-up, over all connections.
    pub deliveries: u64,
    /// From the end of the warm-up to the last event.
    pub seconds: f64,
    /// Events for each second, over all connections.
    pub per_second: f64,
    /// From publishing to reading.
    pub latency_ms: Percentiles,
    /// From publishing an event until the last of its subscribers read it; absent in runs with too
    /// many events.
    pub last_ms: Option<Percentiles>,
    /// Events that never arrived, in the whole run. For a connection that ended early only those
    /// before its last received one.
    pub lost: u64,
    /// Events that arrived again.
    pub duplicate: u64,
    /// Events that arrived after a later one.
    pub reordered: u64,
    /// `gap` messages: losses that the server reported.
    pub gaps: u64,
    /// Mean length of an event's frame, without its header.
    pub frame_bytes: f64,
    /// The server's processor time for each delivery; absent without `--pid`.
    pub cpu: Option<CpuEach>,
}

/// `count` as a real number: exact up to 2^53.
#[must_use]
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "statistics"
)]
pub fn real(count: u64) -> f64 {
    count as f64
}

impl Report {
    /// Writes the report, as one line of JSON or as a few lines of text.
    ///
    /// # Errors
    /// If `out` fails.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        self.write_head(out)?;
        if let Some(publish) = &self.publish {
            publish.write(out)?;
        }
        if let Some(delivery) = &self.delivery {
            delivery.write(out)?;
        }
        if self.errors > 0 {
            writeln!(out, "errors      {} messages", self.errors)?;
        }
        for (code, count) in &self.closes {
            writeln!(out, "closed      {count} connections with {code}")?;
        }
        for sample in &self.samples {
            writeln!(out, "            {sample}")?;
        }
        Ok(())
    }

    fn write_head(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(setup) = &self.setup {
            writeln!(
                out,
                "set up      {} connections ({} failed), {:.0}/s, p50 {:.2} ms, p99 {:.2} ms{}",
                setup.ready,
                setup.failed,
                setup.per_second,
                setup.latency_ms.p50,
                setup.latency_ms.p99,
                cpu(setup.cpu.as_ref(), "connection"),
            )?;
        }
        if let Some(memory) = &self.memory {
            writeln!(
                out,
                "memory      {:.0} bytes per connection, {:.0} at the end ({} before, {} after)",
                memory.per_connection, memory.per_connection_after, memory.before, memory.after,
            )?;
        }
        if let Some(idle) = &self.idle {
            let each = cpu(idle.cpu.as_ref(), "connection and second");
            writeln!(out, "idle        {:.1} s{each}", idle.seconds)?;
        }
        Ok(())
    }

    /// True if nothing went wrong: every connection was established and stayed, and every event
    /// arrived once and in order.
    #[must_use]
    pub fn flawless(&self) -> bool {
        let all_up = self.setup.as_ref().is_none_or(|setup| setup.failed == 0);
        let all_arrived = self.delivery.as_ref().is_none_or(|delivery| {
            delivery.lost + delivery.duplicate + delivery.reordered + delivery.gaps == 0
        });
        let all_taken = self
            .publish
            .as_ref()
            .is_none_or(|publish| publish.refused == 0);
        all_up && all_arrived && all_taken && self.closes.is_empty() && self.errors == 0
    }
}

impl Publish {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "published   {} events ({} refused), {:.0}/s, answered p50 {:.3} ms, p99 {:.3} ms{}",
            self.events,
            self.refused,
            self.per_second,
            self.acknowledged_ms.p50,
            self.acknowledged_ms.p99,
            cpu(self.cpu.as_ref(), "event"),
        )
    }
}

impl Delivery {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "delivered   {} events, {:.0}/s, {:.0} bytes each{}",
            self.deliveries,
            self.per_second,
            self.frame_bytes,
            cpu(self.cpu.as_ref(), "delivery"),
        )?;
        let Percentiles {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self.latency_ms;
        writeln!(
            out,
            "latency     p50 {p50:.3} ms, p90 {p90:.3}, p99 {p99:.3}, p99.9 {p999:.3}, max {max:.3}"
        )?;
        if let Some(last) = self.last_ms {
            let Percentiles { p50, p99, max, .. } = last;
            writeln!(
                out,
                "last one    p50 {p50:.3} ms, p99 {p99:.3}, max {max:.3}"
            )?;
        }
        writeln!(
            out,
            "integrity   {} lost, {} duplicate, {} reordered, {} gaps",
            self.lost, self.duplicate, self.reordered, self.gaps
        )
    }
}

fn cpu(cpu: Option<&CpuEach>, what: &str) -> String {
    cpu.map_or(String::new(), |cpu| {
        format!(
            "; server {:.3} µs per {what} (user {:.3}, system {:.3}), {:.0} % busy",
            cpu.total_us,
            cpu.user_us,
            cpu.system_us,
            cpu.busy * 100.0,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let cpu = Cpu {
            user: Duration::from_millis(100),
            system: Duration::from_millis(300),
        };
        Report {
            mode: "paced",
            delivery: Some(Delivery {
                deliveries: 100_000,
                seconds: 1.0,
                per_second: 100_000.0,
                latency_ms: Percentiles::default(),
                last_ms: None,
                lost: 0,
                duplicate: 0,
                reordered: 0,
                gaps: 0,
                frame_bytes: 400.0,
                cpu: Some(CpuEach::of(cpu, 100_000, Duration::from_secs(1))),
            }),
            ..Report::default()
        }
    }

    #[test]
    fn delivery_cost_is_in_both_formats() {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        report().write(false, &mut text).unwrap();
        report().write(true, &mut json).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("server 4.000 µs per delivery (user 1.000, system 3.000), 40 % busy"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["delivery"]["cpu"]["total_us"], 4.0);
        assert!(json.get("setup").is_none());
    }

    #[test]
    fn loss_or_close_is_a_flaw() {
        assert!(report().flawless());
        let mut lossy = report();
        lossy.delivery.as_mut().unwrap().lost = 1;
        assert!(!lossy.flawless());
        let mut closed = report();
        closed.closes.insert(4411, 1);
        assert!(!closed.flawless());
    }
}
