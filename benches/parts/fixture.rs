//! Events, frames and a hub to measure with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidings::broker::{Bounds, Broker, Memory, Range};
use tidings::event::{
    AcceptedAt, ChannelName, Draft, Epoch, Event, EventType, Headers, HistoryPolicy, Namespace,
    Namespaces, Payload, Position, Timestamp,
};
use tidings::hub::{Hub, HubParts, Settings};
use tidings::maybe_ready::MaybeReady;
use tidings::telemetry::{Metrics, Tracing};
use tidings_websocket::client::frame::client_frame as framed;
use tidings_websocket::frame::Opcode;

/// The channel of all events.
pub(crate) fn channel() -> ChannelName {
    ChannelName::new("project:42").expect("a channel")
}

/// The draft that a transport passes to the broker, with this many bytes of JSON.
pub(crate) fn draft(data: usize) -> Draft {
    let now = Timestamp::now();
    let before = r#"{"part":7,"pad":""#;
    let pad = "x".repeat(data.saturating_sub(before.len() + 2));
    let json = Bytes::from(format!("{before}{pad}\"}}"));
    Draft {
        id: Draft::new_id(now),
        channel: Some(channel()),
        event_type: EventType::new("project.7.updated").expect("a type"),
        payload: Payload::new(json, "").expect("JSON"),
        headers: Headers::default(),
        key: None,
        idempotency_key: None,
        audience: None,
        source: None,
        time: now,
        trace: None,
        accepted: AcceptedAt::now(),
    }
}

/// The same as an event with a position.
pub(crate) fn event(data: usize, offset: u64) -> Event {
    let epoch = Epoch::random();
    Event::new(draft(data), Some(Position { epoch, offset }))
}

/// A client's text frame with this many bytes, masked.
pub(crate) fn client_frame(payload: usize) -> Vec<u8> {
    framed(Opcode::Text, &vec![b'x'; payload])
}

/// A hub with its shards and a store, as the server has them.
pub(crate) struct TestHub {
    pub(crate) broker: Arc<dyn Broker>,
    hub: Arc<Hub>,
    /// The runtime of the hub's own tasks.
    _runtime: tokio::runtime::Runtime,
}

impl TestHub {
    /// A hub whose channels keep this many events. 0 keeps none.
    pub(crate) fn new(history: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let inside = runtime.enter();
        let keeping = Namespace {
            history: HistoryPolicy {
                size: history,
                ttl: Duration::from_hours(1),
                bytes: usize::MAX,
            },
            ..Namespace::named("project")
        };
        let namespaces = Arc::new(ArcSwap::from_pointee(Namespaces::new([keeping])));
        let metrics = Metrics::new("bench");
        let builder = Hub::builder(
            2,
            Settings::sample(),
            Arc::clone(&namespaces),
            Arc::clone(&metrics),
            Arc::new(Tracing::off()),
        )
        .expect("event queues");
        let sink = builder.sink();
        let broker: Arc<dyn Broker> =
            Arc::new(Memory::new(namespaces, sink, metrics, Bounds::default()));
        let hub = builder
            .start(HubParts::new(Arc::clone(&broker)))
            .expect("threads");
        drop(inside);
        TestHub {
            broker,
            hub,
            _runtime: runtime,
        }
    }

    /// A hub whose channel holds this many events.
    pub(crate) fn holding(events: usize) -> Self {
        let hub = TestHub::new(events);
        for _ in 0..events {
            match hub.broker.publish(draft(200)) {
                MaybeReady::Ready(Ok(_)) => {}
                MaybeReady::Ready(Err(_)) | MaybeReady::Pending(_) => {
                    panic!("an event was refused")
                }
            }
        }
        hub
    }

    /// Before the first event.
    pub(crate) fn start(&self) -> Position {
        match self.broker.read(&channel(), Range::all(0)) {
            MaybeReady::Ready(Ok(Some(page))) => Position {
                offset: 0,
                ..page.top
            },
            MaybeReady::Ready(_) | MaybeReady::Pending(_) => panic!("the channel keeps no history"),
        }
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.hub.stop();
    }
}
