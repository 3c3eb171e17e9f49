//! Events in the envelope of a custom dialect.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::Event;
use crate::event::json::{self, Member};
use crate::event::strict_json::Text;
use crate::protocol::custom::EventWords;

/// The envelope of an event.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    members: Vec<Member>,
    /// The prefix of the data: a comma, the member's name and a colon.
    data: Vec<u8>,
    /// Whether the data's own members are at the top level.
    flat: bool,
}

impl Envelope {
    /// The envelope of a definition.
    pub(super) fn new(definition: &EventWords) -> Self {
        let flat = definition.data.is_empty();
        let name = if flat { "data" } else { &definition.data };
        let mut data = BytesMut::from(",");
        json::put_text(&mut data, name);
        data.put_u8(b':');
        Envelope {
            members: definition.members.clone(),
            data: data.into(),
            flat,
        }
    }

    /// Appends an event.
    pub(super) fn write(&self, out: &mut BytesMut, event: &Event) {
        let start = out.len();
        let object = if self.flat { Object::of(event) } else { None };
        if let Some(object) = object {
            self.write_flat(out, event, &object);
        } else {
            for member in &self.members {
                json::put_member(out, event, *member);
            }
            json::put_data(out, event, &self.data);
            json::put_content_type(out, event);
        }
        json::close(out, start);
    }

    /// An object must not have duplicate names: the data's own members take precedence, except for
    /// `type`, by which clients distinguish messages.
    fn write_flat(&self, out: &mut BytesMut, event: &Event, object: &Object<'_>) {
        for member in &self.members {
            let taken = object.has(member.name())
                // `tracestate` is only valid together with its `traceparent`.
                || (*member == Member::Traceparent && object.has("tracestate"));
            if !taken || *member == Member::Type {
                json::put_member(out, event, *member);
            }
        }
        if !object.has("content_type") {
            json::put_content_type(out, event);
        }
        if self.members.contains(&Member::Type) && object.has("type") {
            object.put_members(out, |name| name != "type");
        } else {
            object.splice(out);
        }
    }
}

/// Data that is an object, split into its members.
struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The text between its braces.
    inside: &'a [u8],
}

impl<'a> Object<'a> {
    /// The data of an event; `None` if it is not an object.
    fn of(event: &'a Event) -> Option<Self> {
        let data = event.payload.data();
        if !event.payload.is_json() || data.trim_ascii().first() != Some(&b'{') {
            return None;
        }
        let mut parser = serde_json::Deserializer::from_slice(data);
        let members = parser.deserialize_map(Members).ok()?;
        let inside = data.trim_ascii();
        let inside = inside.strip_prefix(b"{")?.strip_suffix(b"}")?;
        Some(Object { members, inside })
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Appends all members, byte for byte as in the data.
    fn splice(&self, out: &mut BytesMut) {
        if !self.members.is_empty() {
            out.put_u8(b',');
            out.put_slice(self.inside);
        }
    }

    /// Appends the selected members, their values byte for byte.
    fn put_members(&self, out: &mut BytesMut, wanted: impl Fn(&str) -> bool) {
        for (name, value) in self.members.iter().filter(|(name, _)| wanted(name)) {
            out.put_u8(b',');
            json::put_text(out, name);
            out.put_u8(b':');
            out.put_slice(value.get().as_bytes());
        }
    }
}

/// Collects an object's members, duplicates included.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            members.push((name.0, value));
        }
        Ok(members)
    }
}
