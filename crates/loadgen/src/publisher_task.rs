//! A task: one source of ordered events, and the pace at which it produces them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock;
use crate::histogram::Histogram;
use crate::payload::{Stamp, Template};
use crate::progress::Progress;

/// How late an event may be without counting as late: the timer's own granularity. A later event is
/// measured from the time at which it was due, so that a server that delays the publisher can't
/// hide it.
const TIMER_SLACK: Duration = Duration::from_millis(2);
/// How long a task waits for lagging subscribers.
const BREATH: Duration = Duration::from_millis(1);

/// When events are produced.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// One per interval.
    Every {
        /// Time between two events of this task, in nanoseconds.
        interval: u64,
        /// When the first one is due.
        first: u64,
    },
    /// As fast as the window allows, while subscribers lag by at most this many events.
    AsFastAsPossible {
        /// The mean lag of a connection at which the task waits.
        max_lag: u64,
    },
}

/// The results of a task's events.
#[derive(Debug, Default)]
pub struct PublisherLog {
    /// Events sent, by channel.
    pub sent: Vec<u32>,
    /// Events refused, by channel.
    pub refused: Vec<u32>,
    /// From sending to the response.
    pub acknowledged: Histogram,
    /// How late events were sent.
    pub behind: Histogram,
    /// The first refusal.
    pub sample: Option<String>,
}

impl PublisherLog {
    /// An event to `channel` that was sent at `sent` is answered.
    pub fn accepted(&mut self, sent: u64) {
        self.acknowledged.record(clock::now().saturating_sub(sent));
    }

    /// An event to `channel` was refused, because of `reason`.
    pub fn refused(&mut self, channel: usize, reason: &str) {
        if let Some(refused) = self.refused.get_mut(channel) {
            *refused += 1;
        }
        self.sample.get_or_insert_with(|| reason.to_owned());
    }

    /// Refused events, over all channels.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refused.iter().map(|count| u64::from(*count)).sum()
    }
}

/// An event to be published now.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The number of its channel.
    pub channel: usize,
    /// Its payload.
    pub data: Bytes,
    /// When it was sent, in nanoseconds of [`clock::now`].
    pub sent: u64,
}

/// One source of events.
#[derive(Debug)]
pub struct PublisherTask {
    number: u32,
    cursor: usize,
    pace: Pace,
    until: u64,
    template: Template,
    progress: Arc<Progress>,
    sent: Vec<u32>,
    behind: Histogram,
}

impl PublisherTask {
    /// The task `number`, which publishes to `channels` channels in turn until `until`.
    #[must_use]
    pub fn new(
        number: u32,
        channels: usize,
        pace: Pace,
        until: u64,
        template: Template,
        progress: Arc<Progress>,
    ) -> Self {
        let channels = channels.max(1);
        Self {
            number,
            // Publisher tasks start at different channels, so that they don't run in lockstep.
            cursor: usize::try_from(number).unwrap_or(0) % channels,
            pace,
            until,
            template,
            progress,
            sent: vec![0; channels],
            behind: Histogram::default(),
        }
    }

    /// Waits for the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Outgoing> {
        loop {
            let now = clock::now();
            if now >= self.until {
                return None;
            }
            if let Some(event) = self.due() {
                return Some(event);
            }
            let wait = match self.pace {
                Pace::Every { first, .. } => {
                    Duration::from_nanos(first.min(self.until).saturating_sub(now))
                }
                Pace::AsFastAsPossible { .. } => BREATH,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The next event if it is due by now.
    pub fn due(&mut self) -> Option<Outgoing> {
        let now = clock::now();
        if now >= self.until {
            return None;
        }
        let sent = match &mut self.pace {
            Pace::Every { interval, first } => {
                let due = *first;
                if due > now {
                    return None;
                }
                *first = due.saturating_add(*interval);
                self.behind.record(now - due);
                now.min(due.saturating_add(clock::nanoseconds(TIMER_SLACK)))
            }
            Pace::AsFastAsPossible { max_lag } => {
                if self.progress.lags_by_more_than(*max_lag) {
                    return None;
                }
                now
            }
        };
        Some(self.make(sent))
    }

    fn make(&mut self, sent: u64) -> Outgoing {
        let channel = self.cursor;
        self.cursor = (channel + 1) % self.sent.len().max(1);
        let mut sequence = 0;
        if let Some(count) = self.sent.get_mut(channel) {
            sequence = *count;
            *count = count.wrapping_add(1);
        }
        self.progress.published_one(channel, sequence);
        let stamp = Stamp {
            sent,
            sequence,
            task: self.number,
        };
        Outgoing {
            channel,
            data: Bytes::copy_from_slice(self.template.stamped(stamp)),
            sent,
        }
    }

    /// An empty log for this task's channels.
    #[must_use]
    pub fn log(&self) -> PublisherLog {
        PublisherLog {
            refused: vec![0; self.sent.len()],
            ..PublisherLog::default()
        }
    }

    /// Ends the task and completes its log.
    #[must_use]
    pub fn finish(self, log: PublisherLog) -> PublisherLog {
        PublisherLog {
            sent: self.sent,
            behind: self.behind,
            ..log
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Finder;
    use crate::type_filter::TypeFilter;

    fn task(pace: Pace, channels: usize) -> PublisherTask {
        let template = Template::new(100).unwrap();
        PublisherTask::new(
            1,
            channels,
            pace,
            u64::MAX,
            template,
            Arc::new(Progress::new(channels, 0)),
        )
    }

    #[test]
    fn channels_alternate_with_own_numbers() {
        let mut task = task(Pace::AsFastAsPossible { max_lag: 1 }, 3);
        let events: Vec<_> = (0..7)
            .map(|_| {
                let event = task.due().unwrap();
                let stamp = Finder::default().find(&event.data).unwrap();
                assert_eq!(stamp.task, 1);
                (event.channel, stamp.sequence)
            })
            .collect();
        assert_eq!(
            events,
            [(1, 0), (2, 0), (0, 0), (1, 1), (2, 1), (0, 1), (1, 2)]
        );
        assert_eq!(task.finish(PublisherLog::default()).sent, [2, 3, 2]);
    }

    #[test]
    fn paced_task_backdates_late_events() {
        let start = clock::now();
        let second = 1_000_000_000;
        let pace = Pace::Every {
            interval: second,
            first: start - second,
        };
        let mut task = task(pace, 1);
        let first = task.due().unwrap();
        assert_eq!(first.sent, start - second + clock::nanoseconds(TIMER_SLACK));
        assert!(task.due().is_some(), "the one that is due at the start");
        assert!(task.due().is_none(), "the one that is due in a second");
    }

    #[test]
    fn burst_waits_for_lagging_subscribers() {
        let mut task = task(Pace::AsFastAsPossible { max_lag: 2 }, 1);
        let progress = Arc::clone(&task.progress);
        progress.connection_ready(0, TypeFilter::default(), 1);
        assert!((0..3).all(|_| task.due().is_some()));
        assert!(task.due().is_none(), "three are on their way");
        progress.delivered_more(1, 2);
        assert!(task.due().is_some());
    }
}
