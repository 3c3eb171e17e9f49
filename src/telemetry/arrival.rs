//! The spans at the end of a trace: one connection is handed an event, and its page handles it.

use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanKind, Tracer};
use uuid::Uuid;

use super::labels::Transport;
use super::span::to_sdk;
use super::spans::{Parent, Tracing, connection_id, message};
use crate::event::{ChannelName, ConnectionId, TraceContext};

/// An event and the connection that it went to.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// The event's channel; `None` where it went straight to its audience.
    pub channel: Option<&'a ChannelName>,
    /// The event.
    pub id: Uuid,
    /// The connection.
    pub connection: ConnectionId,
    /// What the event carries: the context of its `fanout`.
    pub event: &'a TraceContext,
}

/// What a page said about an event, by the server's clock.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it arrived.
    pub arrived: SystemTime,
    /// When the page's handler had returned.
    pub handled: SystemTime,
    /// By how much the page's clock is ahead of the server's, in milliseconds.
    pub clock_offset_ms: i64,
    /// The round trip by which that was found.
    pub round_trip: Duration,
}

impl Tracing {
    /// One event went to one connection: from being put into its outbox until it was handed to
    /// the socket. Answers the context of the span, `None` where tracing is off.
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

    /// A page has handled an event. `parent` is the context of its `deliver` where there is one,
    /// else that of its `fanout`.
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
