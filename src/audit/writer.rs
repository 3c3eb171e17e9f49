//! The writer thread of the audit log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::file::LogFile;
use super::{Order, line};
use crate::telemetry::Metrics;

/// How often to check whether the file is still at its path.
const LOOK: Duration = Duration::from_secs(1);
/// The most bytes per write.
const BATCH: usize = 64 * 1024;

/// Removes records from the queue and writes them.
pub(super) struct Writer {
    file: LogFile,
    /// The bytes of queued lines.
    waiting: Arc<AtomicUsize>,
    /// Records dropped since the last line that reported drops.
    lost: Arc<AtomicU64>,
    /// Notifies those who wait for space in the queue.
    taken: Arc<Notify>,
    metrics: Arc<Metrics>,
    looked: Instant,
    /// The last attempt failed, which was logged.
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        file: LogFile,
        waiting: Arc<AtomicUsize>,
        lost: Arc<AtomicU64>,
        taken: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Writer {
            file,
            waiting,
            lost,
            taken,
            metrics,
            looked: Instant::now(),
            failing: false,
        }
    }

    /// Writes until all senders are gone.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let (mut lines, mut count) = (Vec::new(), 0);
        loop {
            let order = match orders.recv_timeout(LOOK) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => {
                    self.look(false);
                    // Dropped records are reported even if no other record follows.
                    self.write(&mut lines, &mut count);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut next = Some(order);
            while let Some(order) = next.take() {
                match order {
                    Order::Line(line) => {
                        self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                        lines.extend_from_slice(&line);
                        count += 1;
                    }
                    Order::Reopen => {
                        self.write(&mut lines, &mut count);
                        self.look(true);
                    }
                    Order::Flush(done) => {
                        self.write(&mut lines, &mut count);
                        if done.send(()).is_err() {
                            tracing::debug!("the caller no longer waits for the audit log");
                        }
                    }
                }
                if lines.len() < BATCH {
                    next = orders.try_recv().ok();
                }
            }
            self.taken.notify_waiters();
            self.look(false);
            self.write(&mut lines, &mut count);
        }
    }

    /// Reopens the file if the path has another one, or if requested.
    fn look(&mut self, at_once: bool) {
        if !at_once && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        if at_once || self.file.was_moved() {
            let opened = self.file.reopen();
            self.log_change(opened);
        }
    }

    fn write(&mut self, lines: &mut Vec<u8>, count: &mut u64) {
        let missing = self.lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            lines.extend_from_slice(&line::dropped(missing));
        }
        if lines.is_empty() {
            return;
        }
        let written = self.file.append(lines);
        if written.is_err() {
            self.lost.fetch_add(missing + *count, Ordering::Relaxed);
            self.metrics.audit_dropped(*count);
        }
        self.log_change(written);
        lines.clear();
        *count = 0;
    }

    /// Logs once that writing fails, and once that it works again.
    fn log_change(&mut self, outcome: std::io::Result<()>) {
        match outcome {
            Err(error) if !self.failing => {
                tracing::error!(%error, "the audit log can't be written");
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!("the audit log can be written again");
                self.failing = false;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn dropped_records_are_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let lost = Arc::new(AtomicU64::new(3));
        let file = LogFile::open(&path).expect("opened");
        let writer = Writer::new(
            file,
            Arc::new(AtomicUsize::new(3)),
            Arc::clone(&lost),
            Arc::default(),
            Metrics::new("test"),
        );
        let (queue, orders) = sync_channel(8);
        queue
            .send(Order::Line(b"{}\n".to_vec()))
            .expect("space in the queue");
        queue.send(Order::Reopen).expect("space in the queue");
        drop(queue);
        writer.run(&orders);
        let text = std::fs::read_to_string(&path).expect("there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines.first(), Some(&"{}"));
        assert!(
            lines
                .last()
                .is_some_and(|l| l.contains(r#""event":"dropped","count":3"#))
        );
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }
}
