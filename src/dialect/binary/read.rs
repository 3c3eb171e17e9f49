//! What clients say.

use uuid::Uuid;

use crate::bus::Arrived;
use crate::dialect::commands::{
    Authenticate, Command, HeartbeatResponse, History, Kind, Ping, Presence, Publish, Receive,
    Register, Subscribe, Unsubscribe,
};
use crate::dialect::schema::{moment, since};
use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Headers, Payload, Timestamp, TraceContext};
use crate::proto;
use crate::proto::client_message::Command as Said;
use crate::session::{self, Wanted};

/// Which command it is.
pub(super) fn kind(said: &Said) -> Kind {
    match said {
        Said::Authenticate(_) => Kind::Authenticate,
        Said::Register(_) => Kind::Register,
        Said::Subscribe(_) => Kind::Subscribe,
        Said::Unsubscribe(_) => Kind::Unsubscribe,
        Said::Publish(_) => Kind::Publish,
        Said::History(_) => Kind::History,
        Said::Presence(_) => Kind::Presence,
        Said::Ping(_) => Kind::Ping,
        Said::HeartbeatResponse(_) => Kind::HeartbeatResponse,
        Said::Receive(_) => Kind::Receive,
    }
}

/// The command.
///
/// # Errors
/// `invalid_argument` naming the field.
pub(super) fn command(said: Said) -> Result<Command> {
    Ok(match said {
        Said::Authenticate(proto::AuthenticateCommand { token }) => {
            Command::Authenticate(Authenticate { token })
        }
        Said::Register(register) => Command::Register(Register {
            client_type: register.client_type,
            client_name: register.client_name,
        }),
        Said::Subscribe(wanted) => Command::Subscribe(subscribe(wanted)?),
        Said::Unsubscribe(unsubscribe) => Command::Unsubscribe(Unsubscribe {
            channels: unsubscribe.channels,
            event_types: unsubscribe.event_types,
        }),
        Said::Publish(event) => Command::Publish(publish(event)?),
        Said::History(history) => Command::History(History {
            channel: history.channel,
            since: history.since.as_ref().map(since).transpose()?,
            limit: match history.limit {
                0 => History::DEFAULT_LIMIT,
                limit => limit,
            },
            reverse: history.reverse,
        }),
        Said::Presence(proto::PresenceCommand { channel }) => {
            Command::Presence(Presence { channel })
        }
        Said::Ping(_) => Command::Ping(Ping),
        Said::HeartbeatResponse(_) => Command::HeartbeatResponse(HeartbeatResponse),
        Said::Receive(said) => Command::Receive(receive(&said)?),
    })
}

fn subscribe(wanted: proto::SubscribeCommand) -> Result<Subscribe> {
    let channels = wanted.subscriptions.into_iter().map(|wanted| {
        Ok(Wanted {
            channel: wanted.channel,
            since: wanted.since.as_ref().map(since).transpose()?,
            rewind: (wanted.rewind > 0).then_some(wanted.rewind),
        })
    });
    Subscribe::new(session::Subscribe {
        channels: channels.collect::<Result<_>>()?,
        event_types: wanted.event_types,
        filter: wanted.filter,
        presence: wanted.presence,
    })
}

fn publish(event: proto::PublishCommand) -> Result<Publish> {
    let event_type = EventType::new(&event.event_type)
        .map_err(|error| Error::field("event_type", error.description().to_owned()))?;
    Ok(Publish(Box::new(session::Publish {
        channels: vec![ChannelName::new(&event.channel)?],
        event_type,
        payload: Payload::new(event.data, &event.content_type)?,
        headers: Headers::new(event.headers)?,
        key: event.key,
        idempotency_key: event.idempotency_key,
        audience: None,
        source: session::Source::Own,
        time: None,
        trace: TraceContext::parse(&event.traceparent, &event.tracestate),
    })))
}

fn receive(said: &proto::ReceiveCommand) -> Result<Receive> {
    let id =
        Uuid::parse_str(&said.id).map_err(|_| Error::field("id", "expected the id of an event"))?;
    let channel = (!said.channel.is_empty()).then(|| ChannelName::new(&said.channel));
    let handled_at = time("handled_at", said.handled_at)?;
    Ok(Receive::new(Arrived {
        id,
        channel: channel.transpose()?,
        received_at: time("received_at", said.received_at)?,
        handled_at,
        sent_at: match said.sent_at {
            Some(_) => time("sent_at", said.sent_at)?,
            None => handled_at,
        },
    }))
}

fn time(name: &'static str, time: Option<prost_types::Timestamp>) -> Result<Timestamp> {
    time.and_then(moment)
        .ok_or_else(|| Error::field(name, "expected a time of the years 1 to 9999"))
}
