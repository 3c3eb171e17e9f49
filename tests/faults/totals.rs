//! Counts what happened.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::book::Finding;

/// Findings that are printed in full. Further ones are only counted.
const MAX_PRINTED: u64 = 20;

/// A counter of the run.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When the run began.
struct Began(Instant);

impl Default for Began {
    fn default() -> Self {
        Began(Instant::now())
    }
}

impl Began {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// All counters.
#[derive(Default)]
pub struct Totals {
    faults: Mutex<BTreeMap<&'static str, u64>>,
    closes: Mutex<BTreeMap<String, u64>>,
    pub acknowledged: Count,
    /// Publishes that were refused or not answered, and retried.
    pub retries: Count,
    pub duplicates: Count,
    /// Events without a key whose publish was not answered: each may appear once.
    pub unknown: Count,
    pub delivered: Count,
    pub connects: Count,
    pub recovered: Count,
    pub not_recovered: Count,
    pub renewals: Count,
    pub refused_starts: Count,
    /// Events reported by `gap`, where the policy drops.
    pub reported: Count,
    lost: Count,
    repeated: Count,
    reordered: Count,
    needless_epochs: Count,
    wrong: Count,
    findings: Count,
    began: Began,
    /// How long something took, in milliseconds.
    times: Mutex<BTreeMap<&'static str, Vec<u64>>>,
}

impl Totals {
    pub fn fault(&self, kind: &'static str) {
        *self.faults.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// Something took this long.
    pub fn took(&self, what: &'static str, time: Duration) {
        let time = u64::try_from(time.as_millis()).unwrap();
        self.times
            .lock()
            .unwrap()
            .entry(what)
            .or_default()
            .push(time);
    }

    /// The count, the median and the maximum of each time.
    fn times(&self) -> BTreeMap<&'static str, Value> {
        let times = self.times.lock().unwrap();
        let summaries = times.iter().map(|(what, times)| {
            let mut times = times.clone();
            times.sort_unstable();
            let (median, most) = (times[times.len() / 2], times.last());
            (
                *what,
                json!({"count": times.len(), "median": median, "max": most}),
            )
        });
        summaries.collect()
    }

    /// A connection closed with this code.
    pub fn closed(&self, with: &str) {
        *self
            .closes
            .lock()
            .unwrap()
            .entry(with.to_owned())
            .or_default() += 1;
    }

    /// A violation.
    pub fn found(&self, who: &str, finding: Finding) {
        let (count, by, why) = match finding {
            Finding::Lost(events, why) => (&self.lost, events, why),
            Finding::Repeated(why) => (&self.repeated, 1, why),
            Finding::Reordered(why) => (&self.reordered, 1, why),
            Finding::NewEpoch(why) => (&self.needless_epochs, 1, why),
            Finding::Wrong(why) => (&self.wrong, 1, why),
        };
        count.add(by);
        self.findings.add(1);
        if self.findings.get() <= MAX_PRINTED {
            eprintln!("FOUND after {:.1?}, {who}: {why}", self.began.elapsed());
        }
    }

    fn bad(&self) -> u64 {
        let counts = [
            &self.lost,
            &self.repeated,
            &self.reordered,
            &self.needless_epochs,
            &self.wrong,
        ];
        counts.map(Count::get).iter().sum()
    }

    pub fn is_clean(&self) -> bool {
        self.bad() == 0
    }

    /// The JSON of all counters. `run` describes the run.
    pub fn report(&self, run: &Value, events: usize) -> Value {
        let faults = self.faults.lock().unwrap().clone();
        json!({
            "run": run,
            "faults": faults.values().sum::<u64>(),
            "faults_by_kind": faults,
            "events": events,
            "acknowledged": self.acknowledged.get(),
            "retries": self.retries.get(),
            "duplicates": self.duplicates.get(),
            "delivered": self.delivered.get(),
            "connects": self.connects.get(),
            "closes": *self.closes.lock().unwrap(),
            "recovered": self.recovered.get(),
            "not_recovered": self.not_recovered.get(),
            "renewals": self.renewals.get(),
            "refused_starts": self.refused_starts.get(),
            "told_dropped": self.reported.get(),
            "lost": self.lost.get(),
            "repeated": self.repeated.get(),
            "reordered": self.reordered.get(),
            "needless_epochs": self.needless_epochs.get(),
            "wrong": self.wrong.get(),
            "unknown": self.unknown.get(),
            "milliseconds": self.times(),
        })
    }
}
