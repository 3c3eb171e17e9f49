//! Durable subscriptions: they resume behind what their user has acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Services, Session};
use crate::auth::is_name;
use crate::broker::{Broker, Cursor, CursorKey, CursorQuery, CursorStore};
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, ChannelPattern, Epoch, Position};
use crate::hub::{Join, JoinRequest, Joined, Refused};
use crate::maybe_ready::MaybeReady;

/// A request whose rights are checked.
#[derive(Debug, Default)]
pub struct Subscribing {
    /// The subscriptions.
    pub request: JoinRequest,
    /// What to do once they have begun.
    pub durable: Durable,
}

/// The cursors of a durable subscription that is about to begin.
#[derive(Debug, Default)]
pub struct Durable(Option<Begun>);

#[derive(Debug)]
struct Begun {
    user: Arc<str>,
    name: Arc<str>,
    /// By channel, the acknowledged offset.
    cursors: HashMap<String, u64>,
}

impl Durable {
    /// Completes the results of the subscriptions with their cursors. What could not be recovered is
    /// gone, and the client reloads: its cursor moves to where live delivery starts.
    pub fn begun(&self, services: &Services, joined: &mut [Joined]) {
        let Some(begun) = &self.0 else {
            return;
        };
        for one in joined {
            let (Some(cursor), Some(position)) = (begun.cursors.get(&one.channel), one.position)
            else {
                continue;
            };
            one.cursor = Some(*cursor);
            let channel = ChannelName::new(&one.channel);
            if let (false, Ok(channel)) = (one.recovered, channel) {
                one.cursor = Some(position.offset);
                let key = CursorKey {
                    user: Arc::clone(&begun.user),
                    name: Arc::clone(&begun.name),
                    channel,
                };
                // It exists, so it is within the limits.
                services.cursors.set_later(&key, position);
            }
        }
    }
}

impl Session {
    /// Lets the subscriptions of a request resume behind their cursors, and creates the cursors that
    /// do not exist yet.
    pub(super) fn make_durable(&self, name: &str, request: JoinRequest) -> MaybeReady<Subscribing> {
        let user = match self.durable_user(name) {
            Ok(user) => user,
            Err(error) => return MaybeReady::Ready(Err(error)),
        };
        let store = Arc::clone(&self.services.cursors);
        let name: Arc<str> = name.into();
        let positions = request
            .joins
            .iter()
            .map(|join| start(&store, &self.services.broker, &user, &name, join));
        let positions = MaybeReady::all(positions.collect());
        let (user, name) = (Arc::clone(&user), Arc::clone(&name));
        positions.then(move |positions| {
            let mut cursors = HashMap::new();
            let mut request = request;
            let mut joins = Vec::with_capacity(request.joins.len());
            for (mut join, position) in request.joins.drain(..).zip(positions?) {
                let channel = join.pattern.to_string();
                match position {
                    Ok(Start { position, is_new }) => {
                        cursors.insert(channel, position.offset);
                        if !is_new {
                            join.since = join.since.or(Some(position));
                        }
                        joins.push(join);
                    }
                    Err(error) => request.refused.push(Refused { channel, error }),
                }
            }
            request.joins = joins;
            let durable = Durable(Some(Begun {
                user,
                name,
                cursors,
            }));
            Ok(Subscribing { request, durable })
        })
    }

    /// Moves a cursor forward, up to the channel's newest position. The cursor must exist: without a
    /// durable subscription the position of a channel is nobody's business.
    ///
    /// # Errors
    /// `failed_precondition` without the durable subscription, or if the channel has a new epoch since
    /// it began; `permission_denied`; `invalid_argument` for `durable`; `out_of_range` beyond the
    /// newest offset.
    pub fn ack(&self, name: &str, channel: &ChannelName, offset: u64) -> MaybeReady<()> {
        let user = match self.durable_user(name) {
            Ok(user) => user,
            Err(error) => return MaybeReady::Ready(Err(error)),
        };
        let key = CursorKey {
            user,
            name: name.into(),
            channel: channel.clone(),
        };
        let cursor_key = key.clone();
        if let Err(error) = self.may_subscribe(channel) {
            return MaybeReady::Ready(Err(error));
        }
        let services = Arc::clone(&self.services);
        let go_on = move |found: Result<Option<Cursor>>| match found {
            Ok(Some(cursor)) => ack(&services, key, offset, Some(cursor.position.epoch)),
            Ok(None) => MaybeReady::Ready(Err(no_cursor(&key))),
            Err(error) => MaybeReady::Ready(Err(error)),
        };
        match self.services.cursors.get(&cursor_key) {
            MaybeReady::Ready(found) => go_on(found),
            MaybeReady::Pending(found) => {
                MaybeReady::later(async move { go_on(found.await).await })
            }
        }
    }

    /// Moves a cursor of another user. Only for services.
    ///
    /// # Errors
    /// As [`Session::ack`], and `permission_denied`.
    pub fn ack_of(
        &self,
        user: &str,
        name: &str,
        channel: &ChannelName,
        offset: u64,
    ) -> MaybeReady<()> {
        let checked = self.check_service().and_then(|()| {
            if is_name(user) {
                return CursorKey::check_name(name);
            }
            let expected = "expected 1 to 255 bytes without control characters";
            Err(Error::field("user", expected))
        });
        match checked {
            Ok(()) => {
                let key = CursorKey {
                    user: user.into(),
                    name: name.into(),
                    channel: channel.clone(),
                };
                let services = Arc::clone(&self.services);
                MaybeReady::later(async move {
                    let found = services.cursors.get(&key).await?;
                    let epoch = found.map(|cursor| cursor.position.epoch);
                    ack(&services, key, offset, epoch).await
                })
            }
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    /// Some cursors. Only for services.
    ///
    /// # Errors
    /// `permission_denied`; `unavailable` if an engine does not answer.
    pub async fn cursors(&self, query: CursorQuery) -> Result<Vec<(CursorKey, Cursor)>> {
        self.check_service()?;
        self.services.cursors.list(&query).await
    }

    fn durable_user(&self, name: &str) -> Result<Arc<str>> {
        CursorKey::check_name(name)?;
        let user = self.identity.user().cloned();
        user.ok_or_else(|| Error::precondition("durable subscriptions need a token with a user"))
    }
}

/// Moves or creates a cursor, up to the channel's newest position. A cursor of another epoch is moved
/// by the next subscription only: the offset is one of the former epoch.
fn ack(
    services: &Arc<Services>,
    key: CursorKey,
    offset: u64,
    epoch: Option<Epoch>,
) -> MaybeReady<()> {
    let store = Arc::clone(&services.cursors);
    let top = services.broker.top(&key.channel);
    let set = move |top: Result<Option<Position>>| match top {
        Ok(Some(top)) if epoch.is_some_and(|epoch| epoch != top.epoch) => {
            let text = format!("{} has a new epoch: subscribe again", key.channel);
            MaybeReady::Ready(Err(Error::precondition(text)))
        }
        Ok(Some(top)) if offset <= top.offset => store.set(&key, Position { offset, ..top }),
        Ok(Some(top)) => {
            let text = format!(
                "offset: the newest offset of {} is {}",
                key.channel, top.offset
            );
            MaybeReady::Ready(Err(Error::new(Code::OutOfRange, text)))
        }
        Ok(None) => MaybeReady::Ready(Err(no_history(&key.channel))),
        Err(error) => MaybeReady::Ready(Err(error)),
    };
    match top {
        MaybeReady::Ready(top) => set(top),
        MaybeReady::Pending(top) => MaybeReady::later(async move { set(top.await).await }),
    }
}

/// Where a durable subscription starts.
struct Start {
    position: Position,
    /// The cursor did not exist: it begins where the channel is now. What came before is not known to
    /// be missing or not, so the subscription is not reported as recovered.
    is_new: bool,
}

/// Where a durable subscription starts: behind its cursor, or where the channel is now.
fn start(
    store: &Arc<dyn CursorStore>,
    broker: &Arc<dyn Broker>,
    user: &Arc<str>,
    name: &Arc<str>,
    join: &Join,
) -> MaybeReady<Start> {
    let ChannelPattern::Exact(channel) = &join.pattern else {
        let text = "expected a channel: a pattern has no cursor";
        return MaybeReady::Ready(Err(Error::field("durable", text)));
    };
    let key = CursorKey {
        user: Arc::clone(user),
        name: Arc::clone(name),
        channel: channel.clone(),
    };
    if let MaybeReady::Ready(found) = store.get(&key)
        && let Ok(Some(cursor)) = found
    {
        return touch(store, &key, cursor.position);
    }
    let (store, broker) = (Arc::clone(store), Arc::clone(broker));
    MaybeReady::later(async move { begin(&store, &broker, &key).await })
}

/// Notes that a cursor is in use.
fn touch(store: &Arc<dyn CursorStore>, key: &CursorKey, position: Position) -> MaybeReady<Start> {
    let start = Start {
        position,
        is_new: false,
    };
    store
        .set(key, position)
        .then(move |set| set.map(|()| start))
}

async fn begin(
    store: &Arc<dyn CursorStore>,
    broker: &Arc<dyn Broker>,
    key: &CursorKey,
) -> Result<Start> {
    if let Some(cursor) = store.get(key).await? {
        return touch(store, key, cursor.position).await;
    }
    let top = broker.top(&key.channel).await?;
    let top = top.ok_or_else(|| no_history(&key.channel))?;
    store.set(key, top).await?;
    Ok(Start {
        position: top,
        is_new: true,
    })
}

fn no_history(channel: &ChannelName) -> Error {
    Error::precondition(format!("{channel} keeps no history"))
}

fn no_cursor(CursorKey { name, channel, .. }: &CursorKey) -> Error {
    Error::precondition(format!(
        "durable: there is no durable subscription {name} to {channel}"
    ))
}
