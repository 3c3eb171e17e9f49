//! Dialects in JSON.

mod event;
mod reply;

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use self::event::Envelope;
use super::arguments::{Arguments, request_id};
use super::cloud_events::cloud_event;
use super::commands::{Command, Kind};
use super::definition::{CommandWords, Definition};
use super::request::{Asked, Incoming, RequestId, Unread};
use super::said::Said;
use super::voice::{Dialect, Message};
use crate::error::{Error, Result};
use crate::event::{Event, json};

/// A dialect in JSON.
#[derive(Debug, Clone)]
pub struct Words {
    definition: Arc<Definition>,
    events: Form,
}

/// How events are written.
#[derive(Debug, Clone)]
enum Form {
    /// As in the dialect `tidings`.
    Plain,
    /// As `CloudEvents`.
    CloudEvent,
    /// As the definition says.
    Envelope(Envelope),
}

impl Default for Words {
    fn default() -> Self {
        Words::tidings()
    }
}

impl Words {
    /// The dialect `tidings`.
    #[must_use]
    pub fn tidings() -> Self {
        Words::new(Arc::default())
    }

    /// The dialect `tidings` with events as `CloudEvents`.
    #[must_use]
    pub fn cloud_events() -> Self {
        Words {
            definition: Arc::default(),
            events: Form::CloudEvent,
        }
    }

    /// A dialect that calls things so.
    #[must_use]
    pub fn new(definition: Arc<Definition>) -> Self {
        let events = if definition.event == Definition::default().event {
            Form::Plain
        } else {
            Form::Envelope(Envelope::new(&definition.event))
        };
        Words { definition, events }
    }

    /// What the dialect says of a command with this name.
    fn command(&self, name: &str) -> Option<&CommandWords> {
        let mut commands = self.definition.commands.iter();
        commands.find(|command| command.name == name)
    }

    /// Takes a message apart: what it is called, and its arguments.
    fn open<'a>(incoming: &Incoming<'a>) -> Result<Opened<'a>> {
        let (name, text) = match *incoming {
            Incoming::Text(text) => (None, text),
            Incoming::Named { name, argument, .. } => (Some(name), argument),
            Incoming::Binary(_) => return Err(Error::invalid("expected text")),
        };
        let arguments = Arguments::parse(text)?;
        Ok(Opened { name, arguments })
    }
}

struct Opened<'a> {
    name: Option<&'a str>,
    arguments: Arguments<'a>,
}

impl Opened<'_> {
    fn name(&self) -> Result<std::borrow::Cow<'_, str>> {
        match self.name {
            Some(name) => Ok(name.into()),
            None => self.arguments.required_text("type"),
        }
    }
}

impl Dialect for Words {
    fn asked(&self, incoming: &Incoming<'_>) -> Asked {
        let mut asked = Asked::default();
        if let Ok(opened) = Self::open(incoming) {
            if let Ok(Some(id)) = request_id(&opened.arguments) {
                asked.id = RequestId::Given(id);
            }
            let name = opened.name().unwrap_or_default().into_owned();
            let command = self
                .command(&name)
                .filter(|command| !command.echo.is_empty());
            if let Some(command) = command {
                let arguments = opened.arguments.with_data();
                let echoed = command.echo.iter().filter_map(|member| {
                    let value = arguments.member(member)?;
                    Some((member.as_str().into(), value.to_owned()))
                });
                asked.echoed = echoed.collect();
            }
        }
        if let Incoming::Named {
            token: Some(token), ..
        } = incoming
        {
            asked.id = RequestId::Token(*token);
        }
        asked
    }

    fn read(&self, incoming: &Incoming<'_>) -> Result<Command, Unread> {
        let opened = Self::open(incoming)?;
        request_id(&opened.arguments)?;
        let name = opened.name()?.into_owned();
        let words = self.command(&name);
        let kind = words.map_or_else(|| Kind::of(&name), |words| Some(words.does));
        let kind = kind.ok_or_else(|| Unread {
            error: Kind::unknown(&name),
            guarded: true,
        })?;
        let mut arguments = opened.arguments;
        if let Some(words) = words {
            arguments = arguments.translated(&words.members, words.channels.as_ref());
        }
        // Beside the channel of an event, `data` is what is published.
        if kind != Kind::Publish || !arguments.names_channel() {
            arguments = arguments.with_data();
        }
        kind.read(&arguments).map_err(|error| Unread {
            error,
            guarded: !kind.is_open(),
        })
    }

    fn said(&self, asked: &Asked, said: &Said<'_>, out: &mut dyn FnMut(Message<'_>)) {
        self.reply(asked, said, out);
    }

    fn event(&self, out: &mut BytesMut, event: &Event) {
        match &self.events {
            Form::Plain => json::write(out, event),
            Form::CloudEvent => out.put_slice(&cloud_event(event)),
            Form::Envelope(envelope) => envelope.write(out, event),
        }
    }

    fn event_size(&self, event: &Event) -> usize {
        json::size(event)
    }
}

#[cfg(test)]
mod tests;
