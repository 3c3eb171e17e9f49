//! Periodic work: verifying, keeping epochs alive, probing, listing, closing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::batch::{Head, Stored};
use super::channel::Channel;
use super::error::EngineError;
use super::log::Log as _;
use super::receive::Receiving;
use super::stream::Change;
use super::{NEWEST, Shared};
use crate::broker::Kept;
use crate::error::Result;
use crate::event::ChannelName;

/// A channel that has subscribers but no record for this long gets one, in milliseconds.
const HEAD_AFTER: u64 = 30_000;
/// The most records of that kind per second and node.
const HEADS_A_SECOND: usize = 500;
/// An unused channel is removed after this time, in milliseconds: idempotency keys are kept
/// elsewhere, and the rest is read again.
const UNUSED: u64 = 60_000;
/// How long a close waits for queued events.
const CLOSE: Duration = Duration::from_secs(10);
/// How often a close looks.
const CLOSE_LOOK: Duration = Duration::from_millis(5);
/// After the connection is back or a leader was elected, replicas need a moment.
const SETTLE: Duration = Duration::from_millis(300);
/// The pause between attempts to look at the streams after an outage.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);
/// How long a probe waits.
const PROBE: Duration = Duration::from_secs(2);
/// JetStream's code for a compare value that does not fit: it shows that a leader has answered.
const WRONG_LAST: u32 = 10071;

impl Shared {
    /// Called about once per second. Never blocks.
    pub(super) fn sweep(self: &Arc<Self>) {
        let now = self.clock.now();
        self.keys.sweep(now);
        self.unlogged.sweep();
        self.keep_heads(now);
        self.forget_unused(now);
        self.probe();
        self.spawn_refresh();
        let interval = u64::try_from(self.sweep_interval.as_millis()).unwrap_or(u64::MAX);
        let uptime = crate::clock::uptime_ms();
        let last = self.verified.load(Ordering::Relaxed);
        if uptime.saturating_sub(last) >= interval {
            self.verified.store(uptime, Ordering::Relaxed);
            self.spawn_verify(Duration::ZERO);
        }
    }

    fn forget_unused(&self, now: u64) {
        let start = usize::try_from(crate::clock::uptime_ms() / 1000).unwrap_or(0);
        for stripe in (0..8).map(|n| start.wrapping_mul(8).wrapping_add(n)) {
            self.channels.remove_from(stripe, |channel| {
                now.saturating_sub(channel.used()) > UNUSED
                    && !channel.is_wanted()
                    && channel.writer().is_idle()
                    && !self.interest.is_covered(&channel.name)
            });
        }
        self.metrics.cluster().channels(self.channels.len());
    }

    /// Appends a record to channels with subscribers that have none or an old one, so that their
    /// epoch continues.
    fn keep_heads(self: &Arc<Self>, now: u64) {
        let Some(sink) = self.sink.upgrade() else {
            return;
        };
        let due = |channel: &Channel| {
            channel.receiver().position().is_some_and(|head| {
                let age = now.saturating_sub(head.at);
                if head.seq == 0 {
                    age >= HEAD_AFTER
                } else {
                    age >= channel.stream.keep() / 2
                }
            })
        };
        let due = self.channels.select(due);
        for channel in due
            .iter()
            .filter(|channel| sink.is_followed(&channel.name))
            .take(HEADS_A_SECOND)
        {
            if channel.writer().want_head() {
                self.spawn_append(channel);
            }
        }
    }

    /// Live messages may have been lost: compares the positions of all channels soon.
    pub(super) fn verify_soon(self: &Arc<Self>) {
        self.spawn_verify(SETTLE);
    }

    /// Looks at the streams after an outage, until that succeeds.
    pub(super) fn spawn_refresh(self: &Arc<Self>) {
        if self.line.outages().is_over() || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let outages = this.line.outages();
            while !outages.is_over() && !this.closing.load(Ordering::Acquire) {
                let begun = outages.begun();
                if this.line.is_up() && this.refresh().await.is_ok() {
                    outages.checked(begun);
                } else {
                    sleep(REFRESH_PAUSE).await;
                }
            }
            // An outage that begins now is seen by the next sweep.
            this.refreshing.store(false, Ordering::Release);
        });
    }

    /// Looks at the streams. Channels of those that have changed begin anew.
    async fn refresh(self: &Arc<Self>) -> std::result::Result<(), EngineError> {
        let _one = self.looking.lock().await;
        let sink = self.sink.upgrade();
        for (stream, change) in self.streams.refresh(self.clock.now()).await? {
            for channel in self.channels.forget_stream(&stream) {
                self.cache.remove(&channel);
                if change == Change::Recreated {
                    self.restart(&channel);
                }
                if let Some(sink) = &sink {
                    sink.lagged(Some(&channel.name));
                }
            }
        }
        Ok(())
    }

    /// The stream of this channel was removed and made again.
    fn restart(self: &Arc<Self>, channel: &Arc<Channel>) {
        let now = self.clock.now();
        channel.writer().restart(channel.empty_head(now));
        let is_lost = |seq| channel.stream.has_lost(seq);
        if channel.receiver().restart(is_lost) {
            let (this, channel) = (Arc::clone(self), channel.name.clone());
            self.runtime.spawn(async move { this.join(&channel).await });
        }
    }

    fn spawn_verify(self: &Arc<Self>, after: Duration) {
        if self.verifying.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            sleep(after).await;
            this.verifying.store(false, Ordering::Release);
            if let Err(error) = this.refresh().await {
                tracing::debug!(%error, "the streams can't be looked at");
            }
            let followed = this
                .channels
                .select(|channel| channel.receiver().position().is_some());
            this.verify(&followed).await;
        });
    }

    /// Compares the newest record of each channel with the delivered position.
    pub(super) async fn verify(self: &Arc<Self>, channels: &[Arc<Channel>]) {
        let mut by_stream: HashMap<&str, Vec<&Arc<Channel>>> = HashMap::new();
        for channel in channels {
            by_stream
                .entry(&channel.stream.name)
                .or_default()
                .push(channel);
        }
        for (stream, channels) in by_stream {
            for part in channels.chunks(NEWEST) {
                let subjects: Vec<String> =
                    part.iter().map(|channel| channel.subject.clone()).collect();
                let delivered: Vec<Option<Head>> = part
                    .iter()
                    .map(|channel| channel.receiver().head())
                    .collect();
                let Ok(newest) = self.line.newest(stream, &subjects).await else {
                    // The next round tries again.
                    continue;
                };
                let by_subject: HashMap<&str, (&Arc<Channel>, Option<Head>)> = part
                    .iter()
                    .zip(delivered)
                    .map(|(channel, head)| (channel.subject.as_str(), (*channel, head)))
                    .collect();
                for (subject, seq, body) in newest {
                    if let Some((channel, delivered)) = by_subject.get(subject.as_str()) {
                        self.compare(channel, *delivered, seq, &body);
                    }
                }
            }
        }
    }

    /// The log seems to be behind the delivered position. If the leader confirms it, offsets would
    /// be assigned twice: the channel continues with a new epoch.
    async fn check_ahead(self: &Arc<Self>, channel: &Arc<Channel>) {
        let delivered = channel.receiver().head();
        if let Ok(Some(last)) = self.line.last(channel).await
            && Receiving::<super::Line>::is_ahead(delivered, &last)
        {
            tracing::warn!(channel = %channel.name, "the engine has lost events: new epoch");
            if channel.writer().want_renumber() {
                self.spawn_append(channel);
            }
        }
    }

    fn compare(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        delivered: Option<Head>,
        seq: u64,
        body: &[u8],
    ) {
        let read = Stored::read(&channel.name, &channel.stream, &channel.subject, seq, body);
        match read {
            Ok(last) if Receiving::<super::Line>::is_behind(channel, &last) => {
                self.metrics.cluster().late();
                self.receiving.arrived(channel, last);
            }
            Ok(last) if Receiving::<super::Line>::is_ahead(delivered, &last) => {
                // A replica may be behind; the leader decides.
                let (this, channel) = (Arc::clone(self), Arc::clone(channel));
                self.runtime
                    .spawn(async move { this.check_ahead(&channel).await });
            }
            Ok(_) => {}
            Err(why) => {
                tracing::error!(channel = %channel.name, seq, %why, "a record of the engine is unreadable");
            }
        }
    }

    /// Asks a leader with an append that must fail, so that nothing is stored.
    fn probe(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        self.runtime.spawn(async move {
            let asked = Instant::now();
            let answered = this.line.is_up()
                && tokio::time::timeout(PROBE, this.ask_leader()).await == Ok(true);
            let now = crate::clock::uptime_ms().max(1);
            if answered {
                this.metrics.cluster().round_trip(asked.elapsed());
                this.down_since.store(0, Ordering::Release);
            } else {
                // Keeps the time of the first failure.
                let first =
                    this.down_since
                        .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
                if first.is_ok() {
                    tracing::warn!("the engine does not answer: publishing is not possible");
                }
            }
            this.metrics.cluster().up(answered);
            this.probing.store(false, Ordering::Release);
        });
    }

    async fn ask_leader(&self) -> bool {
        let streams = self.streams.all();
        let Some(stream) = fastrand::choice(&streams) else {
            let info: std::result::Result<serde_json::Value, EngineError> =
                self.line.ask("INFO", &serde_json::json!({})).await;
            return info.is_ok();
        };
        let subject = format!(
            "{}.s.{}.+probe",
            self.prefix,
            stream.token.replace('.', "%")
        );
        self.line.probe(subject).await == Some(WRONG_LAST)
    }

    /// Channels with history by name.
    pub(super) async fn list(
        self: &Arc<Self>,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Kept>> {
        let mut names: Vec<(ChannelName, Arc<super::stream::Stream>)> = Vec::new();
        for stream in self.streams.all() {
            let channels = self.streams.channels(&stream).await;
            let channels = channels.map_err(|error| error.unavailable())?;
            let wanted = channels.into_iter().filter(|channel| {
                channel.as_str().starts_with(prefix)
                    && channel.as_str() > after
                    && self.namespace(channel).history.size > 0
            });
            names.extend(wanted.map(|channel| (channel, Arc::clone(&stream))));
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        names.truncate(limit);
        let now = self.clock.now();
        let mut kept = Vec::with_capacity(names.len());
        for part in names.chunks(NEWEST) {
            let mut tops = HashMap::new();
            let mut by_stream: HashMap<&str, Vec<String>> = HashMap::new();
            for (channel, stream) in part {
                let subject = super::subject::log(&self.prefix, &stream.token, channel);
                by_stream.entry(&stream.name).or_default().push(subject);
            }
            for (stream, subjects) in by_stream {
                let newest = self.line.newest(stream, &subjects).await;
                for (subject, seq, body) in newest.map_err(|error| error.unavailable())? {
                    tops.insert(subject, (seq, body));
                }
            }
            for (channel, stream) in part {
                let subject = super::subject::log(&self.prefix, &stream.token, channel);
                let Some((seq, body)) = tops.get(&subject) else {
                    continue;
                };
                let Ok(last) = Stored::read(channel, stream, &subject, *seq, body) else {
                    continue;
                };
                let head = last.head();
                if !stream.has_forgotten(head.at, now) {
                    kept.push(Kept {
                        channel: channel.clone(),
                        top: crate::event::Position {
                            epoch: stream.shown(head.epoch),
                            offset: head.top,
                        },
                    });
                }
            }
        }
        Ok(kept)
    }

    /// Finishes the accepted publishes. Blocks.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let idle = async {
            while self.queued.events.load(Ordering::Acquire) > 0 || !self.unlogged.is_idle() {
                sleep(CLOSE_LOOK).await;
            }
        };
        // What is not acknowledged by then is not.
        self.runtime
            .block_on(async { tokio::time::timeout(CLOSE, idle).await.ok() });
        self.interest.close();
    }
}
