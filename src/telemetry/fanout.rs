//! The spans of an event between publish and delivery: `commit` and `fanout`.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry::trace::{SpanId, SpanKind, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer};
use uuid::Uuid;

use super::open_fanouts::OpenFanout;
use super::span::{Span, to_sdk};
use super::spans::{Parent, Tracing, message};
use crate::event::{ChannelName, Event, TraceContext};

/// The most links of a group commit's span.
const MAX_LINKS: usize = 128;

thread_local! {
    /// The id of the next span on this thread, if it was reserved.
    static RESERVED: Cell<Option<SpanId>> = const { Cell::new(None) };
}

/// Random ids, except reserved ones: an event carries the id of its `fanout` span to disk, long
/// before that span starts.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        self.0.new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        RESERVED.take().unwrap_or_else(|| self.0.new_span_id())
    }
}

/// The spans of one event on its way to its subscribers on this node: `commit` until it has a
/// position, then `fanout`, which every delivering thread updates and which ends when the last one
/// drops it. The event carries the context of its publisher's `fanout` from the start. On another
/// node, `fanout` is a child of that one.
#[derive(Debug)]
pub struct FanoutSpan(Box<EventTrace>);

#[derive(Debug)]
struct EventTrace {
    commit: Span,
    /// Until it begins.
    planned: Option<Planned>,
    fanout: Span,
    /// The context of `fanout`.
    context: TraceContext,
    subscribers: AtomicU64,
    delivered: AtomicU64,
    filtered: AtomicU64,
    dropped: AtomicU64,
}

/// A `fanout` that has not started.
#[derive(Debug)]
struct Planned {
    tracer: SdkTracer,
    id: SpanId,
    attributes: Vec<KeyValue>,
}

impl Tracing {
    /// An event is committed, and then fanned out. The parent is `publish`. `None` if it will not
    /// be recorded.
    #[must_use]
    pub fn fanout(
        &self,
        channel: Option<&ChannelName>,
        id: Uuid,
        parent: Option<&TraceContext>,
    ) -> Option<FanoutSpan> {
        let on = self.on.as_ref()?;
        let commit = self.start(SpanKind::Internal, Parent::Local(parent), || {
            ("commit".into(), message("send", "commit", channel, id))
        });
        let context = commit.context().filter(|_| commit.is_recording())?;
        let span_id = fastrand::u64(1..);
        Some(FanoutSpan(Box::new(EventTrace {
            commit,
            planned: Some(Planned {
                tracer: on.tracer.clone(),
                id: span_id.into(),
                attributes: message("send", "fanout", channel, id),
            }),
            fanout: Span::none(),
            context: TraceContext { span_id, ..context },
            subscribers: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })))
    }

    /// Keeps the span of a publish until [`Tracing::begin_fanout`]. `None` if there is no space or
    /// tracing is off: the span ends, and the event must carry another context.
    #[must_use]
    pub fn register(&self, span: FanoutSpan) -> Option<OpenFanout> {
        self.on.as_ref()?.open.insert(span)
    }

    /// The broker has answered the publish. If it did not deliver the event, its span ends.
    pub fn unregister(&self, span: OpenFanout) {
        if let Some(on) = &self.on {
            drop(on.open.remove(span));
        }
    }

    /// An event is delivered on this node: `fanout` starts. It is the registered one if the event
    /// was published here, and else a child of what the event carries. `None` if it will not be
    /// recorded.
    #[must_use]
    pub fn begin_fanout(&self, event: &Event) -> Option<FanoutSpan> {
        let carried = event.trace.as_ref().filter(|trace| trace.sampled)?;
        let on = self.on.as_ref()?;
        match on.open.take(carried) {
            Some(mut span) => {
                span.begin();
                Some(span)
            }
            None => self.fanout_of_another_node(event, carried),
        }
    }

    #[cold]
    fn fanout_of_another_node(&self, event: &Event, carried: &TraceContext) -> Option<FanoutSpan> {
        let fanout = self.start(SpanKind::Internal, Parent::Remote(Some(carried)), || {
            let attributes = message("send", "fanout", event.channel.as_ref(), event.id);
            ("fanout".into(), attributes)
        });
        let context = fanout.context().filter(|_| fanout.is_recording())?;
        Some(FanoutSpan(Box::new(EventTrace {
            commit: Span::none(),
            planned: None,
            fanout,
            context,
            subscribers: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })))
    }

    /// A group commit: a span `commit batch` in the trace of the first of these events that is
    /// traced, linked to the `commit` of each. `events` is the number of events with those that are
    /// not traced. Nothing if fewer than two events are written, or if none of them is traced.
    #[must_use]
    pub fn commit_batch<'e>(
        &self,
        traces: impl Iterator<Item = &'e TraceContext>,
        events: usize,
    ) -> Span {
        let Some(on) = self.on.as_ref().filter(|_| events > 1) else {
            return Span::none();
        };
        let commit_of = |span: &mut FanoutSpan| span.0.commit.context();
        let mut commits = traces.filter(|trace| trace.sampled).filter_map(|trace| {
            let commit = on.open.with(trace, commit_of)??;
            Some((trace, commit))
        });
        let Some(first) = commits.next() else {
            return Span::none();
        };
        let parent = &first.1;
        let context = Context::new().with_remote_span_context(to_sdk(parent, false));
        let count = KeyValue::new(
            "messaging.batch.message_count",
            i64::try_from(events).unwrap_or(i64::MAX),
        );
        let builder = on
            .tracer
            .span_builder("commit batch")
            .with_kind(SpanKind::Internal)
            .with_attributes([KeyValue::new("messaging.system", "tidings"), count]);
        let span = on.tracer.build_with_context(builder, &context);
        let mut batch = Span::started(span, false, parent.state.clone());
        let own = batch.context();
        let linked = std::iter::once(&first).cloned();
        for (trace, commit) in linked.chain(commits).take(MAX_LINKS) {
            batch.link(&commit);
            if let Some(own) = &own {
                on.open.with(trace, |span| span.0.commit.link(own));
            }
        }
        batch
    }
}

impl FanoutSpan {
    /// The context of `fanout`, which an event that is published on this node carries.
    #[must_use]
    pub fn context(&self) -> &TraceContext {
        &self.0.context
    }

    /// The event has a position: `commit` ends, and `fanout` starts.
    fn begin(&mut self) {
        let way = &mut *self.0;
        let Some(planned) = way.planned.take() else {
            return;
        };
        let commit = mem::take(&mut way.commit);
        let parent = commit.context();
        drop(commit);
        let mut context = Context::new();
        if let Some(parent) = &parent {
            context = context.with_remote_span_context(to_sdk(parent, false));
        }
        let builder = planned
            .tracer
            .span_builder("fanout")
            .with_kind(SpanKind::Internal)
            .with_attributes(planned.attributes);
        RESERVED.set(Some(planned.id));
        let span = planned.tracer.build_with_context(builder, &context);
        // The provider was shut down before it used the reserved id.
        RESERVED.set(None);
        way.fanout = Span::started(span, false, parent.and_then(|parent| parent.state));
    }

    /// Adds the counts of one thread: subscribers reached, delivered, withheld and dropped.
    pub fn add(&self, subscribers: u64, delivered: u64, filtered: u64, dropped: u64) {
        self.0.subscribers.fetch_add(subscribers, Relaxed);
        self.0.delivered.fetch_add(delivered, Relaxed);
        self.0.filtered.fetch_add(filtered, Relaxed);
        self.0.dropped.fetch_add(dropped, Relaxed);
    }

    /// Adds the last counts and ends the span.
    pub fn finish(self, subscribers: u64, delivered: u64, filtered: u64, dropped: u64) {
        self.add(subscribers, delivered, filtered, dropped);
    }
}

impl Drop for EventTrace {
    fn drop(&mut self) {
        if self.fanout.is_recording() {
            for (key, count) in [
                ("tidings.subscribers", &self.subscribers),
                ("tidings.delivered", &self.delivered),
                ("tidings.filtered", &self.filtered),
                ("tidings.dropped", &self.dropped),
            ] {
                let count = i64::try_from(count.load(Relaxed)).unwrap_or(i64::MAX);
                self.fanout.attribute(key, count);
            }
        }
    }
}
