//! Verifies that the fault run's book detects every kind of violation.
#![allow(unreachable_pub, reason = "a part of another program")]

mod book;

use book::{Book, ChannelPosition, Finding, Guarantees};

const KEPT: Guarantees = Guarantees {
    drops: false,
    durable: true,
    remote: false,
};

fn position(epoch: &str, offset: u64) -> ChannelPosition {
    ChannelPosition {
        epoch: epoch.to_owned(),
        offset,
    }
}

/// A client of a channel that is at offset 10, and has received 11 and 12.
fn book(guarantees: Guarantees) -> Book {
    let mut book = Book::new(guarantees);
    assert_eq!(book.resume(), None);
    assert_eq!(book.subscribed(position("e", 10), false, 0), []);
    assert_eq!(book.event(None, 11), None);
    assert_eq!(book.event(Some("e"), 12), None);
    book
}

#[test]
fn faultless_run_has_no_findings() {
    let mut book = book(KEPT);
    assert_eq!(book.resume(), Some(position("e", 12)));
    assert_eq!(book.subscribed(position("e", 14), true, 2), []);
    for offset in 13..=20 {
        assert_eq!(book.event(None, offset), None);
    }
    assert_eq!(book.at(), Some(&position("e", 20)));
}

#[test]
fn missing_event_is_reported_lost() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(None, 15), Some(Finding::Lost(2, _))));
}

#[test]
fn repeated_event_is_reported() {
    for offset in [12, 11, 3] {
        let mut book = book(KEPT);
        let finding = book.event(None, offset);
        assert!(matches!(finding, Some(Finding::Repeated(_))), "{finding:?}");
    }
}

#[test]
fn reordered_events_are_reported() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(None, 14), Some(Finding::Lost(1, _))));
    assert!(matches!(book.event(None, 13), Some(Finding::Reordered(_))));
    assert!(matches!(book.event(None, 13), Some(Finding::Repeated(_))));
}

#[test]
fn replay_from_wrong_position_is_reported() {
    let mut late = book(KEPT);
    late.resume();
    assert_eq!(late.subscribed(position("e", 15), true, 3), []);
    assert!(matches!(late.event(None, 14), Some(Finding::Lost(1, _))));
    let mut early = book(KEPT);
    early.resume();
    assert_eq!(early.subscribed(position("e", 15), true, 3), []);
    assert!(matches!(early.event(None, 12), Some(Finding::Repeated(_))));
}

#[test]
fn incomplete_recovery_is_reported() {
    let mut book = book(KEPT);
    book.resume();
    let findings = book.subscribed(position("e", 15), true, 2);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn recovery_across_epochs_is_reported() {
    let mut book = book(Guarantees {
        durable: false,
        ..KEPT
    });
    book.resume();
    let findings = book.subscribed(position("f", 13), true, 1);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn missing_recovery_of_kept_events_is_a_loss() {
    let mut book = book(KEPT);
    book.resume();
    let findings = book.subscribed(position("e", 15), false, 0);
    assert!(matches!(*findings, [Finding::Lost(3, _)]), "{findings:?}");
}

#[test]
fn new_epoch_is_valid_in_memory_and_wrong_on_disk() {
    let forgetful = Guarantees {
        durable: false,
        ..KEPT
    };
    for (guarantees, found) in [(forgetful, 0), (KEPT, 1)] {
        let mut resumed = book(guarantees);
        resumed.resume();
        assert_eq!(resumed.subscribed(position("f", 1), false, 0).len(), found);
        assert_eq!(resumed.event(Some("f"), 2), None);
        let mut unrequested = book(guarantees);
        assert_eq!(
            unrequested.subscribed(position("f", 1), false, 0).len(),
            found
        );
        assert_eq!(unrequested.event(None, 2), None);
    }
}

#[test]
fn restored_store_may_change_epoch_once() {
    let mut book = book(KEPT);
    book.resume();
    book.expect_new_epoch();
    assert_eq!(book.subscribed(position("f", 9), false, 0), []);
    book.resume();
    assert_eq!(book.subscribed(position("g", 9), false, 0).len(), 1, "once");
    book.resume();
    book.expect_new_epoch();
    let findings = book.subscribed(position("h", 9), true, 0);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn event_of_other_epoch_is_reported() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(Some("f"), 13), Some(Finding::Wrong(_))));
}

#[test]
fn gap_requires_dropping_policy_and_matching_offsets() {
    let dropping = Guarantees {
        drops: true,
        ..KEPT
    };
    let mut reported = book(dropping);
    assert_eq!(reported.gap(13, 15, "slow_consumer"), None);
    assert_eq!(reported.event(None, 16), None);
    let mut expired = book(dropping);
    let finding = expired.gap(13, 15, "expired");
    assert!(matches!(finding, Some(Finding::Lost(3, _))), "{finding:?}");
    for (from, to) in [(14, 15), (12, 15), (13, 12)] {
        let finding = book(dropping).gap(from, to, "slow_consumer");
        assert!(matches!(finding, Some(Finding::Wrong(_))), "{finding:?}");
    }
    let remote = Guarantees {
        remote: true,
        ..KEPT
    };
    assert_eq!(book(remote).gap(13, 15, "unavailable"), None);
    for (guarantees, reason) in [(remote, "expired"), (KEPT, "unavailable")] {
        let finding = book(guarantees).gap(13, 15, reason);
        assert!(matches!(finding, Some(Finding::Lost(3, _))), "{finding:?}");
    }
    let finding = book(KEPT).gap(13, 15, "slow_consumer");
    assert!(matches!(finding, Some(Finding::Lost(3, _))), "{finding:?}");
}

#[test]
fn event_before_subscribed_is_reported() {
    let mut book = Book::new(KEPT);
    assert!(matches!(book.event(None, 1), Some(Finding::Wrong(_))));
}
