//! Micro-benchmarks of a delivery: the cost of an event, or of one subscriber's share of it,
//! without sockets. `benches/run.py` measures the total.
//!
//! ```sh
//! cargo bench --bench parts --features parts
//! ```

#![expect(
    clippy::expect_used,
    reason = "a measurement that is set up wrongly must end"
)]
#![expect(
    clippy::wildcard_imports,
    reason = "the groups are chapters of this file"
)]

#[path = "parts/fixture.rs"]
mod fixture;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tidings::broker::Range;
use tidings::event::{Event, TypePattern};
use tidings::filter::EventFilter;
use tidings::hub::Protocol;
use tidings::hub::parts::{Frames, Matcher, Run, Waiting, count};
use tidings_websocket::deflate::{Deflater, Inflater};
use tidings_websocket::frame::{self, Opcode, Params};

use fixture::{channel, client_frame, draft, event};

/// The server's allocator, because another one would change the figures.
#[global_allocator]
static ALLOCATOR: tidings_malloc::Allocator = tidings_malloc::Allocator;

/// Bytes of data in an event, as in `benches/run.py`.
const DATA: usize = 200;
/// The most events in one batch.
const RUN: u64 = 64;

fn main() {
    // A hundred at a time, because some parts take hardly longer than reading the clock.
    divan::Divan::default()
        .sample_size(100)
        .config_with_args()
        .main();
}

/// Encoding an event for each codec: once for all subscribers.
#[divan::bench_group]
mod encode {
    use super::*;

    #[divan::bench(args = [DATA, 16 * 1024])]
    fn websocket(bencher: Bencher, data: usize) {
        let event = event(data, 1);
        bencher.bench(|| tidings::transport::ws::event_frame(black_box(&event)));
    }

    #[divan::bench(args = [DATA, 16 * 1024])]
    fn grpc(bencher: Bencher, data: usize) {
        dialect(bencher, &*tidings::transport::grpc::dialect(), data);
    }

    #[divan::bench(args = [DATA, 16 * 1024])]
    fn sse(bencher: Bencher, data: usize) {
        dialect(bencher, &*tidings::transport::http::sse_dialect(), data);
    }

    fn dialect(bencher: Bencher, dialect: &dyn Protocol, data: usize) {
        let event = event(data, 1);
        bencher.bench(|| dialect.event(black_box(&event)));
    }

    /// permessage-deflate: once for all subscribers that negotiated it.
    #[divan::bench(args = [DATA, 16 * 1024])]
    fn deflate(bencher: Bencher, data: usize) {
        let json = tidings::event::json::object(&event(data, 1));
        let mut deflater = Deflater::new();
        bencher.bench_local(|| deflater.compress(Opcode::Text, black_box(&json), 15));
    }
}

/// Ten filters and a batch of 64 events. The figure is for one event and all ten filters.
#[divan::bench_group]
mod matching {
    use super::*;

    #[divan::bench]
    fn ten_types(bencher: Bencher) {
        let filters = (0..10).map(|n| types(&format!("project.{n}.*"), None));
        ask(bencher, filters);
    }

    #[divan::bench]
    fn ten_expressions(bencher: Bencher) {
        let filters = (0..10).map(|n| types("*", Some(&format!("data.part != {n}"))));
        ask(bencher, filters);
    }

    #[divan::bench]
    fn ten_expressions_on_the_type(bencher: Bencher) {
        let filters = (0..10).map(|n| types("*", Some(&format!("event_type != 'project.{n}'"))));
        ask(bencher, filters);
    }

    fn types(pattern: &str, source: Option<&str>) -> Arc<EventFilter> {
        let pattern = TypePattern::parse(pattern).expect("a pattern");
        EventFilter::new([pattern], source)
            .expect("a filter")
            .expect("one that does not let everything through")
    }

    fn ask(bencher: Bencher, filters: impl Iterator<Item = Arc<EventFilter>>) {
        let filters: Vec<_> = filters.collect();
        let events: Vec<Arc<Event>> = (1..=RUN).map(|n| Arc::new(event(DATA, n))).collect();
        let mut matcher = Matcher::new(&filters);
        bencher
            .counter(ItemsCount::new(RUN))
            .with_inputs(|| Run::new(&events))
            .bench_local_refs(|run| matcher.ask(run));
    }
}

/// One subscriber's share: queueing frames, gathering them for the write, removing them.
#[divan::bench_group]
mod outbox {
    use super::*;

    #[divan::bench(args = [1, RUN])]
    fn pass(bencher: Bencher, frames: u64) {
        let frames = Frames::new(&frame(), frames);
        let mut waiting = Waiting::default();
        bencher.bench_local(|| waiting.pass(black_box(&frames)));
    }

    /// 64 events in one buffer.
    #[divan::bench]
    fn pass_joined(bencher: Bencher) {
        let frames = Frames::new(&frame(), RUN).joined();
        let mut waiting = Waiting::default();
        bencher.bench_local(|| waiting.pass(black_box(&frames)));
    }

    /// Building that buffer: once for all subscribers that receive the same events.
    #[divan::bench]
    fn join(bencher: Bencher) {
        let frames = Frames::new(&frame(), RUN);
        bencher
            .counter(ItemsCount::new(RUN))
            .bench_local(|| black_box(&frames).joined());
    }

    fn frame() -> Bytes {
        tidings::transport::ws::event_frame(&event(DATA, 1))
    }
}

/// Decoding client messages, and encoding frame headers.
#[divan::bench_group]
mod codec {
    use super::*;

    #[divan::bench(args = [100, 16 * 1024])]
    fn decode(bencher: Bencher, payload: usize) {
        let bytes = client_frame(payload);
        let params = Params {
            message_bytes: 1 << 20,
            deflate: None,
        };
        let (mut assembly, mut inflater) = (None, Inflater::new());
        bencher
            .with_inputs(|| bytes.clone())
            .bench_local_refs(|bytes| {
                let step = frame::decode(&mut assembly, bytes, &params, &mut inflater);
                step.expect("a frame").map(|step| step.consumed)
            });
    }

    #[divan::bench]
    fn header(bencher: Bencher) {
        let mut out = BytesMut::with_capacity(frame::HEADER_SPACE);
        bencher.bench_local(|| {
            out.clear();
            frame::write_header(&mut out, Opcode::Text, false, black_box(400));
        });
    }
}

/// A publish between the session and the shards, without a subscriber.
#[divan::bench_group]
mod publish {
    use super::*;

    #[divan::bench(args = [0, 100])]
    fn without_subscribers(bencher: Bencher, history: usize) {
        let hub = fixture::TestHub::new(history);
        bencher
            .with_inputs(|| draft(DATA))
            .bench_values(|draft| hub.broker.publish(draft));
    }
}

/// Reading history: one page, and counting the events of a replay.
#[divan::bench_group]
mod recovery {
    use super::*;

    #[divan::bench]
    fn page_of_128(bencher: Bencher) {
        let hub = fixture::TestHub::holding(1_000);
        let range = Range::all(128);
        bencher
            .counter(ItemsCount::new(128_u64))
            .bench(|| hub.broker.read(&channel(), range));
    }

    #[divan::bench]
    fn look_up_1000(bencher: Bencher) {
        let hub = fixture::TestHub::holding(1_000);
        let start = hub.start();
        bencher
            .counter(ItemsCount::new(1_000_u64))
            .bench(|| count(&hub.broker, &channel(), black_box(start)));
    }
}
