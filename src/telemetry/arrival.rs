//! The last spans of a trace: delivery to one connection, and handling by its page.

use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanKind, Tracer};
use uuid::Uuid;

use super::labels::Transport;
use super::span::to_sdk;
use super::spans::{Parent, Tracing, connection_id, message};
use crate::event::{ChannelName, ConnectionId, TraceContext};

/// An event and the connection that received it.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// The event's channel. `None` if it was sent directly to its audience.
    pub channel: Option<&'a ChannelName>,
    /// The event.
    pub id: Uuid,
    /// The connection.
    pub connection: ConnectionId,
    /// The context that the event carries: that of its `fanout` span.
    pub event: &'a TraceContext,
}

/// A page's report about an event, converted to the server's clock.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it arrived.
    pub arrived: SystemTime,
    /// When the page's handler returned.
    pub handled: SystemTime,
    /// The offset of the page's clock from the server's, in milliseconds.
    pub clock_offset_ms: i64,
    /// The round trip time by which the offset was measured.
    pub round_trip: Duration,
}

impl Tracing {
    /// The delivery of an event to one connection, from its outbox to the socket. Returns the
    /// span's context, or `None` if tracing is off.
    pub fn deliver(
        &self,
        what: Delivered<'_>,
        transport: Transport,
        put: SystemTime,
        written: SystemTime,
    ) -> Option<TraceContext> {
        let on = self.on.as_ref()?;
        let mut attributes = message("process", "deliver", what.channel, what.id);
        attributes.push(connection_id(what.connection));
        attributes.push(KeyValue::new("tidings.transport", transport.as_str()));
        let builder = on
            .tracer
            .span_builder("deliver")
            .with_kind(SpanKind::Consumer)
            .with_start_time(put)
            .with_links(vec![Link::with_context(to_sdk(what.event, false))])
            .with_attributes(attributes);
        let span = on.begin(builder, false, Parent::Local(Some(what.event)));
        let context = span.context();
        span.end_at(written.max(put));
        context
    }

    /// The handling of an event by a page. `parent` is the context of its `deliver` span if there
    /// is one, else of its `fanout` span.
    pub fn receive(&self, what: Delivered<'_>, arrival: Arrival, parent: &TraceContext) {
        let Some(on) = &self.on else { return };
        let mut attributes = message("process", "receive", what.channel, what.id);
        let round_trip = i64::try_from(arrival.round_trip.as_millis()).unwrap_or(i64::MAX);
        attributes.extend([
            connection_id(what.connection),
            KeyValue::new("tidings.clock_offset_ms", arrival.clock_offset_ms),
            KeyValue::new("tidings.round_trip_ms", round_trip),
        ]);
        let mut builder = on
            .tracer
            .span_builder("receive")
            .with_kind(SpanKind::Consumer)
            .with_start_time(arrival.arrived)
            .with_attributes(attributes);
        if parent != what.event {
            builder = builder.with_links(vec![Link::with_context(to_sdk(what.event, false))]);
        }
        on.begin(builder, false, Parent::Remote(Some(parent)))
            .end_at(arrival.handled.max(arrival.arrived));
    }
}
