//! A record of a source, and the event that it becomes.

use bytes::Bytes;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::event::{
    ChannelName, Conditions, EventType, Headers, Payload, Timestamp, TraceContext, strict_json,
};
use crate::session::{Publish, Source};

/// The header that carries the trace context of the record's writer (W3C Trace Context §3.2).
const TRACEPARENT: &str = "traceparent";
/// The header with vendor data of the trace (W3C Trace Context §3.3).
const TRACESTATE: &str = "tracestate";

/// A record as it was read, nothing of it checked.
#[derive(Debug, Clone, Default)]
pub(super) struct Record<Id> {
    /// Its name in the source.
    pub(super) id: Id,
    /// The channel; empty: the source's default.
    pub(super) channel: String,
    /// The event type; empty: the source's default.
    pub(super) event_type: String,
    /// The data. `None` if it is longer than `limits.event_bytes`, and was not read.
    pub(super) data: Option<Bytes>,
    /// The media type; empty: JSON.
    pub(super) content_type: String,
    /// The conflation key; empty: none.
    pub(super) key: String,
    /// The writer's idempotency key; empty: none.
    pub(super) idempotency_key: String,
    /// The headers.
    pub(super) headers: RecordHeaders,
    /// When it was written, as far as the source knows.
    pub(super) time: Option<Timestamp>,
    /// Identifies the record when it is read again.
    pub(super) repeat_key: String,
}

/// The headers of a record.
#[derive(Debug, Clone)]
pub(super) enum RecordHeaders {
    /// As a JSON object of strings; empty: none.
    Json(String),
    /// As pairs.
    Pairs(Vec<(String, String)>),
}

impl Default for RecordHeaders {
    fn default() -> Self {
        RecordHeaders::Pairs(Vec::new())
    }
}

/// What a source supplies for records that leave it out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordDefaults {
    /// The source's name, which subscribers see as the events' source.
    pub name: String,
    /// The channel of a record that names none.
    pub channel: Option<String>,
    /// The event type of a record that names none.
    pub event_type: Option<String>,
}

impl<Id> Record<Id> {
    /// The event to publish, with the record's own idempotency key or without one.
    ///
    /// # Errors
    /// `invalid_argument` for the field that is wrong.
    pub(super) fn to_publish(&self, defaults: &RecordDefaults) -> Result<Publish> {
        let or = |own: &str, default: &Option<String>| match default {
            Some(default) if own.is_empty() => default.clone(),
            _ => own.to_owned(),
        };
        let channel = or(&self.channel, &defaults.channel);
        let channel = ChannelName::new(channel).map_err(|error| error.about("channel"))?;
        let event_type = or(&self.event_type, &defaults.event_type);
        let event_type = EventType::new(event_type).map_err(|error| error.about("type"))?;
        let data = self.data.clone();
        let too_large = || Error::field("data", "is larger than limits.event_bytes");
        let payload = Payload::new(data.ok_or_else(too_large)?, &self.content_type)?;
        let mut pairs = self.headers.pairs()?;
        let mut take = |name: &str| {
            let at = pairs.iter().position(|(own, _)| own == name)?;
            Some(pairs.swap_remove(at).1)
        };
        let (parent, state) = (take(TRACEPARENT), take(TRACESTATE));
        let trace = parent
            .and_then(|parent| TraceContext::parse(&parent, state.as_deref().unwrap_or_default()));
        Ok(Publish {
            channels: vec![channel],
            event_type,
            payload,
            headers: Headers::new(pairs)?,
            key: self.key.clone(),
            idempotency_key: self.idempotency_key.clone(),
            audience: None,
            source: Source::Named(defaults.name.clone()),
            time: self.time,
            trace,
            ttl: None,
            conditions: Conditions::default(),
        })
    }
}

impl RecordHeaders {
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        let expected = || Error::field("headers", "expected a JSON object of strings");
        match self {
            RecordHeaders::Pairs(pairs) => Ok(pairs.clone()),
            RecordHeaders::Json(text) if text.is_empty() => Ok(Vec::new()),
            RecordHeaders::Json(text) => match strict_json::value(text.as_bytes()) {
                Ok(Value::Null) => Ok(Vec::new()),
                Ok(Value::Object(members)) => members
                    .into_iter()
                    .map(|(name, value)| match value {
                        Value::String(text) => Ok((name, text)),
                        _ => Err(expected()),
                    })
                    .collect(),
                _ => Err(expected()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<u64> {
        Record {
            id: 1,
            channel: String::from("room:1"),
            event_type: String::from("a.b"),
            data: Some(Bytes::from_static(b"{\"n\": 1}")),
            ..Record::default()
        }
    }

    fn refused(record: &Record<u64>) -> Option<String> {
        let error = record.to_publish(&RecordDefaults::default()).err()?;
        error.field_name().map(str::to_owned)
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(refused(&record()), None);
        let wrong = |field: &str, change: fn(&mut Record<u64>)| {
            let mut record = record();
            change(&mut record);
            assert_eq!(refused(&record).as_deref(), Some(field));
        };
        wrong("channel", |record| record.channel = String::from("a b"));
        wrong("channel", |record| record.channel.clear());
        wrong("type", |record| record.event_type = String::from("9"));
        wrong("data", |record| record.data = None);
        wrong("data", |record| {
            record.data = Some(Bytes::from_static(b"{"))
        });
        wrong("headers", |record| {
            record.headers = RecordHeaders::Json("{\"a\":1}".into())
        });
        wrong("headers", |record| {
            record.headers = RecordHeaders::Json("[".into())
        });
    }

    #[test]
    fn defaults_fill_what_a_record_leaves_out() {
        let defaults = RecordDefaults {
            name: String::from("orders"),
            channel: Some(String::from("room:2")),
            event_type: Some(String::from("c.d")),
        };
        let publish = record().to_publish(&defaults).unwrap();
        assert_eq!(publish.channels[0].as_str(), "room:1");
        let mut bare = record();
        bare.channel.clear();
        bare.event_type.clear();
        let publish = bare.to_publish(&defaults).unwrap();
        assert_eq!(publish.channels[0].as_str(), "room:2");
        assert_eq!(publish.event_type.as_str(), "c.d");
        assert_eq!(publish.source, Source::Named(String::from("orders")));
    }

    #[test]
    fn trace_context_is_taken_out_of_the_headers() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut traced = record();
        traced.headers = RecordHeaders::Json(format!(r#"{{"a":"b","traceparent":"{parent}"}}"#));
        let publish = traced.to_publish(&RecordDefaults::default()).unwrap();
        let headers: Vec<_> = publish.headers.iter().collect();
        assert_eq!(headers, [("a", "b")]);
        assert_eq!(publish.trace.unwrap().span_id, 0xb7ad_6b71_6920_3331);
    }
}
