//! Subscribing: the rights to channels.

use std::time::Duration;

use super::Session;
use super::durable::Subscribing;
use crate::auth::{Identity, Policy};
use crate::error::{Error, Result};
use crate::event::{ChannelPattern, ConnectionId, Position, TypePattern};
use crate::fair_queue::Share;
use crate::filter::EventFilter;
use crate::hub::{Join, JoinRequest, Refused};
use crate::maybe_ready::MaybeReady;

/// The bounds of a minimum interval.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_hours(1);
/// How many names a request may list even if fewer subscriptions are allowed: each costs the
/// evaluation of a rule and an entry in the reply, also if it is refused.
const MAX_LISTED: usize = 256;

/// One requested subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The channel, or a pattern of channels.
    pub channel: String,
    /// Resume after this position.
    pub since: Option<Position>,
    /// Replay this many of the newest events.
    pub rewind: Option<u32>,
}

/// The requested subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// The channels.
    pub channels: Vec<Wanted>,
    /// Event types, exact or with a trailing `*`; all if empty.
    pub event_types: Vec<String>,
    /// A CEL expression; none if empty.
    pub filter: String,
    /// Whether to send `presence_joined` and `presence_left`.
    pub presence: bool,
    /// The name of a durable subscription; none if empty.
    pub durable: String,
    /// The least time between two events of a key.
    pub min_interval: Option<Duration>,
}

impl Session {
    /// Checks the right to each channel. Channels are refused one by one; only a wrong filter or a list
    /// that is far too long refuses the whole request. A filter that is not cached is compiled on
    /// another thread, so the result may come later.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `channels`, `event_types` and `filter`,
    /// `resource_exhausted` for a filter that takes too much memory.
    pub fn subscribe(&self, wanted: Subscribe) -> MaybeReady<Subscribing> {
        let source = wanted.filter.trim();
        let condition = match source {
            "" => None,
            source => {
                let share = Share::of_identity(Some(&self.identity));
                Some(self.services.hub.condition(source, share))
            }
        };
        let types = wanted
            .event_types
            .iter()
            .map(|text| TypePattern::parse(text));
        let types = match types.collect::<Result<Vec<TypePattern>>>() {
            Ok(types) => types,
            Err(error) => return MaybeReady::Ready(Err(error)),
        };
        let durable = wanted.durable.clone();
        let request = match self.request(wanted) {
            Ok(request) => request,
            Err(error) => return MaybeReady::Ready(Err(error)),
        };
        let finish = move |condition| {
            let filter = EventFilter::with(types, condition)?;
            Ok(JoinRequest { filter, ..request })
        };
        let request = match condition {
            None => MaybeReady::Ready(finish(None)),
            Some(condition) => condition.then(|condition| finish(Some(condition?))),
        };
        let request = match request {
            MaybeReady::Ready(Ok(request)) => self.ask_subscribe(request),
            MaybeReady::Ready(Err(error)) => MaybeReady::Ready(Err(error)),
            MaybeReady::Pending(request) => {
                let session = self.clone();
                MaybeReady::later(async move { session.ask_subscribe(request.await?).await })
            }
        };
        if durable.is_empty() {
            return request.then(|request| {
                Ok(Subscribing {
                    request: request?,
                    ..Subscribing::default()
                })
            });
        }
        match request {
            MaybeReady::Ready(Ok(request)) => self.make_durable(&durable, request),
            MaybeReady::Ready(Err(error)) => MaybeReady::Ready(Err(error)),
            MaybeReady::Pending(request) => {
                let session = self.clone();
                MaybeReady::later(
                    async move { session.make_durable(&durable, request.await?).await },
                )
            }
        }
    }

    /// The request without its filter.
    fn request(&self, wanted: Subscribe) -> Result<JoinRequest> {
        let hub = &self.services.hub;
        let most = hub.settings().subscriptions_per_connection.max(MAX_LISTED);
        if wanted.channels.len() > most {
            hub.metrics().limit_reached("subscriptions_per_connection");
            let text = format!(
                "expected at most {most} names at once (limits.subscriptions_per_connection)"
            );
            return Err(Error::field("channels", text));
        }
        let min_interval = wanted.min_interval.unwrap_or_default();
        let is_set = wanted.min_interval.is_some();
        if is_set && !(MIN_INTERVAL..=MAX_INTERVAL).contains(&min_interval) {
            return Err(Error::field("min_interval", "expected 10ms to 1h"));
        }
        let mut request = JoinRequest {
            watch: wanted.presence,
            min_interval,
            ..JoinRequest::default()
        };
        for wanted in wanted.channels {
            match self.authorize(&wanted) {
                Ok(join) => request.joins.push(join),
                Err(error) => request.refused.push(Refused {
                    channel: wanted.channel,
                    error,
                }),
            }
        }
        Ok(request)
    }

    fn authorize(&self, wanted: &Wanted) -> Result<Join> {
        if wanted.since.is_some() && wanted.rewind.is_some() {
            return Err(Error::field("since", "expected either since or rewind"));
        }
        let pattern = ChannelPattern::parse(&wanted.channel)?;
        let policy = self.services.policy.load();
        may_follow(&policy, &self.identity, &pattern, self.connection)?;
        if let ChannelPattern::Exact(channel) = &pattern {
            self.services.take_channel(&self.identity, channel)?;
        }
        Ok(Join {
            pattern,
            since: wanted.since,
            rewind: wanted.rewind,
            filter: None,
        })
    }

    /// The automatic subscriptions of this identity that its rights allow.
    #[must_use]
    pub fn auto_subscribe(&self) -> JoinRequest {
        let user = self.identity.user();
        let limits = self.services.limits.load();
        let names = limits.auto_subscribe.iter().filter_map(|name| match user {
            Some(user) => Some(name.replace("{user}", user)),
            None => (!name.contains("{user}")).then(|| name.clone()),
        });
        let stated = self.identity.follows().iter().map(ToString::to_string);
        let wanted = names.chain(stated).map(|channel| Wanted {
            channel,
            ..Wanted::default()
        });
        let joins = wanted
            .filter_map(|wanted| self.authorize(&wanted).ok())
            .collect();
        JoinRequest {
            joins,
            ..JoinRequest::default()
        }
    }
}

/// Whether an identity may subscribe to a channel or a pattern.
pub(super) fn may_follow(
    policy: &Policy,
    identity: &Identity,
    pattern: &ChannelPattern,
    connection: Option<ConnectionId>,
) -> Result<()> {
    match pattern {
        ChannelPattern::Exact(channel) => policy.may_subscribe(identity, channel, connection),
        ChannelPattern::Namespace(_) | ChannelPattern::All => {
            policy.may_subscribe_pattern(identity, pattern)
        }
    }
}
