//! The JSON codec: the dialect `tidings`, `CloudEvents`, and custom dialects.

pub(super) mod arguments;
mod cloud_events;
mod encode;
mod envelope;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use self::arguments::{Arguments, request_id};
use self::cloud_events::cloud_event;
use self::envelope::Envelope;
use super::codec::{Decoder, Encoded, Encoder};
use super::command::{ClientCommand, Kind};
use super::custom::{CommandWords, Definition};
use super::request::{DecodeError, Incoming, ReplyTo, RequestId};
use super::server_message::ServerMessage;
use crate::error::{Error, Result};
use crate::event::{Event, json, strict_json};

/// A codec in JSON.
#[derive(Debug, Clone)]
pub struct JsonCodec {
    definition: Arc<Definition>,
    events: Form,
    /// Whether unknown members are refused. Clients of a custom dialect were written for another
    /// system and may send others.
    strict: bool,
}

/// The form of events.
#[derive(Debug, Clone)]
enum Form {
    /// As in the dialect `tidings`.
    Plain,
    /// As `CloudEvents`.
    CloudEvent,
    /// As the definition says.
    Envelope(Envelope),
}

impl Default for JsonCodec {
    fn default() -> Self {
        JsonCodec::tidings()
    }
}

impl JsonCodec {
    /// The dialect `tidings`.
    #[must_use]
    pub fn tidings() -> Self {
        JsonCodec {
            strict: true,
            ..JsonCodec::new(Arc::default())
        }
    }

    /// The dialect `tidings` with events as `CloudEvents`.
    #[must_use]
    pub fn cloud_events() -> Self {
        JsonCodec {
            definition: Arc::default(),
            events: Form::CloudEvent,
            strict: true,
        }
    }

    /// A custom dialect.
    #[must_use]
    pub fn new(definition: Arc<Definition>) -> Self {
        let events = if definition.event == Definition::default().event {
            Form::Plain
        } else {
            Form::Envelope(Envelope::new(&definition.event))
        };
        JsonCodec {
            definition,
            events,
            strict: false,
        }
    }

    /// The dialect's own command of this name.
    fn command(&self, name: &str) -> Option<&CommandWords> {
        let mut commands = self.definition.commands.iter();
        commands.find(|command| command.name == name)
    }

    /// Parses a message: its name, its command, and its arguments.
    fn open<'a>(&'a self, incoming: &Incoming<'a>) -> Result<Opened<'a>> {
        let (name, text) = match *incoming {
            Incoming::Text(text) => (None, text),
            Incoming::Named { name, argument, .. } => (Some(name), argument),
            Incoming::Binary(_) => return Err(Error::invalid("expected text")),
        };
        let mut arguments = Arguments::parse(text)?;
        let name = match name {
            Some(name) => Ok(name.to_owned()),
            None => arguments.required_text("type").map(Cow::into_owned),
        };
        let custom = name.as_ref().ok().and_then(|name| self.command(name));
        let kind = match (&name, custom) {
            (_, Some(custom)) => Some(custom.does),
            (Ok(name), None) => Kind::of(name),
            (Err(_), None) => None,
        };
        if let Some(custom) = custom {
            arguments = arguments.translated(&custom.members, custom.channels.as_ref());
        }
        // If the message has a channel next to `data`, `data` is the payload of a publish.
        if kind != Some(Kind::Publish) || !arguments.names_channel() {
            arguments = arguments.with_data()?;
        }
        Ok(Opened {
            name,
            custom,
            kind,
            arguments,
        })
    }

    /// Refuses unknown members of commands about channels.
    fn check_members(&self, opened: &Opened<'_>, kind: Kind) -> Result<()> {
        // `receive` has no reply to report them in.
        if self.strict && kind.names_channels() && kind != Kind::Receive {
            opened.arguments.only(kind, true)
        } else if kind == Kind::Publish {
            opened.arguments.only(kind, false)
        } else {
            Ok(())
        }
    }

    /// The refusal of an unknown command.
    fn unknown(&self, name: &str) -> Error {
        let own = self.definition.commands.iter();
        let own: Vec<&str> = own.map(|command| command.name.as_str()).collect();
        Kind::unknown(name, &own)
    }
}

/// A parsed message.
struct Opened<'a> {
    name: Result<String>,
    /// The dialect's own command.
    custom: Option<&'a CommandWords>,
    kind: Option<Kind>,
    arguments: Arguments<'a>,
}

impl Opened<'_> {
    /// Sets the context of the reply.
    fn reply_to(&self, reply_to: &mut ReplyTo) {
        if let (RequestId::None, Ok(Some(id))) = (&reply_to.id, request_id(&self.arguments)) {
            reply_to.id = RequestId::Given(id);
        }
        let echoed = self.echoed().filter(|(_, value)| is_readable(value));
        reply_to
            .echoed
            .extend(echoed.map(|(member, value)| (member.into(), value.to_owned())));
    }

    /// The members that the reply echoes.
    fn echoed(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        let echo = self.custom.into_iter().flat_map(|custom| &custom.echo);
        echo.filter_map(|member| Some((member.as_str(), self.arguments.member(member)?)))
    }

    /// Refuses echoed members that the client could not parse.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the member.
    fn check_echo(&self) -> Result<()> {
        match self.echoed().find(|(_, value)| !is_readable(value)) {
            None => Ok(()),
            Some((member, _)) => {
                let expected = "expected JSON without lone surrogates and numbers out of range";
                Err(Error::field(member.to_owned(), expected))
            }
        }
    }
}

fn is_readable(value: &RawValue) -> bool {
    strict_json::check(value.get().as_bytes()).is_ok()
}

impl Decoder for JsonCodec {
    fn decode(&self, incoming: &Incoming<'_>) -> (ReplyTo, Result<ClientCommand, DecodeError>) {
        let mut reply_to = ReplyTo::of_transport(incoming);
        let opened = match self.open(incoming) {
            Ok(opened) => opened,
            Err(error) => return (reply_to, Err(error.into())),
        };
        opened.reply_to(&mut reply_to);
        let decode = || {
            request_id(&opened.arguments)?;
            opened.check_echo()?;
            let name = opened.name.as_ref().map_err(Clone::clone)?;
            let kind = opened.kind.ok_or_else(|| DecodeError {
                error: self.unknown(name),
                guarded: true,
            })?;
            let checked = self.check_members(&opened, kind);
            let command = checked.and_then(|()| kind.parse_json(&opened.arguments));
            command.map_err(|error| DecodeError {
                error,
                guarded: !kind.is_open(),
            })
        };
        let command = decode();
        (reply_to, command)
    }

    fn reply_to(&self, incoming: &Incoming<'_>) -> ReplyTo {
        let mut reply_to = ReplyTo::of_transport(incoming);
        if let Ok(opened) = self.open(incoming) {
            opened.reply_to(&mut reply_to);
        }
        reply_to
    }
}

impl Encoder for JsonCodec {
    fn encode(
        &self,
        reply_to: &ReplyTo,
        message: &ServerMessage<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        self.encode_message(reply_to, message, out);
    }

    fn encode_event(&self, out: &mut BytesMut, event: &Event) {
        match &self.events {
            Form::Plain => json::write(out, event),
            Form::CloudEvent => out.put_slice(&cloud_event(event)),
            Form::Envelope(envelope) => envelope.write(out, event),
        }
    }

    fn encode_event_to_confirm(&self, out: &mut BytesMut, event: &Event) -> bool {
        let plain = matches!(self.events, Form::Plain);
        if plain {
            json::write(out, event);
            // Replaces the closing brace.
            out.truncate(out.len().saturating_sub(1));
            out.put_slice(b",\"confirm\":true}");
        }
        plain
    }

    fn event_size(&self, event: &Event) -> usize {
        json::size(event)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
