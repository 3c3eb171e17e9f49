//! Where a subscription stands in each of its channels: what to ask for, and what to hand on.

use std::collections::{HashMap, HashSet};

use crate::error::named;
use crate::step::{Joined, Step};
use crate::{Error, Event, Position, Result, proto};

/// Channels that came by a pattern and whose positions are remembered; those quiet for longest go first.
const REMEMBERED: usize = 100;

/// True for `*` and `namespace:*`.
fn is_pattern(channel: &str) -> bool {
    channel == "*" || channel.ends_with(":*")
}

/// The positions of one subscription.
///
/// A pattern has no position. So the channels that came by it are noted; to resume, each is asked for by its own name.
#[derive(Debug, Default)]
pub(crate) struct Places {
    asked: Vec<String>,
    rewind: u32,
    at: HashMap<String, Position>,
    // The quietest first.
    noted: Vec<(String, Position)>,
    // The channels asked for that there is something to resume of.
    resumes: HashSet<String>,
    // What the stream that is open was asked to resume.
    sent: HashSet<String>,
    opening: bool,
}

impl Places {
    /// Channels to follow from here, or from where they stood.
    pub(crate) fn new(
        asked: Vec<String>,
        since: impl IntoIterator<Item = (String, Position)>,
        rewind: u32,
    ) -> Self {
        let mut places = Places {
            rewind,
            ..Places::default()
        };
        for channel in asked {
            if !places.asked.contains(&channel) {
                places.asked.push(channel);
            }
        }
        for (channel, position) in since {
            places.advance(&channel, position);
        }
        let resumes = places.asked.iter().filter(|channel| {
            places.at.contains_key(*channel) || (is_pattern(channel) && !places.noted.is_empty())
        });
        places.resumes = resumes.cloned().collect();
        places
    }

    /// For each channel the position behind what was handed on.
    pub(crate) fn positions(&self) -> HashMap<String, Position> {
        let noted = self.noted.iter().cloned();
        noted.chain(self.at.clone()).collect()
    }

    /// What to ask a new stream for.
    pub(crate) fn subscriptions(&mut self) -> Vec<proto::Subscription> {
        self.opening = true;
        self.sent = self.positions().into_keys().collect();
        let noted = self.noted.iter().map(|(channel, _)| channel);
        let wanted = self.asked.iter().chain(noted).map(|channel| {
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

    /// The server takes no more subscriptions: what patterns brought can't be resumed. Answers what that means.
    pub(crate) fn forget_noted(&mut self) -> Vec<Step> {
        let noted = std::mem::take(&mut self.noted).into_iter();
        noted.map(|(channel, _)| lost(channel)).collect()
    }

    /// How things stand now.
    ///
    /// # Errors
    /// Why a channel that was asked for is not followed.
    pub(crate) fn subscribed(&mut self, message: proto::Subscribed) -> Result<Vec<Step>> {
        let mut told = Vec::new();
        for refused in message.errors {
            if self.asked.contains(&refused.channel) {
                let code = named(&refused.code);
                return Err(Error::of_channel(code, refused.message, refused.channel));
            }
            // By the pattern its events still come.
            let place = self.noted.iter().position(|(c, _)| *c == refused.channel);
            if let Some(place) = place {
                self.noted.remove(place);
                if self.opening {
                    told.push(lost(refused.channel));
                }
            }
        }
        for entry in message.channels {
            let joined = self.began(entry);
            told.push(Step::Subscribed(joined));
        }
        self.opening = false;
        Ok(told)
    }

    /// What to hand on for an event: nothing, if it was handed on before.
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
            // Who follows by a pattern is not told of a new numbering otherwise.
            steps.push(Step::Subscribed(Joined {
                channel,
                position: Some(Position {
                    offset: position.offset.saturating_sub(1),
                    ..position
                }),
                recovered: Some(false),
                replayed: 0,
            }));
        }
        steps.push(Step::Event(event));
        steps
    }

    fn position(&self, channel: &str) -> Option<&Position> {
        // The busiest are at the end.
        let mut noted = self.noted.iter().rev();
        let noted = || noted.find_map(|(c, position)| (c == channel).then_some(position));
        self.at.get(channel).or_else(noted)
    }

    fn began(&mut self, entry: proto::SubscribedChannel) -> Joined {
        let channel = entry.channel;
        let position = entry.position.map(Position::from);
        let mut recovered = Some(false);
        if self.opening {
            let resumed = self.sent.contains(&channel) || self.resumes.contains(&channel);
            recovered = resumed.then_some(entry.recovered);
        }
        if self.asked.contains(&channel) {
            self.resumes.insert(channel.clone());
        }
        match &position {
            None => {
                self.at.remove(&channel);
                self.noted.retain(|(noted, _)| *noted != channel);
            }
            // What is replayed comes from behind this position, and has to pass.
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
        }
    }

    fn advance(&mut self, channel: &str, position: Position) {
        if self.asked.iter().any(|asked| asked == channel) {
            if let Some(at) = self.at.get_mut(channel) {
                *at = position;
            } else {
                self.at.insert(channel.to_owned(), position);
            }
            return;
        }
        if !self.asked.iter().any(|asked| is_pattern(asked)) {
            return;
        }
        let known = self.noted.iter().rposition(|(noted, _)| noted == channel);
        match known.map(|place| self.noted.remove(place)) {
            Some((channel, _)) => self.noted.push((channel, position)),
            None => self.noted.push((channel.to_owned(), position)),
        }
        if self.noted.len() > REMEMBERED {
            self.noted.remove(0);
        }
    }
}

/// What was missed of a channel can't be had.
fn lost(channel: String) -> Step {
    Step::Subscribed(Joined {
        channel,
        position: None,
        recovered: Some(false),
        replayed: 0,
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

    fn since(places: &mut Places) -> Vec<(String, Option<u64>)> {
        let asked = places.subscriptions().into_iter();
        asked
            .map(|s| (s.channel, s.since.map(|since| since.offset)))
            .collect()
    }

    #[test]
    fn new_stream_resumes_after_delivered_events() {
        let mut places = Places::new(vec![String::from("c")], [], 5);
        assert_eq!(places.subscriptions()[0].rewind, 5);
        let first = places.subscribed(entry("c", 9, false, 2)).expect("good");
        assert_eq!(began(&first), None);
        assert_eq!(places.event(event("c", "e", 8)).len(), 1);
        assert_eq!(places.event(event("c", "e", 9)).len(), 1);
        assert_eq!(since(&mut places), [(String::from("c"), Some(9))]);
        let again = places.subscribed(entry("c", 11, true, 2)).expect("good");
        assert_eq!(began(&again), Some(true));
        // The server repeats one, and it is handed on once.
        assert!(places.event(event("c", "e", 9)).is_empty());
        assert_eq!(places.event(event("c", "e", 10)).len(), 1);
    }

    #[test]
    fn unrecoverable_channel_is_reported_and_continues() {
        let mut places = Places::new(
            vec![String::from("c")],
            [(String::from("c"), at("d", 3))],
            0,
        );
        assert_eq!(since(&mut places), [(String::from("c"), Some(3))]);
        let told = places.subscribed(entry("c", 20, false, 0)).expect("good");
        assert_eq!(began(&told), Some(false));
        assert_eq!(places.positions()["c"], at("e", 20));
        assert!(places.event(event("c", "e", 20)).is_empty());
    }

    #[test]
    fn channels_of_pattern_are_resumed_by_name() {
        let mut places = Places::new(vec![String::from("p:*")], [], 0);
        places.subscriptions();
        places.subscribed(entry("p:*", 0, false, 0)).expect("good");
        for number in 0..=REMEMBERED {
            places.event(event(&format!("p:{number}"), "e", 1));
        }
        let asked = since(&mut places);
        assert_eq!(asked.len(), 1 + REMEMBERED);
        assert!(asked.iter().all(|(channel, _)| channel != "p:0"));
        let refusal = proto::SubscriptionError {
            channel: String::from("p:7"),
            code: String::from("permission_denied"),
            message: String::new(),
        };
        let told = places.subscribed(proto::Subscribed {
            errors: vec![refusal],
            ..proto::Subscribed::default()
        });
        assert_eq!(began(&told.expect("good")), Some(false));
    }

    #[test]
    fn refused_channel_error_names_it() {
        let mut places = Places::new(vec![String::from("c")], [], 0);
        places.subscriptions();
        let refusal = proto::SubscriptionError {
            channel: String::from("c"),
            code: String::from("permission_denied"),
            message: String::from("no"),
        };
        let message = proto::Subscribed {
            errors: vec![refusal],
            ..proto::Subscribed::default()
        };
        let error = places.subscribed(message).expect_err("refused");
        assert_eq!(error.channel(), Some("c"));
        assert_eq!(error.code(), crate::Code::PermissionDenied);
    }

    #[test]
    fn new_epoch_is_reported_before_its_first_event() {
        let mut places = Places::new(vec![String::from("*")], [], 0);
        places.event(event("a", "e", 5));
        let steps = places.event(event("a", "f", 3));
        assert_eq!(steps.len(), 2);
        assert_eq!(began(&steps[..1]), Some(false));
        assert_eq!(places.positions()["a"], at("f", 3));
    }
}
