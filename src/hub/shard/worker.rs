//! A shard's rounds: those of its own thread, and small ones that publishers run while it sleeps.

use std::time::Duration;

use mio::Events;

use super::{ACTIVE_WAIT, BATCH, IDLE_WAIT, Shard};
use crate::hub::queue::Inbound;
use crate::hub::round::{Round, SMALL_ROUND_SUBSCRIBERS, WAKE};
use crate::hub::shard_cell::Remaining;

/// Deliveries after which a small round ends.
const SMALL_ROUND_DELIVERIES: u32 = 16;

impl Round for Shard {
    fn run_round(&mut self, events: &Events) -> Option<Duration> {
        let stall = self.time.wakes();
        self.note_stall(stall);
        self.time.now = self.time.now();
        self.budget.now_us = self.hub.clock_us();
        self.budget.renew();
        for event in events {
            if event.token() != WAKE {
                let slot = u32::try_from(event.token().0).unwrap_or(u32::MAX);
                self.socket_ready(slot, event);
            }
        }
        self.read_the_rest();
        self.inbox.begin_round();
        self.drain();
        self.fire_timers();
        self.close_due();
        self.go_on_checking_positions();
        self.finish_round();
        (!self.stopping).then(|| self.sleep(events.is_empty()))
    }

    fn run_small_round(&mut self) -> Remaining {
        if self.left_item.is_some() {
            return Remaining::Work;
        }
        self.time.now = self.time.now();
        self.budget.now_us = self.hub.clock_us();
        self.budget.renew();
        self.settings = self.hub.settings();
        self.inbox.begin_round();
        let mut made = 0;
        while made < SMALL_ROUND_DELIVERIES
            && let Some(inbound) = self.inbox.pop()
        {
            match inbound {
                Inbound::Event(delivery)
                    if delivery.subscribers() <= SMALL_ROUND_SUBSCRIBERS
                        && !delivery.event().is_for_roles() =>
                {
                    made += delivery.subscribers().max(1);
                    self.gather(delivery);
                }
                Inbound::Event(_) | Inbound::Command(_) => {
                    self.left_item = Some(inbound);
                    break;
                }
            }
        }
        self.fan_out(true);
        self.write();
        self.metrics.helped();
        self.left()
    }
}

impl Shard {
    /// Ends a round of the thread; returns how long it may sleep.
    fn sleep(&mut self, quiet: bool) -> Duration {
        let wait = self.wait(quiet);
        let stall = self.time.sleeps(super::timers::millis(wait));
        self.note_stall(stall);
        wait
    }

    /// Records the samples of this round, now that everything is written.
    pub(super) fn finish_samples(&mut self) {
        let most = self.settings.connections_per_event;
        self.sampling.finish(&self.hub, most);
    }

    fn left(&self) -> Remaining {
        let earlier = |at| at < self.sleeps_until;
        let nothing = self.left_item.is_none()
            && self.inbox.is_empty()
            && self.recovery.is_idle()
            && !self.time.next_timer().is_some_and(earlier);
        if nothing {
            Remaining::Nothing
        } else {
            Remaining::Work
        }
    }

    /// Drains the queue: events in batches, each followed by one write to each connection.
    fn drain(&mut self) {
        self.settings = self.hub.settings();
        let mut rounds = 0;
        loop {
            let mut taken = 0;
            while taken < BATCH
                && let Some(inbound) = self.left_item.take().or_else(|| self.inbox.pop())
            {
                match inbound {
                    Inbound::Event(delivery) => self.gather(delivery),
                    Inbound::Command(command) => {
                        // A command sees the shard as it is after the events before it.
                        self.fan_out(false);
                        self.execute(*command);
                    }
                }
                taken += 1;
            }
            self.fan_out(true);
            self.finish_round();
            rounds += 1;
            // Under a flood of events, sockets and timers get their turn too.
            if taken < BATCH || rounds >= 16 {
                return;
            }
        }
    }

    /// Continues recovery, and writes.
    fn finish_round(&mut self) {
        // Once per round, so that a long replay starves nobody.
        self.run_recovery();
        self.write();
    }

    /// Writes every touched connection once, and closes those that broke.
    fn write(&mut self) {
        while !self.writer.is_idle() {
            self.flush_touched();
            self.reap_closed();
        }
        self.finish_samples();
        for (delivery, delivered) in self.batches.delivered.drain(..) {
            if delivered > 0
                && let Some(took) = delivery.event().accepted.elapsed()
            {
                self.metrics.delivery_latency(took, u64::from(delivered));
                if let Some(trace) = delivery.trace() {
                    self.hub.metrics().delivery_exemplar(took, trace);
                }
            }
        }
    }

    /// How long the poll may wait: not at all while there is work.
    fn wait(&mut self, quiet: bool) -> Duration {
        self.sleeps_until = 0;
        if !self.reader.unread.is_empty() || !self.recovery.is_idle() || !self.inbox.is_empty() {
            return Duration::ZERO;
        }
        if quiet {
            self.writer.pool.clear();
            self.recovery.replays.clear();
        }
        let longest = if quiet { IDLE_WAIT } else { ACTIVE_WAIT };
        let timer = self.time.next_timer();
        let others = [self.drain.next(), self.position_checks.next()];
        let others = others.into_iter().flatten();
        let Some(next) = timer.into_iter().chain(others).min() else {
            self.sleeps_until = u64::MAX;
            return longest;
        };
        self.sleeps_until = next;
        Duration::from_millis(next.saturating_sub(self.time.now())).min(longest)
    }
}
