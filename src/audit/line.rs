//! Formats a record as one JSON line.

use std::io;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer as _};
use serde_json::ser::{CharEscape, Formatter};

use super::{Record, What};
use crate::event::Timestamp;
use crate::telemetry::Transport;

/// The longest string in characters, because clients may send long ones.
const MAX_TEXT: usize = 256;

/// JSON on one line without active characters. In addition to what JSON requires, everything that a
/// terminal or a line reader might interpret is escaped.
struct Inert;

impl Formatter for Inert {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut units = [0; 2];
        let mut plain = 0;
        for (at, letter) in fragment
            .char_indices()
            .filter(|(_, letter)| is_active(*letter))
        {
            let before = fragment.get(plain..at).unwrap_or_default();
            writer.write_all(before.as_bytes())?;
            for unit in letter.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain = at + letter.len_utf8();
        }
        let rest = fragment.get(plain..).unwrap_or_default();
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

/// Control characters, line and paragraph separators, and bidirectional controls.
fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Line<'a>(What, &'a Record<'a>);

impl Serialize for Line<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line(what, record) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &Timestamp::now().to_rfc3339())?;
        map.serialize_entry("event", what.as_str())?;
        let mut text = |name: &str, value: Option<&str>| match value {
            Some(value) => map.serialize_entry(name, short(value)),
            None => Ok(()),
        };
        let connection = record.connection.map(|id| id.to_string());
        let address = record.address.map(|address| match address.port() {
            0 => address.ip().to_string(),
            _ => address.to_string(),
        });
        text("connection", connection.as_deref())?;
        text("user", record.user)?;
        text("address", address.as_deref())?;
        text("transport", record.transport.map(Transport::as_str))?;
        text("channel", record.channel)?;
        text("event_type", record.event_type)?;
        let id = record.id.map(|id| id.to_string());
        text("id", id.as_deref())?;
        let close = record.close.map(|code| code.to_string());
        let code = record.error.map(|error| error.code().as_str());
        text("code", code.or(close.as_deref()))?;
        let message = record.error.map(crate::error::Error::message);
        text("reason", record.reason.or(message.as_deref()))?;
        text("by", record.by)?;
        if !record.roles.is_empty() {
            let roles: Vec<&str> = record.roles.iter().map(Arc::as_ref).map(short).collect();
            map.serialize_entry("roles", &roles)?;
        }
        map.end()
    }
}

fn short(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_TEXT).map(|(at, _)| at);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The line, including its terminator.
pub(super) fn of(what: What, record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Inert);
    if Line(what, record).serialize(&mut serializer).is_err() {
        // Cannot fail: strings and numbers are written to memory.
        line.clear();
    }
    line.push(b'\n');
    line
}

/// The line that reports how many records were dropped.
pub(super) fn dropped(count: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        map.serialize_entry("time", &Timestamp::now().to_rfc3339())?;
        map.serialize_entry("event", "dropped")?;
        map.serialize_entry("count", &count)?;
        map.end()
    });
    if written.is_err() {
        line.clear();
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn text(record: &Record<'_>) -> String {
        String::from_utf8(of(What::Refused, record)).expect("UTF-8")
    }

    #[test]
    fn client_text_is_escaped() {
        let evil = "a\"\n{\"event\":\"forged\"}\r\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\u{0}ä";
        let line = text(&Record {
            user: Some(evil),
            channel: Some(evil),
            ..Record::default()
        });
        assert!(line.ends_with('\n'));
        let inside = line.trim_end_matches('\n');
        assert!(!inside.chars().any(is_active), "{inside:?}");
        let read: serde_json::Value = serde_json::from_str(inside).expect("JSON");
        assert_eq!(read["user"], evil);
        assert_eq!(read["event"], "refused");
    }

    #[test]
    fn long_strings_are_truncated() {
        let long = "ä".repeat(10_000);
        let line = text(&Record {
            channel: Some(&long),
            reason: Some(&long),
            ..Record::default()
        });
        assert!(line.len() < 2000, "{}", line.len());
    }

    #[test]
    fn error_has_code_and_reason_without_empty_fields() {
        let error = Error::denied("this origin may not connect");
        let roles = [Arc::from("admin")];
        let line = text(&Record {
            error: Some(&error),
            transport: Some(Transport::Sse),
            roles: &roles,
            address: Some(([1, 2, 3, 4], 0).into()),
            ..Record::default()
        });
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["code"], "permission_denied");
        assert_eq!(read["reason"], "this origin may not connect");
        assert_eq!(read["transport"], "sse");
        assert_eq!(read["address"], "1.2.3.4");
        assert_eq!(read["roles"][0], "admin");
        assert!(read.get("user").is_none() && read.get("by").is_none());
    }
}
