//! A delivery that shards share: a frame is encoded once, a filter is evaluated once per event
//! and never returns another filter's result, and the last shard ends the span with the counts of
//! all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use loom::thread;

use crate::delivery::Delivery;
use crate::dialect_ids::DialectId;
use crate::event::Event;
use crate::model;
use crate::protocol::Protocol;
use crate::telemetry::FanoutSpan;

/// Counts the frames that it encodes. The counter is not part of the model.
#[derive(Default)]
struct Counting(AtomicU64);

impl Protocol for Counting {
    fn dialect(&self) -> DialectId {
        DialectId::new(1)
    }

    fn event(&self, _: &Event) -> Bytes {
        let made = self.0.fetch_add(1, Ordering::SeqCst);
        vec![u8::try_from(made).unwrap()].into()
    }

    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        Some(self.event(event))
    }
}

fn event() -> Arc<Event> {
    Arc::new(Event {
        trace: None,
        weight: 0,
    })
}

#[test]
fn shards_share_one_frame_and_one_verdict_per_filter() {
    model(|| {
        let delivery = Arc::new(Delivery::new(event(), 2, None));
        let protocol = Arc::new(Counting::default());
        let asked = Arc::new(AtomicU64::new(0));
        let shard = {
            let (delivery, protocol, asked) = (
                Arc::clone(&delivery),
                Arc::clone(&protocol),
                Arc::clone(&asked),
            );
            move || {
                assert_eq!(&*delivery.frame(&*protocol), [0]);
                let ask = |answer: bool| {
                    let asked = Arc::clone(&asked);
                    move || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        Some(answer)
                    }
                };
                if let Some(known) = delivery.verdict(3) {
                    assert_eq!(known.passes, Some(true));
                }
                assert_eq!(delivery.passes(3, ask(true)), Some(true));
            }
        };
        let other = thread::spawn(shard.clone());
        shard();
        other.join().unwrap();
        assert_eq!(protocol.0.load(Ordering::SeqCst), 1, "made once");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "asked once");
    });
}

#[test]
fn filters_in_one_slot_never_share_a_verdict() {
    model(|| {
        let delivery = Arc::new(Delivery::new(event(), 2, None));
        let other = Arc::clone(&delivery);
        // 5 and 69 share one of the 64 slots.
        let no = thread::spawn(move || {
            assert_eq!(other.passes(69, || Some(false)), Some(false));
            assert_eq!(other.passes(69, || Some(false)), Some(false));
        });
        assert_eq!(delivery.passes(5, || Some(true)), Some(true));
        assert!(delivery.verdict(69).is_none() || delivery.verdict(5).is_none());
        assert_eq!(delivery.passes(5, || Some(true)), Some(true));
        no.join().unwrap();
    });
}

/// A dialect whose frames contain its number.
struct Numbered(u32);

impl Protocol for Numbered {
    fn dialect(&self) -> DialectId {
        DialectId::new(self.0)
    }

    fn event(&self, _: &Event) -> Bytes {
        vec![u8::try_from(self.0).unwrap()].into()
    }
}

#[test]
fn dialects_in_one_slot_never_share_a_frame() {
    model(|| {
        let delivery = Arc::new(Delivery::new(event(), 2, None));
        let other = Arc::clone(&delivery);
        // 40 and 72 share one of the 32 slots.
        let shard = thread::spawn(move || {
            assert_eq!(&*other.frame(&Numbered(72)), [72]);
            assert_eq!(&*other.frame(&Numbered(72)), [72]);
        });
        assert_eq!(&*delivery.frame(&Numbered(40)), [40]);
        assert_eq!(&*delivery.frame(&Numbered(40)), [40]);
        shard.join().unwrap();
    });
}

#[test]
fn last_shard_ends_the_span_with_all_counts() {
    model(|| {
        let reported = Arc::new(std::sync::Mutex::new(None));
        let reporting = Arc::clone(&reported);
        let span = FanoutSpan(Box::new(move |counts| {
            let before = reporting.lock().unwrap().replace(counts);
            assert!(before.is_none(), "it ends once");
        }));
        // Loom's own `Arc`, so that the model sees the order in which references are dropped.
        let delivery = loom::sync::Arc::new(Delivery::new(event(), 3, Some(span)));
        let other = delivery.clone();
        let shard = thread::spawn(move || other.count(2, 1, 0));
        delivery.count(0, 0, 1);
        drop(delivery);
        shard.join().unwrap();
        assert_eq!(*reported.lock().unwrap(), Some([3, 2, 1, 1]));
    });
}
