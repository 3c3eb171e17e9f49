//! The contract of cursor stores.

use std::time::Duration;

use crate::broker::{CursorBounds, CursorKey, CursorQuery, CursorStore};
use crate::error::Code;
use crate::event::{ChannelName, Epoch, Position};

/// The bounds that the stores under test have.
pub(crate) const BOUNDS: CursorBounds = CursorBounds {
    per_user: 2,
    total: 4,
    ttl: Duration::from_hours(1),
};

fn key(user: &str, name: &str, channel: &str) -> CursorKey {
    CursorKey {
        user: user.into(),
        name: name.into(),
        channel: ChannelName::new(channel).unwrap(),
    }
}

fn at(epoch: u64, offset: u64) -> Position {
    Position {
        epoch: Epoch::from_bits(epoch),
        offset,
    }
}

async fn listed(store: &dyn CursorStore, query: CursorQuery) -> Vec<String> {
    let found = store.list(&query).await.unwrap().into_iter();
    found
        .map(|(key, _)| format!("{}/{}/{}", key.user, key.name, key.channel))
        .collect()
}

/// `a` and `b` are one store, as two nodes see it.
pub(crate) async fn cursors_are_kept(a: &dyn CursorStore, b: &dyn CursorStore) {
    let ann = key("ann", "inbox", "a:1");
    assert_eq!(a.get(&ann).await.unwrap(), None);
    for (position, expected) in [
        (at(1, 5), at(1, 5)),
        (at(1, 3), at(1, 5)),
        (at(1, 16), at(1, 16)),
        (at(u64::MAX, u64::MAX), at(u64::MAX, u64::MAX)),
        (at(2, 1), at(2, 1)),
    ] {
        a.set(&ann, position).await.unwrap();
        assert_eq!(b.get(&ann).await.unwrap().unwrap().position, expected);
    }
    // A user whose name is the start of another's.
    b.set(&key("an", "x.y_z-1", "a:1"), at(1, 1)).await.unwrap();
    a.set(&key("ann", "inbox", "a:.~"), at(1, 1)).await.unwrap();
    let refused = b.set(&key("ann", "tv", "a:1"), at(1, 1)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("limits.cursors_per_user"));
    a.set(&key("bo b é", "inbox", "a:1"), at(1, 1))
        .await
        .unwrap();
    let refused = b.set(&key("eve", "inbox", "a:1"), at(1, 1)).await;
    let refused = refused.unwrap_err();
    assert!(
        refused.message().contains("(limits.cursors)"),
        "{refused:?}"
    );
    // A cursor that exists moves even then, also without waiting.
    b.set_later(&ann, at(2, 2));
    for _ in 0..1000 {
        if a.get(&ann).await.unwrap().unwrap().position == at(2, 2) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(a.get(&ann).await.unwrap().unwrap().position, at(2, 2));

    let query = |limit| CursorQuery {
        limit,
        ..CursorQuery::default()
    };
    let all = [
        "an/x.y_z-1/a:1",
        "ann/inbox/a:.~",
        "ann/inbox/a:1",
        "bo b é/inbox/a:1",
    ];
    assert_eq!(listed(b, query(9)).await, all);
    assert_eq!(listed(b, query(2)).await, all[..2]);
    let after = CursorQuery {
        after: Some(key("ann", "inbox", "a:.~")),
        ..query(9)
    };
    assert_eq!(listed(a, after).await, all[2..]);
    let of_user = CursorQuery {
        user: Some("ann".into()),
        ..query(9)
    };
    assert_eq!(listed(a, of_user).await, all[1..3]);
    let of_channel = CursorQuery {
        channel: ChannelName::new("a:1").ok(),
        name: Some("inbox".into()),
        ..query(9)
    };
    assert_eq!(listed(a, of_channel).await, all[2..]);

    let channel = ChannelName::new("a:1").unwrap();
    assert_eq!(a.forget("ann", Some(&channel)).await.unwrap(), 1);
    assert_eq!(b.get(&ann).await.unwrap(), None);
    assert_eq!(b.forget("ann", None).await.unwrap(), 1);
    assert_eq!(a.forget("nobody", None).await.unwrap(), 0);
    b.set(&key("eve", "inbox", "a:1"), at(1, 1)).await.unwrap();
    assert_eq!(listed(a, query(9)).await.len(), 3);
}

#[tokio::test]
async fn cursors_are_kept_in_memory() {
    let metrics = crate::telemetry::Metrics::new("test");
    let store = crate::broker::MemoryCursors::new(BOUNDS, metrics);
    cursors_are_kept(&store, &store).await;
}
