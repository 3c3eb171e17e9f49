//! The positions of a subscription in each channel: what to request on reconnecting, and which
//! events to deliver.

use std::collections::{HashMap, HashSet};

use crate::acks::Acks;
use crate::error::named;
use crate::step::{Joined, Step};
use crate::{Error, Event, Gap, Position, Result, proto};

/// How many channels of patterns have their positions remembered. The least recently active ones
/// are dropped first.
const REMEMBERED: usize = 100;

/// True for `*` and `namespace:*`.
fn is_pattern(channel: &str) -> bool {
    channel == "*" || channel.ends_with(":*")
}

/// The positions of one subscription.
///
/// A pattern has no position. Hence, the channels received through it are tracked, and each is
/// resumed by its own name.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    requested: Vec<String>,
    rewind: u32,
    at: HashMap<String, Position>,
    // The least recently active first.
    tracked: Vec<(String, Position)>,
    // Requested channels that have a position to resume from.
    resumes: HashSet<String>,
    // The positions that the current stream was asked to resume.
    sent: HashSet<String>,
    opening: bool,
    // A durable subscription resumes behind its cursors.
    acks: Option<Acks>,
    // The channels of a durable subscription that have one.
    cursors: HashSet<String>,
}

impl Positions {
    /// Channels to subscribe to from here, or from their positions.
    pub(crate) fn new(
        requested: Vec<String>,
        since: impl IntoIterator<Item = (String, Position)>,
        rewind: u32,
    ) -> Self {
        let mut positions = Positions {
            rewind,
            ..Positions::default()
        };
        for channel in requested {
            if !positions.requested.contains(&channel) {
                positions.requested.push(channel);
            }
        }
        for (channel, position) in since {
            positions.advance(&channel, position);
        }
        let resumes = positions.requested.iter().filter(|channel| {
            positions.at.contains_key(*channel)
                || (is_pattern(channel) && !positions.tracked.is_empty())
        });
        positions.resumes = resumes.cloned().collect();
        positions
    }

    /// Resumes behind the cursors of a durable subscription.
    pub(crate) fn durable(mut self, acks: Option<Acks>) -> Self {
        self.acks = acks;
        self
    }

    /// For each channel, the position after the last delivered event.
    pub(crate) fn positions(&self) -> HashMap<String, Position> {
        let tracked = self.tracked.iter().cloned();
        tracked.chain(self.at.clone()).collect()
    }

    /// The request for a new stream.
    pub(crate) fn subscriptions(&mut self) -> Vec<proto::Subscription> {
        self.opening = true;
        self.at.retain(|channel, _| !self.cursors.contains(channel));
        self.sent = self.positions().into_keys().collect();
        let tracked = self.tracked.iter().map(|(channel, _)| channel);
        let wanted = self.requested.iter().chain(tracked).map(|channel| {
            let since = self.position(channel).cloned();
            let newest = since.is_none() && !is_pattern(channel);
            proto::Subscription {
                channel: channel.clone(),
                since: since.map(Into::into),
                rewind: if newest { self.rewind } else { 0 },
            }
        });
        wanted.collect()
    }

    /// The server accepts no more subscriptions, so channels of patterns cannot be resumed. Returns
    /// the resulting steps.
    pub(crate) fn forget_noted(&mut self) -> Vec<Step> {
        let tracked = std::mem::take(&mut self.tracked).into_iter();
        tracked.map(|(channel, _)| lost(channel)).collect()
    }

    /// The server's state of each channel.
    ///
    /// # Errors
    /// Why a requested channel is not subscribed.
    pub(crate) fn subscribed(&mut self, message: proto::Subscribed) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for refused in message.errors {
            if self.requested.contains(&refused.channel) {
                let code = named(&refused.code);
                return Err(Error::of_channel(code, refused.message, refused.channel));
            }
            // Its events still arrive through the pattern.
            let index = self.tracked.iter().position(|(c, _)| *c == refused.channel);
            if let Some(index) = index {
                self.tracked.remove(index);
                if self.opening {
                    steps.push(lost(refused.channel));
                }
            }
        }
        for entry in message.channels {
            let joined = self.began(entry);
            steps.push(Step::Subscribed(joined));
        }
        self.opening = false;
        Ok(steps)
    }

    /// The steps for an event. None if it was delivered before.
    pub(crate) fn event(&mut self, event: Event) -> Vec<Step> {
        let Some(position) = event.position().cloned() else {
            return vec![Step::Event(event)];
        };
        let channel = event.channel().to_owned();
        let before = self.position(&channel).cloned();
        let same_epoch = before.as_ref().map(|b| b.epoch == position.epoch);
        let known = before.is_some_and(|before| position.offset <= before.offset);
        if same_epoch == Some(true) && known {
            return Vec::new();
        }
        self.advance(&channel, position.clone());
        let mut steps = Vec::new();
        if same_epoch == Some(false) {
            // This is the only sign of a new epoch for a subscription by pattern.
            steps.push(Step::Subscribed(Joined {
                channel,
                position: Some(Position {
                    offset: position.offset.saturating_sub(1),
                    ..position
                }),
                recovered: Some(false),
                replayed: 0,
                cursor: None,
            }));
        }
        steps.push(Step::Event(event));
        steps
    }

    /// The step for a gap. None if all of it was delivered before.
    ///
    /// Its offsets will not come, so they are not requested again after a reconnect.
    pub(crate) fn gap(&mut self, gap: Gap) -> Option<Step> {
        if let Some(before) = self.position(&gap.channel).cloned()
            && gap.last > 0
        {
            if gap.last <= before.offset {
                return None;
            }
            let after = Position {
                offset: gap.last,
                ..before
            };
            self.advance(&gap.channel, after);
        }
        Some(Step::Gap(gap))
    }

    fn position(&self, channel: &str) -> Option<&Position> {
        // The most recently active are last.
        let mut tracked = self.tracked.iter().rev();
        let tracked = || tracked.find_map(|(c, position)| (c == channel).then_some(position));
        self.at.get(channel).or_else(tracked)
    }

    fn began(&mut self, entry: proto::SubscribedChannel) -> Joined {
        let channel = entry.channel;
        let position = entry.position.map(Position::from);
        if let (Some(acks), Some(position)) = (self.acks.clone(), &position) {
            let (recovered, cursor) = (self.opening && entry.recovered, entry.cursor);
            let cursor = cursor.unwrap_or(position.offset);
            let behind = Position {
                epoch: position.epoch.clone(),
                offset: cursor,
            };
            let behind = acks.resumed(&channel, behind);
            if !recovered {
                self.advance(&channel, position.clone());
            } else if !self.at.contains_key(&channel) {
                self.advance(&channel, behind);
            }
            self.cursors.insert(channel.clone());
            return Joined {
                channel,
                position: Some(position.clone()),
                recovered: Some(recovered),
                replayed: entry.replayed,
                cursor: Some(cursor),
            };
        }
        let mut recovered = Some(false);
        if self.opening {
            let resumed = self.sent.contains(&channel) || self.resumes.contains(&channel);
            recovered = resumed.then_some(entry.recovered);
        }
        if self.requested.contains(&channel) {
            self.resumes.insert(channel.clone());
        }
        match &position {
            None => {
                self.at.remove(&channel);
                self.tracked.retain(|(tracked, _)| *tracked != channel);
            }
            // Replayed events come after this position, and must not be skipped.
            Some(position) => {
                if recovered != Some(true) && !(self.opening && entry.replayed > 0) {
                    self.advance(&channel, position.clone());
                }
            }
        }
        Joined {
            channel,
            position,
            recovered,
            replayed: entry.replayed,
            cursor: None,
        }
    }

    fn advance(&mut self, channel: &str, position: Position) {
        if self.requested.iter().any(|requested| requested == channel) {
            if let Some(at) = self.at.get_mut(channel) {
                *at = position;
            } else {
                self.at.insert(channel.to_owned(), position);
            }
            return;
        }
        if !self.requested.iter().any(|requested| is_pattern(requested)) {
            return;
        }
        let known = self
            .tracked
            .iter()
            .rposition(|(tracked, _)| tracked == channel);
        match known.map(|index| self.tracked.remove(index)) {
            Some((channel, _)) => self.tracked.push((channel, position)),
            None => self.tracked.push((channel.to_owned(), position)),
        }
        if self.tracked.len() > REMEMBERED {
            self.tracked.remove(0);
        }
    }
}

/// The missed events of a channel are lost.
fn lost(channel: String) -> Step {
    Step::Subscribed(Joined {
        channel,
        position: None,
        recovered: Some(false),
        replayed: 0,
        cursor: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, offset: u64) -> Position {
        Position {
            epoch: epoch.to_owned(),
            offset,
        }
    }

    fn event(channel: &str, epoch: &str, offset: u64) -> Event {
        Event::from(proto::Event {
            channel: channel.to_owned(),
            position: Some(at(epoch, offset).into()),
            ..proto::Event::default()
        })
    }

    fn entry(channel: &str, offset: u64, recovered: bool, replayed: u64) -> proto::Subscribed {
        proto::Subscribed {
            channels: vec![proto::SubscribedChannel {
                channel: channel.to_owned(),
                position: Some(at("e", offset).into()),
                recovered,
                replayed,
                cursor: None,
            }],
            ..proto::Subscribed::default()
        }
    }

    fn began(steps: &[Step]) -> Option<bool> {
        match steps {
            [Step::Subscribed(joined)] => joined.recovered,
            _ => panic!("expected one beginning: {steps:?}"),
        }
    }

    fn since(positions: &mut Positions) -> Vec<(String, Option<u64>)> {
        let requested = positions.subscriptions().into_iter();
        requested
            .map(|s| (s.channel, s.since.map(|since| since.offset)))
            .collect()
    }

    #[test]
    fn new_stream_resumes_after_delivered_events() {
        let mut positions = Positions::new(vec![String::from("c")], [], 5);
        assert_eq!(positions.subscriptions()[0].rewind, 5);
        let first = positions.subscribed(entry("c", 9, false, 2)).expect("good");
        assert_eq!(began(&first), None);
        assert_eq!(positions.event(event("c", "e", 8)).len(), 1);
        assert_eq!(positions.event(event("c", "e", 9)).len(), 1);
        assert_eq!(since(&mut positions), [(String::from("c"), Some(9))]);
        let again = positions.subscribed(entry("c", 11, true, 2)).expect("good");
        assert_eq!(began(&again), Some(true));
        // The server repeats an event, which is delivered once.
        assert!(positions.event(event("c", "e", 9)).is_empty());
        assert_eq!(positions.event(event("c", "e", 10)).len(), 1);
    }

    #[test]
    fn unrecoverable_channel_is_reported_and_continues() {
        let mut positions = Positions::new(
            vec![String::from("c")],
            [(String::from("c"), at("d", 3))],
            0,
        );
        assert_eq!(since(&mut positions), [(String::from("c"), Some(3))]);
        let steps = positions
            .subscribed(entry("c", 20, false, 0))
            .expect("good");
        assert_eq!(began(&steps), Some(false));
        assert_eq!(positions.positions()["c"], at("e", 20));
        assert!(positions.event(event("c", "e", 20)).is_empty());
    }

    #[test]
    fn channels_of_pattern_are_resumed_by_name() {
        let mut positions = Positions::new(vec![String::from("p:*")], [], 0);
        positions.subscriptions();
        positions
            .subscribed(entry("p:*", 0, false, 0))
            .expect("good");
        for number in 0..=REMEMBERED {
            positions.event(event(&format!("p:{number}"), "e", 1));
        }
        let requested = since(&mut positions);
        assert_eq!(requested.len(), 1 + REMEMBERED);
        assert!(requested.iter().all(|(channel, _)| channel != "p:0"));
        let refusal = proto::SubscriptionError {
            channel: String::from("p:7"),
            code: String::from("permission_denied"),
            message: String::new(),
        };
        let steps = positions.subscribed(proto::Subscribed {
            errors: vec![refusal],
            ..proto::Subscribed::default()
        });
        assert_eq!(began(&steps.expect("good")), Some(false));
    }

    #[test]
    fn refused_channel_error_names_it() {
        let mut positions = Positions::new(vec![String::from("c")], [], 0);
        positions.subscriptions();
        let refusal = proto::SubscriptionError {
            channel: String::from("c"),
            code: String::from("permission_denied"),
            message: String::from("no"),
        };
        let message = proto::Subscribed {
            errors: vec![refusal],
            ..proto::Subscribed::default()
        };
        let error = positions.subscribed(message).expect_err("refused");
        assert_eq!(error.channel(), Some("c"));
        assert_eq!(error.code(), crate::Code::PermissionDenied);
    }

    #[test]
    fn new_epoch_is_reported_before_its_first_event() {
        let mut positions = Positions::new(vec![String::from("*")], [], 0);
        positions.event(event("a", "e", 5));
        let steps = positions.event(event("a", "f", 3));
        assert_eq!(steps.len(), 2);
        assert_eq!(began(&steps[..1]), Some(false));
        assert_eq!(positions.positions()["a"], at("f", 3));
    }
}
