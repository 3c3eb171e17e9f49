//! What clients say.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Headers, Payload, Timestamp, TraceContext};
use crate::hub::Arrived;
use crate::proto;
use crate::proto::client_message::Command as ServerMessage;
use crate::protocol::command::{
    Authenticate, Command, HeartbeatResponse, History, Kind, Ping, Presence, Publish, Receive,
    Register, Subscribe, Unsubscribe,
};
use crate::protocol::protobuf::schema::{moment, since};
use crate::session::{self, Wanted};

/// Which command it is.
pub(super) fn kind(said: &ServerMessage) -> Kind {
    match said {
        ServerMessage::Authenticate(_) => Kind::Authenticate,
        ServerMessage::Register(_) => Kind::Register,
        ServerMessage::Subscribe(_) => Kind::Subscribe,
        ServerMessage::Unsubscribe(_) => Kind::Unsubscribe,
        ServerMessage::Publish(_) => Kind::Publish,
        ServerMessage::History(_) => Kind::History,
        ServerMessage::Presence(_) => Kind::Presence,
        ServerMessage::Ping(_) => Kind::Ping,
        ServerMessage::HeartbeatResponse(_) => Kind::HeartbeatResponse,
        ServerMessage::Receive(_) => Kind::Receive,
    }
}

/// The command.
///
/// # Errors
/// `invalid_argument` naming the field.
pub(super) fn command(said: ServerMessage) -> Result<Command> {
    Ok(match said {
        ServerMessage::Authenticate(proto::AuthenticateCommand { token }) => {
            Command::Authenticate(Authenticate { token })
        }
        ServerMessage::Register(register) => Command::Register(Register {
            client_type: register.client_type,
            client_name: register.client_name,
        }),
        ServerMessage::Subscribe(wanted) => Command::Subscribe(subscribe(wanted)?),
        ServerMessage::Unsubscribe(unsubscribe) => Command::Unsubscribe(Unsubscribe {
            channels: unsubscribe.channels,
            event_types: unsubscribe.event_types,
        }),
        ServerMessage::Publish(event) => Command::Publish(publish(event)?),
        ServerMessage::History(history) => Command::History(History {
            channel: history.channel,
            since: history.since.as_ref().map(since).transpose()?,
            limit: match history.limit {
                0 => History::DEFAULT_LIMIT,
                limit => limit,
            },
            reverse: history.reverse,
        }),
        ServerMessage::Presence(proto::PresenceCommand { channel }) => {
            Command::Presence(Presence { channel })
        }
        ServerMessage::Ping(_) => Command::Ping(Ping),
        ServerMessage::HeartbeatResponse(_) => Command::HeartbeatResponse(HeartbeatResponse),
        ServerMessage::Receive(said) => Command::Receive(receive(&said)?),
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
