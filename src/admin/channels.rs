//! Pages of channels.

use std::collections::BTreeMap;

use super::page_size_of;
use super::viewer::Viewer;
use crate::cluster::{Answer, DEADLINE, Query, To};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Position, Timestamp};

/// The most channels that are put in an order. Each costs a look at its history.
const MOST_ORDERED: usize = 100_000;
/// How many channels are read at a time to put them in an order.
const READ: usize = 10_000;

/// A channel, as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: ChannelName,
    /// Subscriptions to it.
    pub subscribers: u64,
    /// Its newest position; `None` where it keeps no history.
    pub position: Option<Position>,
    /// When the newest event was published that is known of.
    pub last_event_at: Option<Timestamp>,
    /// The events of its history.
    pub history_events: u64,
    /// The bytes of its history, where the store counts them by channel.
    pub history_bytes: u64,
    /// Events per second, over the last ten seconds.
    pub rate: f64,
    /// The users present; `None` where its namespace tracks no presence.
    pub users: Option<u64>,
}

/// What channels are ordered by. Without an order, they come by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Events per second.
    Rate,
    /// Subscriptions.
    Subscribers,
    /// Events of the history.
    History,
}

impl ChannelOrder {
    /// All orders, by name.
    pub const ALL: [(&'static str, ChannelOrder); 3] = [
        ("rate", ChannelOrder::Rate),
        ("subscribers", ChannelOrder::Subscribers),
        ("history", ChannelOrder::History),
    ];

    /// The value that a channel is ordered by. Rates are ordered to the hundredth.
    fn value_of(self, channel: &ChannelInfo) -> u64 {
        match self {
            ChannelOrder::Rate => hundredths(channel.rate),
            ChannelOrder::Subscribers => channel.subscribers,
            ChannelOrder::History => channel.history_events,
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative and NaN become 0, too large becomes the largest"
)]
fn hundredths(rate: f64) -> u64 {
    (rate * 100.0).round() as u64
}

/// Which channels, in which order, and which page of them.
#[derive(Debug, Clone, Default)]
pub struct ChannelsQuery {
    /// What their names start with.
    pub prefix: String,
    /// What they are ordered by, and whether the largest come first; `None`: by name.
    pub order: Option<(ChannelOrder, bool)>,
    /// The most channels; 0 is the default.
    pub page_size: u32,
    /// The token that came with the page before; empty for the first.
    pub page_token: String,
}

impl Viewer {
    /// A page of channels, and the token of the next.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `prefix`, `page_size` and `page_token`;
    /// `failed_precondition` for an order of more than 100,000 channels.
    pub async fn channels(&self, query: &ChannelsQuery) -> Result<(Vec<ChannelInfo>, String)> {
        let size = page_size_of(query.page_size)?;
        // Counted in characters, as the API's description does: no channel's name has others than
        // ASCII, so that what is longer in bytes only finds nothing.
        if query.prefix.chars().count() > ChannelName::MAX_LEN {
            return Err(Error::field("prefix", "expected at most 255 characters"));
        }
        if query.page_token.chars().count() > ChannelName::MAX_LEN + 21 {
            return Err(wrong_token());
        }
        let Some((order, descending)) = query.order else {
            let (mut page, next) = self.named(&query.prefix, &query.page_token, size).await?;
            self.fill(&mut page).await?;
            return Ok((page, next));
        };
        let after = match query.page_token.as_str() {
            "" => None,
            token => Some(parse_token(token)?),
        };
        let mut all = Vec::new();
        let mut from = String::new();
        loop {
            let (mut some, next) = self.named(&query.prefix, &from, READ).await?;
            self.fill(&mut some).await?;
            all.extend(some);
            if next.is_empty() {
                break;
            }
            if all.len() >= MOST_ORDERED {
                let text = "order_by: there are more than 100000 channels: narrow them by prefix";
                return Err(Error::precondition(text));
            }
            from = next;
        }
        let key = |channel: &ChannelInfo| (order.value_of(channel), channel.channel.to_string());
        let mut keyed: Vec<((u64, String), ChannelInfo)> = all
            .into_iter()
            .map(|channel| (key(&channel), channel))
            .collect();
        if let Some(after) = &after {
            keyed.retain(|(key, _)| if descending { key < after } else { key > after });
        }
        keyed.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        let more = keyed.len() > size;
        keyed.truncate(size);
        let last = keyed.last().filter(|_| more);
        let token = last.map(|((value, name), _)| format!("{value}.{name}"));
        let page = keyed.into_iter().map(|(_, channel)| channel).collect();
        Ok((page, token.unwrap_or_default()))
    }

    /// A page of channels by name, without what their histories hold.
    async fn named(
        &self,
        prefix: &str,
        after: &str,
        size: usize,
    ) -> Result<(Vec<ChannelInfo>, String)> {
        let query = Query::Channels {
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            limit: size + 1,
        };
        let services = &self.services;
        let survey = services.cluster.survey(To::All, query, DEADLINE);
        let mut channels = BTreeMap::<ChannelName, ChannelInfo>::new();
        for (_, answer) in survey.await?.answers {
            let Answer::Channels(followed) = answer else {
                continue;
            };
            for (channel, subscribers) in followed {
                entry(&mut channels, channel).subscribers += subscribers;
            }
        }
        for kept in services.broker.list(prefix, after, size + 1).await? {
            entry(&mut channels, kept.channel).position = Some(kept.top);
        }
        let mut page: Vec<ChannelInfo> = channels.into_values().collect();
        let more = page.len() > size;
        page.truncate(size);
        let last = page.last().filter(|_| more);
        let next = last.map(|last| last.channel.to_string());
        Ok((page, next.unwrap_or_default()))
    }

    /// Adds what the histories hold, what was published, and who is present.
    async fn fill(&self, page: &mut [ChannelInfo]) -> Result<()> {
        let (hub, broker) = (&self.services.hub, &self.services.broker);
        let namespaces = hub.namespaces().clone();
        let now = Timestamp::now();
        for info in page {
            if info.position.is_some()
                && let Some(usage) = broker.usage(&info.channel).await?
            {
                info.last_event_at = usage.last_event_at;
                info.history_events = usage.events;
                info.history_bytes = usage.bytes.unwrap_or(0);
                info.rate = usage.rate;
            }
            if let Some(activity) = hub.routes().activity(&info.channel) {
                info.rate = info.rate.max(activity.rate);
                let ago = |seconds| i64::from(seconds) * 1_000_000;
                let last = activity.idle_seconds.map(|seconds| {
                    Timestamp::from_micros(now.as_micros().saturating_sub(ago(seconds)))
                });
                info.last_event_at = info.last_event_at.or(last);
            }
            if namespaces.of(&info.channel).presence {
                info.users = Some(hub.present(&info.channel, 0).total);
            }
        }
        Ok(())
    }
}

fn entry(
    channels: &mut BTreeMap<ChannelName, ChannelInfo>,
    channel: ChannelName,
) -> &mut ChannelInfo {
    let unknown = ChannelInfo {
        channel: channel.clone(),
        subscribers: 0,
        position: None,
        last_event_at: None,
        history_events: 0,
        history_bytes: 0,
        rate: 0.0,
        users: None,
    };
    channels.entry(channel).or_insert(unknown)
}

/// The value and the name of the last channel of the page before.
fn parse_token(token: &str) -> Result<(u64, String)> {
    let parse = || {
        let (value, name) = token.split_once('.')?;
        Some((value.parse().ok()?, name.to_owned()))
    };
    parse().ok_or_else(wrong_token)
}

fn wrong_token() -> Error {
    Error::field(
        "page_token",
        "expected the next_page_token of the page before",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_an_ordered_page_is_its_last_channel_which_may_hold_dots() {
        assert_eq!(parse_token("7.a.b:1").unwrap(), (7, "a.b:1".to_owned()));
        for token in ["7", "x.a", "-1.a"] {
            let error = parse_token(token).unwrap_err();
            assert_eq!(error.field_name(), Some("page_token"), "{token}");
        }
    }

    #[test]
    fn rates_are_ordered_to_the_hundredth() {
        assert_eq!(
            [0.0, 0.126, 3.0, -1.0, f64::NAN].map(hundredths),
            [0, 13, 300, 0, 0]
        );
    }
}
