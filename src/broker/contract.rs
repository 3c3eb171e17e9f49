//! The contract suite: every broker must pass it.

pub(crate) mod cursors;
mod demands;
mod subject;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Range, Share};
use crate::event::{
    Audience, ChannelName, ConnectionId, Draft, Event, Headers, Payload, Position, Timestamp,
    TraceContext,
};
use demands::{conditions_are_met_or_refused, keeps_the_lifetime_of_an_event};
use subject::{Subject, disk, memory, nats, offsets, redis};

pub(super) use subject::{Recorder, draft, keyed, namespaces};

async fn offsets_start_at_one_in_each_channel(subject: &Subject) {
    let channel = ChannelName::new("kept:a").unwrap();
    for n in 1..=3 {
        let a = subject.publish("kept:a", 0).await.position.unwrap();
        let b = subject.publish("kept:b", 0).await.position.unwrap();
        assert_eq!((a.offset, b.offset), (n, n));
        assert_ne!(a.epoch, b.epoch);
        let top = subject.broker.top(&channel).await.unwrap();
        assert_eq!(top, Some(a));
    }
}

async fn delivers_in_order_with_returned_position(subject: &Subject) {
    let mut places = Vec::new();
    for n in 0..20 {
        let receipt = subject.publish("kept:a", n).await;
        assert_eq!((receipt.subscribers, receipt.duplicate), (3, false));
        places.push(receipt.position);
    }
    let delivered: Vec<Option<Position>> = subject
        .events()
        .await
        .iter()
        .map(|event| event.position)
        .collect();
    assert_eq!(delivered, places);
}

async fn retention_limits_are_applied(subject: &Subject) {
    for n in 0..12 {
        subject.publish("kept:a", n).await;
        subject.publish("small:a", n).await;
    }
    let page = subject.read("kept:a", Range::all(100)).await;
    assert_eq!(offsets(&page), [8, 9, 10, 11, 12]);
    assert_eq!((page.oldest, page.top.offset, page.more), (8, 12, false));
    let page = subject.read("small:a", Range::all(100)).await;
    let weight: usize = page.events.iter().map(|event| event.weight()).sum();
    assert!(weight <= 2000 && !page.events.is_empty(), "{weight}");
    assert_eq!(page.events.last().unwrap().position.unwrap().offset, 12);
}

async fn reads_any_range_in_either_direction(subject: &Subject) {
    for n in 0..5 {
        subject.publish("kept:a", n).await;
    }
    let range = |after, until, limit, reverse| Range {
        after,
        until,
        limit,
        reverse,
        bytes: usize::MAX,
    };
    assert_eq!(
        subject.offsets("kept:a", range(1, 4, 9, false)).await,
        [2, 3, 4]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(0, u64::MAX, 2, false))
            .await,
        [1, 2]
    );
    assert_eq!(
        subject.offsets("kept:a", range(0, u64::MAX, 2, true)).await,
        [5, 4]
    );
    assert_eq!(
        subject.offsets("kept:a", range(0, 3, 9, true)).await,
        [3, 2, 1]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(5, u64::MAX, 9, false))
            .await,
        [0_u64; 0]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(u64::MAX - 1, u64::MAX, 9, false))
            .await,
        [0_u64; 0]
    );
    assert!(subject.read("kept:a", range(0, 3, 2, false)).await.more);
    assert!(!subject.read("kept:a", range(0, 3, 3, false)).await.more);
}

async fn page_covers_resumable_positions(subject: &Subject) {
    let start = subject.read("kept:a", Range::all(0)).await.top;
    assert_eq!(start.offset, 0);
    for n in 0..7 {
        subject.publish("kept:a", n).await;
    }
    let page = subject.read("kept:a", Range::all(0)).await;
    let at = |offset| Position { offset, ..page.top };
    assert_eq!(
        page.top.epoch, start.epoch,
        "the numbering began with the first look"
    );
    assert!(
        page.covers(at(7)) && page.covers(at(2)),
        "events 3 to 7 are kept"
    );
    assert!(!page.covers(at(1)), "event 2 is gone");
    assert!(!page.covers(at(8)), "that is yet to come");
    let foreign = subject.publish("kept:b", 0).await.position.unwrap().epoch;
    assert!(!page.covers(Position {
        epoch: foreign,
        offset: 7
    }));
}

async fn keeps_nothing_without_history(subject: &Subject) {
    let receipt = subject.publish("plain:a", 1).await;
    assert_eq!((receipt.position, receipt.subscribers), (None, 3));
    let channel = ChannelName::new("plain:a").unwrap();
    let page = subject.broker.read(&channel, Range::all(1)).await.unwrap();
    assert!(page.is_none());
}

async fn repeat_returns_first_position(subject: &Subject) {
    for channel in ["kept:a", "plain:a"] {
        let publish = |key| subject.broker.publish(draft(channel, 1, Some(key)));
        let first = publish("k").await.unwrap();
        let again = publish("k").await.unwrap();
        assert_eq!(
            (again.id, again.position, again.duplicate),
            (first.id, first.position, true)
        );
    }
    let events = subject.events().await.len();
    assert_eq!(events, 2, "a repeat is delivered to nobody");
}

async fn keys_are_scoped_to_publishers(subject: &Subject) {
    for channel in ["kept:a", "plain:a"] {
        let publish = |publisher: &str, key: &str| {
            let event = Draft {
                idempotency_key: Some(keyed(publisher, key)),
                ..draft(channel, 1, None)
            };
            subject.broker.publish(event)
        };
        let junk = publish("u:evil", "order-1").await.unwrap();
        let real = publish("s:shop", "order-1").await.unwrap();
        assert!(!real.duplicate && real.id != junk.id, "{channel}");
        let again = publish("s:shop", "order-1").await.unwrap();
        assert_eq!((again.id, again.duplicate), (real.id, true), "{channel}");
        // Pairs whose concatenations are equal are different keys too.
        assert!(!publish("s:shopo", "rder-1").await.unwrap().duplicate);
    }
    assert_eq!(subject.events().await.len(), 6);
}

async fn full_table_affects_only_its_filler(subject: &Subject) {
    let publish = |publisher: &str, n: usize| {
        let event = Draft {
            idempotency_key: Some(keyed(publisher, &n.to_string())),
            ..draft(["kept:a", "plain:a"][n % 2], n, None)
        };
        subject.broker.publish(event)
    };
    for n in 0..3 {
        publish("u:evil", n).await.unwrap();
    }
    let refused = publish("u:evil", 3).await.unwrap_err();
    let message = refused.message();
    assert!(
        message.contains("limits.idempotency_keys_per_publisher"),
        "{message}"
    );
    let mut refused = None;
    for n in 0..100 {
        let accomplice = format!("u:accomplice{}", n / 3);
        refused = publish(&accomplice, n % 3).await.err().or(refused);
    }
    let message = refused.unwrap().message();
    assert!(message.contains("(limits.idempotency_keys)"), "{message}");
    assert!(!publish("s:shop", 0).await.unwrap().duplicate);
    assert!(publish("s:shop", 0).await.unwrap().duplicate);
    assert!(
        publish("u:evil", 0).await.unwrap().duplicate,
        "repeats go on"
    );
}

async fn stored_event_has_no_idempotency_key(subject: &Subject) {
    for channel in ["kept:a", "plain:a"] {
        let event = draft(channel, 1, Some("k"));
        subject.broker.publish(event).await.unwrap();
    }
    let events = subject.events().await;
    assert!(events.iter().all(|event| event.idempotency_key.is_none()));
}

async fn lists_channels_by_name(subject: &Subject) {
    for name in ["kept:b", "kept:a", "brief:a", "plain:a"] {
        subject.publish(name, 0).await;
    }
    let list = async |prefix: &str, after: &str, limit| {
        let kept = subject.broker.list(prefix, after, limit).await.unwrap();
        kept.iter()
            .map(|kept| kept.channel.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("", "", 9).await, ["brief:a", "kept:a", "kept:b"]);
    assert_eq!(list("kept", "", 9).await, ["kept:a", "kept:b"]);
    assert_eq!(list("kept", "kept:a", 9).await, ["kept:b"]);
    assert_eq!(list("", "", 1).await, ["brief:a"]);
}

async fn expired_events_and_keys_are_removed(subject: &Subject) {
    subject.publish("brief:a", 0).await;
    subject.advance(Duration::from_secs(30)).await;
    subject.publish("brief:a", 1).await;
    subject.advance(Duration::from_secs(31)).await;
    assert_eq!(subject.offsets("brief:a", Range::all(9)).await, [2]);
    subject.advance(Duration::from_secs(31)).await;
    let page = subject.read("brief:a", Range::all(9)).await;
    assert_eq!(
        (offsets(&page).len(), page.oldest, page.top.offset),
        (0, 3, 2)
    );
    assert!(
        page.covers(page.top),
        "whoever has seen everything has missed nothing"
    );
}

async fn idle_channel_is_removed_unless_subscribed(subject: &Subject) {
    let before = subject.publish("brief:a", 0).await.position.unwrap();
    subject.sink.followed.store(true, Ordering::Relaxed);
    subject.advance(Duration::from_hours(1)).await;
    subject.sweep().await;
    let kept = subject.read("brief:a", Range::all(0)).await.top;
    assert_eq!(kept, before, "followed");
    subject.sink.followed.store(false, Ordering::Relaxed);
    subject.advance(Duration::from_hours(1)).await;
    subject.sweep().await;
    let fresh = subject.read("brief:a", Range::all(0)).await.top;
    assert_eq!(fresh.offset, 0);
    assert_ne!(
        fresh.epoch, before.epoch,
        "an old position is never taken for one of the new epoch"
    );
}

async fn keys_and_channels_are_bounded(subject: &Subject) {
    let publish = |n: usize| {
        let key = n.to_string();
        subject.broker.publish(draft("kept:a", 1, Some(&key)))
    };
    for n in 0..3 {
        publish(n).await.unwrap();
    }
    let refused = publish(3).await.unwrap_err();
    assert_eq!(refused.code(), crate::error::Code::ResourceExhausted);
    assert!(refused.retry_delay().is_some());
    subject.advance(Duration::from_mins(5)).await;
    subject.sweep().await;
    assert!(
        !publish(0).await.unwrap().duplicate,
        "forgotten after five minutes"
    );
    for n in 1..100 {
        subject.publish(&format!("kept:{n}"), 0).await;
    }
    let one_more = subject.broker.publish(draft("kept:more", 0, None)).await;
    assert_eq!(
        one_more.unwrap_err().code(),
        crate::error::Code::ResourceExhausted
    );
}

async fn exists_reports_stored_channels(subject: &Subject) {
    let exists = |channel: &str| {
        let channel = ChannelName::new(channel).unwrap();
        subject.broker.exists(&channel)
    };
    for channel in ["kept:published", "kept:read"] {
        assert!(!exists(channel), "{channel}");
    }
    subject.publish("kept:published", 0).await;
    subject.read("kept:read", Range::all(0)).await;
    for channel in ["kept:published", "kept:read"] {
        assert!(exists(channel), "{channel}");
    }
    assert!(
        exists("other:1"),
        "a channel without history is never created"
    );
}

async fn keeps_the_order_of_concurrent_publishers(subject: &Subject) {
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let broker = Arc::clone(&subject.broker);
        publishers.spawn(async move {
            for n in 0..25 {
                let event = draft("brief:a", publisher * 100 + n, None);
                broker.publish(event).await.unwrap();
            }
        });
    }
    publishers.join_all().await;
    let delivered = subject.events().await;
    let offsets = delivered.iter().map(|e| e.position.unwrap().offset);
    assert_eq!(offsets.collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    let numbers = delivered.iter().map(|event| number(event));
    let mut last = [0; 8];
    for number in numbers {
        let seen = &mut last[number / 100];
        assert_eq!(*seen, number % 100, "publisher {}", number / 100);
        *seen += 1;
    }
    let page = subject.read("brief:a", Range::all(1000)).await;
    let kept = page.events.iter().map(|event| number(event));
    let delivered = delivered.iter().map(|event| number(event));
    assert_eq!(kept.collect::<Vec<_>>(), delivered.collect::<Vec<_>>());
}

fn number(event: &Event) -> usize {
    let data = event.payload.data();
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

async fn reads_a_long_history_page_by_page(subject: &Subject) {
    for n in 0..300 {
        subject.publish("brief:a", n).await;
    }
    let (mut forward, mut after) = (Vec::new(), 0);
    loop {
        let range = Range {
            after,
            ..Range::all(64)
        };
        let page = subject.read("brief:a", range).await;
        forward.extend(offsets(&page));
        after = *forward.last().unwrap();
        if !page.more {
            break;
        }
    }
    assert_eq!(forward, (1..=300).collect::<Vec<_>>());
    let (mut backward, mut until) = (Vec::new(), u64::MAX);
    loop {
        let range = Range {
            until,
            reverse: true,
            ..Range::all(64)
        };
        let page = subject.read("brief:a", range).await;
        backward.extend(offsets(&page));
        until = *backward.last().unwrap() - 1;
        if !page.more {
            break;
        }
    }
    assert_eq!(backward, (1..=300).rev().collect::<Vec<_>>());
}

async fn stored_event_equals_published(subject: &Subject) {
    let pairs = [("a", "1"), ("b", "ü")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let published = Draft {
        payload: Payload::new(Bytes::from_static(b"\0\xff bytes"), "image/png").unwrap(),
        headers: Headers::new(pairs).unwrap(),
        key: Some("k".into()),
        audience: Some(Arc::new(Audience {
            users: vec!["u".into()],
            roles: vec!["r".into()],
            connections: vec![ConnectionId::new(1, 2, 3)],
            except_connections: vec![ConnectionId::new(4, 5, 6)],
        })),
        source: Some("s".into()),
        time: Timestamp::from_micros(-1_234_567),
        trace: TraceContext::parse(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "vendor=1",
        ),
        ..draft("kept:a", 0, None)
    };
    let sent = published.clone();
    subject.broker.publish(published).await.unwrap();
    let page = subject.read("kept:a", Range::all(1)).await;
    let got = &page.events[0];
    assert_eq!((got.id, &got.channel), (sent.id, &sent.channel));
    assert_eq!(got.event_type, sent.event_type);
    assert_eq!((&got.payload, &got.headers), (&sent.payload, &sent.headers));
    assert_eq!((&got.key, &got.audience), (&sent.key, &sent.audience));
    assert_eq!((&got.source, got.time), (&sent.source, sent.time));
    assert!(sent.trace.is_some() && got.trace == sent.trace);
    assert_eq!(got.position, Some(page.top));
}

async fn lists_channels_in_pages(subject: &Subject) {
    for n in 0..25 {
        subject.publish(&format!("kept:{n:02}"), 0).await;
    }
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().cloned().unwrap_or_default();
        let kept = subject.broker.list("kept:", &after, 10).await.unwrap();
        names.extend(kept.iter().map(|kept| kept.channel.to_string()));
        if kept.len() < 10 {
            break;
        }
    }
    let all: Vec<String> = (0..25).map(|n| format!("kept:{n:02}")).collect();
    assert_eq!(names, all);
}

async fn concurrent_repeats_share_one_result(subject: &Subject) {
    let publish = || subject.broker.publish(draft("kept:a", 1, Some("k")));
    let (first, second, third) = (publish(), publish(), publish());
    let first = first.await.unwrap();
    for again in [second.await.unwrap(), third.await.unwrap()] {
        assert_eq!(
            (again.id, again.position, again.duplicate),
            (first.id, first.position, true)
        );
    }
    assert_eq!(subject.events().await.len(), 1);
}

async fn event_without_offset_ends_the_epoch(subject: &Subject) {
    let seen = subject.publish("kept:a", 0).await.position.unwrap();
    subject.keep(0);
    // Started sequentially and answered in any order: results arrive in order.
    let passing: Vec<_> = (1..=5)
        .map(|n| subject.broker.publish(draft("kept:a", n, None)))
        .collect();
    for receipt in passing {
        assert_eq!(receipt.await.unwrap().position, None);
    }
    let delivered = subject.events().await;
    let numbers = delivered.iter().map(|event| number(event));
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    subject.keep(5);
    let page = subject.read("kept:a", Range::all(9)).await;
    assert!(!page.covers(seen), "five events went by without a number");
    let next = subject.publish("kept:a", 6).await.position.unwrap();
    assert_ne!(next.epoch, seen.epoch);
    let page = subject.read("kept:a", Range::all(9)).await;
    assert!(!page.covers(seen) && page.covers(next));
    // Once more, after the new epoch.
    subject.keep(0);
    subject.publish("kept:a", 7).await;
    subject.keep(5);
    let page = subject.read("kept:a", Range::all(9)).await;
    assert!(!page.covers(next), "the second time as the first");
}

async fn epoch_continues_if_nothing_was_missed(subject: &Subject) {
    let seen = subject.publish("kept:a", 0).await.position.unwrap();
    for size in [0, 2, 5] {
        subject.keep(size);
        subject.publish("other:b", 1).await;
    }
    let page = subject.read("kept:a", Range::all(9)).await;
    assert!(page.covers(seen));
    let next = subject.publish("kept:a", 2).await.position.unwrap();
    assert_eq!((next.epoch, next.offset), (seen.epoch, 2));
}

async fn reads_stay_within_requested_bytes(subject: &Subject) {
    for n in 0..5 {
        subject.publish("kept:a", n).await;
    }
    let page = subject.read("kept:a", Range::all(9)).await;
    let one = page.events.first().unwrap().weight();
    for (bytes, reverse, expected) in [
        (0, false, &[1][..]),
        (2 * one, false, &[1, 2]),
        (2 * one, true, &[5, 4]),
        (5 * one, false, &[1, 2, 3, 4, 5]),
    ] {
        let range = Range {
            reverse,
            bytes,
            ..Range::all(9)
        };
        let page = subject.read("kept:a", range).await;
        assert_eq!(offsets(&page), expected, "{bytes}");
        assert_eq!(page.more, expected.len() < 5, "{bytes}");
    }
}

/// Shares determine who waits, never the order of one publisher's events in a channel. Delivery and
/// results are in the order of offsets.
async fn keeps_the_order_of_each_publisher_among_many(subject: &Subject) {
    let mut answers = Vec::new();
    for n in 0..600_usize {
        let publisher = [0, 0, 0, 1, 2][n % 5];
        let share = Share::of(["flood", "one", "other"][publisher]);
        let answer = subject
            .broker
            .publish_for(share, draft("brief:a", publisher * 10_000 + n, None));
        answers.push((publisher, answer));
    }
    let mut last = [0; 3];
    for (publisher, answer) in answers {
        let offset = answer.await.unwrap().position.unwrap().offset;
        assert!(offset > last[publisher], "{publisher}: {offset}");
        last[publisher] = offset;
    }
    let delivered = subject.events().await;
    let offsets = delivered.iter().map(|event| event.position.unwrap().offset);
    assert_eq!(offsets.collect::<Vec<_>>(), (1..=600).collect::<Vec<_>>());
}

/// Runs every rule against a fresh subject each. `memory` uses the runtime's clock.
macro_rules! every_rule {
    ($($rule:ident)*) => {
        mod memory_broker {$(
            #[tokio::test(start_paused = true)]
            async fn $rule() {
                super::$rule(&super::memory()).await;
            }
        )*}
        mod disk_broker {$(
            #[tokio::test]
            async fn $rule() {
                super::$rule(&super::disk()).await;
            }
        )*}
        mod nats_broker {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn $rule() {
                super::$rule(&super::nats().await).await;
            }
        )*}
        mod redis_broker {$(
            #[tokio::test]
            async fn $rule() {
                super::$rule(&super::redis().await).await;
            }
        )*}
    };
}

every_rule! {
    offsets_start_at_one_in_each_channel
    delivers_in_order_with_returned_position
    retention_limits_are_applied
    reads_any_range_in_either_direction
    page_covers_resumable_positions
    keeps_nothing_without_history
    repeat_returns_first_position
    keys_are_scoped_to_publishers
    full_table_affects_only_its_filler
    stored_event_has_no_idempotency_key
    lists_channels_by_name
    expired_events_and_keys_are_removed
    idle_channel_is_removed_unless_subscribed
    keys_and_channels_are_bounded
    exists_reports_stored_channels
    keeps_the_order_of_concurrent_publishers
    reads_a_long_history_page_by_page
    stored_event_equals_published
    lists_channels_in_pages
    concurrent_repeats_share_one_result
    event_without_offset_ends_the_epoch
    epoch_continues_if_nothing_was_missed
    reads_stay_within_requested_bytes
    keeps_the_order_of_each_publisher_among_many
    conditions_are_met_or_refused
    keeps_the_lifetime_of_an_event
}
