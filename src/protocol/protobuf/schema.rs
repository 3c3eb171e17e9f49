//! Conversions between values of the protobuf schema and the types of `event/`.

use std::sync::Arc;

use crate::error::Result;
use crate::event::{Epoch, Event, Position, Timestamp};
use crate::proto;

/// A timestamp.
#[must_use]
pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    }
}

/// A client's timestamp; `None` outside of the years 1 to 9999, the range of RFC 3339.
#[must_use]
pub fn moment(time: prost_types::Timestamp) -> Option<Timestamp> {
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let can_be = SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    can_be.then(|| Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos / 1000)))
}

/// A client's position.
///
/// # Errors
/// `invalid_argument` for the field `since.epoch`.
pub fn since(position: &proto::Position) -> Result<Position> {
    let epoch: Result<Epoch> = position.epoch.parse();
    Ok(Position {
        epoch: epoch.map_err(|error| error.within("since"))?,
        offset: position.offset,
    })
}

/// A position.
#[must_use]
pub fn position(position: Position) -> proto::Position {
    proto::Position {
        epoch: position.epoch.to_string(),
        offset: position.offset,
    }
}

/// An event as subscribers receive it.
#[must_use]
pub fn event(event: &Event) -> proto::Event {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let trace = event.trace.as_ref();
    proto::Event {
        id: event.id.to_string(),
        r#type: event.event_type.to_string(),
        channel: event
            .channel
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        time: Some(timestamp(event.time)),
        data: event.payload.data().clone(),
        content_type: event.payload.content_type().to_owned(),
        source: text(&event.source),
        headers: event
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        traceparent: trace.map(ToString::to_string).unwrap_or_default(),
        tracestate: trace.map(|trace| text(&trace.state)).unwrap_or_default(),
        position: event.position.map(position),
    }
}
