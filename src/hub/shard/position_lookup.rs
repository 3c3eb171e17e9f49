//! Position lookup: the start of a subscription, and the number of events to replay.
//!
//! Events to replay are counted first and read again when they are sent, page by page: however long
//! the history, a subscription holds only one page of it.

use std::sync::{Arc, Weak};

use super::subscribe::Join;
use crate::auth::Identity;
use crate::auth::may_see;
use crate::broker::{Broker, Page, Range, Share};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ConnectionId, Event, Position};
use crate::filter::{EventFilter, EventView};
use crate::hub::evaluator::Verdict;
use crate::hub::filter_budget::{EvalContext, Meter};
use crate::hub::shard::connection::Waiting;
use crate::hub::{Hub, TypeRoles};
use crate::maybe_ready::MaybeReady;

/// Events read at a time, to be counted.
const PAGE: usize = 512;
/// Pages that are counted on the shard's thread, if the broker has them in memory.
const PAGES_AT_ONCE: usize = 16;
/// A replay of at most this many bytes is kept instead of being read again.
const KEEP_BYTES: usize = 64 * 1024;

/// The subscriber for which events are counted.
pub(super) struct Viewer {
    pub(super) id: Option<ConnectionId>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) filter: Option<Filtered>,
    pub(super) type_roles: Arc<TypeRoles>,
}

/// A subscriber's filter, and its evaluator.
pub(super) struct Filtered {
    pub(super) hub: Arc<Hub>,
    pub(super) filter: Arc<EventFilter>,
    /// The meter of the connection's filters.
    pub(super) meter: Weak<Meter>,
}

impl Viewer {
    fn may_see(&self, event: &Event) -> bool {
        let roles = self.type_roles.get(&event.event_type).map(|roles| &**roles);
        may_see(event, roles, self.identity.as_deref(), self.id)
    }
}

/// The position at which a subscription starts; `None` if the channel keeps no history.
pub(in crate::hub) type Lookup = Option<Beginning>;

/// The start of a subscription.
#[derive(Debug)]
pub(in crate::hub) struct Beginning {
    /// The channel's position at the lookup.
    pub(super) top: Position,
    /// The offset after which events are replayed.
    pub(super) after: u64,
    /// True if the requested position and every event after it still exist.
    pub(super) recovered: bool,
    /// The number of events for this subscriber between `after` and `top`.
    pub(super) replayed: u64,
    /// Those events, if they are few; otherwise they are read when they are sent.
    pub(super) events: Vec<Waiting>,
}

/// Looks up a channel's position and counts the events to replay; `None` if the channel keeps no
/// history. The filter is evaluated here within the budget, and then off the shard.
pub(super) fn look_up(
    broker: &Arc<dyn Broker>,
    channel: &ChannelName,
    join: &Join,
    viewer: Viewer,
    asking: &EvalContext<'_>,
) -> MaybeReady<Option<Beginning>> {
    let range = match join.since {
        Some(since) => Range {
            after: since.offset,
            ..Range::all(PAGE)
        },
        None => Range::all(0),
    };
    let share = Share::of_identity(viewer.identity.as_deref());
    let mut count = Count {
        broker: Arc::clone(broker),
        share,
        channel: channel.clone(),
        since: join.since,
        rewind: join.rewind,
        viewer,
        found: None,
        read_to: 0,
        weight: 0,
        steps: 0,
    };
    let mut page = broker.read_for(share, channel, range);
    for _ in 0..PAGES_AT_ONCE {
        let ready = match page {
            MaybeReady::Ready(Ok(ready)) => ready,
            MaybeReady::Ready(Err(error)) => return MaybeReady::Ready(Err(error)),
            MaybeReady::Pending(_) => break,
        };
        let Some(verdicts) = count.evaluate_here(ready.as_ref(), asking) else {
            page = MaybeReady::ok(ready);
            break;
        };
        match count.take(ready, &verdicts) {
            Some(range) => page = count.read(range),
            None => return MaybeReady::ok(count.found),
        }
    }
    MaybeReady::later(async move { count.finish(page).await })
}

/// A lookup in progress.
struct Count {
    broker: Arc<dyn Broker>,
    /// The share of the store's time that it uses.
    share: Share,
    channel: ChannelName,
    since: Option<Position>,
    rewind: Option<u32>,
    viewer: Viewer,
    found: Option<Beginning>,
    read_to: u64,
    weight: usize,
    /// The steps of evaluations off the shard.
    steps: u64,
}

impl Count {
    async fn finish(mut self, mut page: MaybeReady<Option<Page>>) -> Result<Option<Beginning>> {
        loop {
            let read = page.await?;
            let verdicts = self.evaluate_off_shard(read.as_ref()).await?;
            match self.take(read, &verdicts) {
                Some(range) => page = self.read(range),
                None => return Ok(self.found),
            }
        }
    }

    fn read(&self, range: Range) -> MaybeReady<Option<Page>> {
        self.broker.read_for(self.share, &self.channel, range)
    }

    /// Evaluates the filter on a page; `None` if the budget does not suffice. No verdicts if there
    /// is no filter. It is not evaluated on events that the viewer may not see: its cost must
    /// reveal nothing about them.
    fn evaluate_here(&self, page: Option<&Page>, asking: &EvalContext<'_>) -> Option<Vec<Verdict>> {
        let (Some(wanted), Some(page)) = (&self.viewer.filter, page) else {
            return Some(Vec::new());
        };
        let events = page.events.iter();
        events
            .map(|event| {
                if !self.viewer.may_see(event) {
                    return Some(Verdict::Kept);
                }
                let passes = asking.ask(&wanted.filter, &EventView::new(event))?;
                Some(if passes {
                    Verdict::Passes
                } else {
                    Verdict::Kept
                })
            })
            .collect()
    }

    async fn evaluate_off_shard(&mut self, page: Option<&Page>) -> Result<Vec<Verdict>> {
        let (Some(wanted), Some(page)) = (&self.viewer.filter, page) else {
            return Ok(Vec::new());
        };
        let hub = &wanted.hub;
        let visible: Vec<bool> = page.events.iter().map(|e| self.viewer.may_see(e)).collect();
        let of_page = page.events.iter().zip(&visible);
        let events: Arc<[Arc<Event>]> = of_page
            .filter(|(_, visible)| **visible)
            .map(|(event, _)| Arc::clone(event))
            .collect();
        if events.is_empty() {
            return Ok(vec![Verdict::Kept; visible.len()]);
        }
        let asked =
            Arc::clone(hub).evaluate(Arc::clone(&wanted.filter), events, wanted.meter.clone());
        let (verdicts, steps) = asked.await?;
        self.steps = self.steps.saturating_add(steps);
        if self.steps > hub.steps_to_count() {
            hub.metrics().limit_reached("filter_steps_per_second");
            return Err(Error::exhausted(
                "the filter takes too many steps for this replay (limits.filter_steps_per_second)",
            ));
        }
        let mut verdicts = verdicts.into_iter();
        let of_all = visible.into_iter().map(|visible| {
            let verdict = if visible { verdicts.next() } else { None };
            verdict.unwrap_or(Verdict::Kept)
        });
        Ok(of_all.collect())
    }

    /// Adds a page; returns the range to read next.
    fn take(&mut self, page: Option<Page>, verdicts: &[Verdict]) -> Option<Range> {
        let page = page?;
        let begins = self.found.is_none();
        let found = self
            .found
            .get_or_insert_with(|| begin(&page, self.since, self.rewind));
        if begins {
            self.read_to = found.after;
        }
        if page.top.epoch != found.top.epoch {
            // The epoch has changed meanwhile: the subscription will notice.
            return None;
        }
        if page.oldest > self.read_to.saturating_add(1) && self.read_to < found.top.offset {
            // Events have expired since the last page: a replay begins with the oldest one now, and
            // a resume is no longer complete.
            found.after = match self.since {
                Some(_) => found.top.offset,
                None => page.oldest.saturating_sub(1).min(found.top.offset),
            };
            (found.recovered, found.replayed) = (false, 0);
            found.events = Vec::new();
            (self.read_to, self.weight) = (found.after, 0);
        }
        let (after, until) = (self.read_to, found.top.offset);
        for (at, event) in page.events.iter().enumerate() {
            let offset = event.position.map_or(0, |position| position.offset);
            if offset <= self.read_to || offset > until {
                continue;
            }
            self.read_to = offset;
            self.weight = self.weight.saturating_add(event.weight());
            let verdict = verdicts.get(at).copied();
            let passes = matches!(verdict, None | Some(Verdict::Passes));
            found.replayed += u64::from(passes && self.viewer.may_see(event));
            if self.weight <= KEEP_BYTES {
                found.events.push(Waiting {
                    event: Arc::clone(event),
                    verdict,
                });
            }
        }
        if self.weight > KEEP_BYTES {
            found.events = Vec::new();
        }
        // A page without events: they have expired meanwhile.
        let ended = self.read_to == after && !begins;
        (self.read_to < until && !ended).then_some(Range {
            after: self.read_to,
            until,
            ..Range::all(PAGE)
        })
    }
}

fn begin(page: &Page, since: Option<Position>, rewind: Option<u32>) -> Beginning {
    let top = page.top;
    let (after, recovered) = match (since, rewind) {
        (Some(since), _) if page.covers(since) => (since.offset, true),
        (None, Some(count)) => {
            let start = top.offset.saturating_sub(u64::from(count));
            let kept = page.oldest.saturating_sub(1);
            (start.max(kept).min(top.offset), false)
        }
        _ => (top.offset, false),
    };
    Beginning {
        top,
        after,
        recovered,
        replayed: 0,
        events: Vec::new(),
    }
}
