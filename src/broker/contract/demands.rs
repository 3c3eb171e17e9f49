//! What a publish may demand of its channel, and purges.

use super::subject::{Subject, disk, draft, memory, offsets};
use crate::broker::{Purge, Range};
use crate::error::Code;
use crate::event::{Audience, ChannelName, Conditions, Draft, Position};

fn demanding(channel: &str, n: usize, conditions: Conditions) -> Draft {
    Draft {
        conditions: Some(Box::new(conditions)),
        ..draft(channel, n, None)
    }
}

fn expecting(offset: u64) -> Conditions {
    Conditions {
        expected_offset: Some(offset),
        ..Conditions::default()
    }
}

async fn publishes_only_behind_the_expected_offset(subject: &Subject) {
    let publish = |channel: &str, n, expected| {
        subject
            .broker
            .publish(demanding(channel, n, expecting(expected)))
    };
    let first = publish("kept:a", 1, 0).await.unwrap();
    assert_eq!(first.position.unwrap().offset, 1);
    for wrong in [0, 2] {
        let error = publish("kept:a", 2, wrong).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        assert!(error.message().contains("is 1"), "{error:?}");
    }
    let second = publish("kept:a", 2, 1).await.unwrap();
    assert_eq!(second.position.unwrap().offset, 2);
    let error = publish("plain:a", 1, 0).await.unwrap_err();
    assert_eq!(
        error.code(),
        Code::FailedPrecondition,
        "there are no offsets"
    );
    assert_eq!(subject.sink.events.lock().unwrap().len(), 2);
    // The repeat of a publish that has succeeded is answered as ever.
    let keyed = || Draft {
        conditions: Some(Box::new(expecting(2))),
        ..draft("kept:a", 3, Some("k"))
    };
    let once = subject.broker.publish(keyed()).await.unwrap();
    let again = subject.broker.publish(keyed()).await.unwrap();
    assert_eq!((again.position, again.duplicate), (once.position, true));
}

/// An engine that can't check a condition with its append must refuse it, and publish nothing.
pub(super) async fn conditions_are_met_or_refused(subject: &Subject) {
    subject.publish("kept:a", 1).await;
    for channel in ["kept:a", "plain:a"] {
        let wrong = demanding(channel, 2, expecting(7));
        let error = subject.broker.publish(wrong).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        assert!(error.message().contains("expected_offset"), "{error:?}");
    }
    let skip = || Conditions {
        skip_history: true,
        ..Conditions::default()
    };
    let plain = subject.broker.publish(demanding("plain:a", 3, skip()));
    assert_eq!(plain.await.unwrap().position, None);
    match subject.broker.publish(demanding("kept:a", 4, skip())).await {
        Ok(receipt) => assert_eq!(receipt.position, None),
        Err(error) => {
            assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
            assert!(error.message().contains("skip_history"), "{error:?}");
        }
    }
    assert_eq!(subject.offsets("kept:a", Range::all(9)).await, [1]);
}

async fn delivers_without_keeping(subject: &Subject) {
    let skip = Conditions {
        skip_history: true,
        ..Conditions::default()
    };
    subject.publish("kept:a", 1).await;
    let receipt = subject.broker.publish(demanding("kept:a", 2, skip));
    let receipt = receipt.await.unwrap();
    assert_eq!((receipt.position, receipt.subscribers), (None, 3));
    let next = subject.publish("kept:a", 3).await.position.unwrap();
    assert_eq!(next.offset, 2);
    assert_eq!(subject.offsets("kept:a", Range::all(9)).await, [1, 2]);
    let delivered = subject.sink.events.lock().unwrap();
    let places = delivered
        .iter()
        .map(|event| event.position.map(|p| p.offset));
    assert_eq!(places.collect::<Vec<_>>(), [Some(1), None, Some(2)]);
    assert!(delivered.iter().all(|event| event.conditions.is_none()));
}

async fn purges_up_to_an_offset(subject: &Subject) {
    for n in 0..5 {
        subject.publish("kept:a", n).await;
    }
    let channel = ChannelName::new("kept:a").unwrap();
    let before = subject.read("kept:a", Range::all(0)).await.top;
    let purge = Purge {
        until: Some(3),
        ..Purge::default()
    };
    let purged = subject.broker.purge(&channel, purge).await.unwrap();
    assert_eq!((purged.events, purged.top), (3, Some(before)));
    let page = subject.read("kept:a", Range::all(9)).await;
    assert_eq!((offsets(&page), page.oldest), (vec![4, 5], 4));
    assert_eq!(page.top, before);
    let at = |offset| Position { offset, ..before };
    assert!(page.covers(at(3)) && !page.covers(at(2)));
    let all = subject.broker.purge(&channel, Purge::default());
    assert_eq!(all.await.unwrap().events, 2);
    let page = subject.read("kept:a", Range::all(9)).await;
    assert_eq!((page.events.len(), page.oldest, page.top), (0, 6, before));
    let next = subject.publish("kept:a", 6).await.position.unwrap();
    assert_eq!(next, at(6), "the numbering goes on");
    assert_eq!(subject.offsets("kept:a", Range::all(9)).await, [6]);
    let missing = ChannelName::new("kept:none").unwrap();
    let nothing = subject.broker.purge(&missing, Purge::default());
    assert_eq!(nothing.await.unwrap().events, 0);
}

async fn purges_what_is_of_one_user(subject: &Subject) {
    let of = |n, source: Option<&str>, to: &[&str]| Draft {
        source: source.map(Into::into),
        audience: (!to.is_empty()).then(|| {
            let users = to.iter().map(|user| (*user).into()).collect();
            std::sync::Arc::new(Audience {
                users,
                ..Audience::default()
            })
        }),
        ..draft("kept:a", n, None)
    };
    for draft in [
        of(1, Some("bob"), &[]),
        of(2, Some("ann"), &[]),
        of(3, None, &["ann"]),
        of(4, None, &["ann", "bob"]),
        of(5, None, &[]),
    ] {
        subject.broker.publish(draft).await.unwrap();
    }
    let channel = ChannelName::new("kept:a").unwrap();
    let purge = || Purge {
        user: Some("ann".into()),
        ..Purge::default()
    };
    let purged = subject.broker.purge(&channel, purge()).await.unwrap();
    assert_eq!(purged.events, 2);
    let page = subject.read("kept:a", Range::all(9)).await;
    assert_eq!((offsets(&page), page.oldest), (vec![1, 4, 5], 1));
    let range = Range {
        after: 1,
        until: 4,
        ..Range::all(9)
    };
    assert_eq!(subject.offsets("kept:a", range).await, [4]);
    let reverse = Range {
        reverse: true,
        ..Range::all(2)
    };
    assert_eq!(subject.offsets("kept:a", reverse).await, [5, 4]);
    let again = subject.broker.purge(&channel, purge()).await.unwrap();
    assert_eq!(again.events, 0);
    // Retention goes on as before.
    for n in 6..=9 {
        subject.publish("kept:a", n).await;
    }
    assert_eq!(
        subject.offsets("kept:a", Range::all(9)).await,
        [5, 6, 7, 8, 9]
    );
}

pub(super) async fn keeps_the_lifetime_of_an_event(subject: &Subject) {
    let expires = crate::event::Timestamp::from_micros(4_000_000_000_000_000);
    let event = Draft {
        expires: Some(expires),
        ..draft("kept:a", 1, None)
    };
    subject.broker.publish(event).await.unwrap();
    let page = subject.read("kept:a", Range::all(1)).await;
    assert_eq!(page.events[0].expires, Some(expires));
}

/// Rules for stores in this process. An engine refuses these conditions and purges with
/// `failed_precondition`.
macro_rules! every_local_rule {
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
    };
}

every_local_rule! {
    publishes_only_behind_the_expected_offset
    delivers_without_keeping
    purges_up_to_an_offset
    purges_what_is_of_one_user
}
