//! Compiles arbitrary text as a filter. What compiles is evaluated, within a time limit.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidings::filter::{EventFilter, EventView};
use tidings::event::{AcceptedAt, ChannelName, Draft, Event, EventType, Headers, Payload, Timestamp};

const DATA: &[u8] = br#"{"n":7,"name":"x","items":[{"a":1},{"a":2}],"deep":{"er":{"t":true}}}"#;
/// Far more than any bounded expression takes, sanitizers included.
const PATIENCE: Duration = Duration::from_secs(2);

fuzz_target!(|source: &str| {
    let began = Instant::now();
    if let Ok(Some(filter)) = EventFilter::new([], Some(source)) {
        let now = Timestamp::now();
        let draft = Draft {
            id: Draft::new_id(now),
            channel: ChannelName::new("room:1").ok(),
            event_type: EventType::new("a.b").unwrap(),
            payload: Payload::new(Bytes::from_static(DATA), "").unwrap(),
            headers: Headers::default(),
            key: None,
            idempotency_key: None,
            audience: None,
            source: None,
            time: now,
            trace: None,
            accepted: AcceptedAt::now(),
        };
        filter.matches(&EventView::new(&Event::new(draft, None)));
    }
    assert!(
        began.elapsed() < PATIENCE,
        "{source:?} took {:?}",
        began.elapsed()
    );
});
