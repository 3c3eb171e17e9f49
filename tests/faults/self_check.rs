//! The book of the fault run's clients finds what it is there to find.
#![allow(unreachable_pub, reason = "a part of another program")]

mod book;

use book::{Book, Finding, Place, Promise};

const KEPT: Promise = Promise {
    drops: false,
    durable: true,
};

fn place(epoch: &str, offset: u64) -> Place {
    Place {
        epoch: epoch.to_owned(),
        offset,
    }
}

/// A client of a channel that stands at 10, and has 11 and 12.
fn book(promise: Promise) -> Book {
    let mut book = Book::new(promise);
    assert_eq!(book.resume(), None);
    assert_eq!(book.subscribed(place("e", 10), false, 0), []);
    assert_eq!(book.event(None, 11), None);
    assert_eq!(book.event(Some("e"), 12), None);
    book
}

#[test]
fn a_faultless_life_finds_nothing() {
    let mut book = book(KEPT);
    assert_eq!(book.resume(), Some(place("e", 12)));
    assert_eq!(book.subscribed(place("e", 14), true, 2), []);
    for offset in 13..=20 {
        assert_eq!(book.event(None, offset), None);
    }
    assert_eq!(book.at(), Some(&place("e", 20)));
}

#[test]
fn an_event_that_does_not_come_is_lost() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(None, 15), Some(Finding::Lost(2, _))));
}

#[test]
fn an_event_that_comes_again_is_repeated() {
    for offset in [12, 11, 3] {
        let mut book = book(KEPT);
        let finding = book.event(None, offset);
        assert!(matches!(finding, Some(Finding::Repeated(_))), "{finding:?}");
    }
}

#[test]
fn events_in_the_wrong_order_are_found() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(None, 14), Some(Finding::Lost(1, _))));
    assert!(matches!(book.event(None, 13), Some(Finding::Reordered(_))));
    assert!(matches!(book.event(None, 13), Some(Finding::Repeated(_))));
}

#[test]
fn a_replay_that_begins_too_late_or_too_early_is_found() {
    let mut late = book(KEPT);
    late.resume();
    assert_eq!(late.subscribed(place("e", 15), true, 3), []);
    assert!(matches!(late.event(None, 14), Some(Finding::Lost(1, _))));
    let mut early = book(KEPT);
    early.resume();
    assert_eq!(early.subscribed(place("e", 15), true, 3), []);
    assert!(matches!(early.event(None, 12), Some(Finding::Repeated(_))));
}

#[test]
fn recovering_less_than_everything_is_found() {
    let mut book = book(KEPT);
    book.resume();
    let findings = book.subscribed(place("e", 15), true, 2);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn recovering_over_a_new_epoch_is_found() {
    let mut book = book(Promise {
        durable: false,
        ..KEPT
    });
    book.resume();
    let findings = book.subscribed(place("f", 13), true, 1);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn not_recovering_what_is_kept_is_a_loss() {
    let mut book = book(KEPT);
    book.resume();
    let findings = book.subscribed(place("e", 15), false, 0);
    assert!(matches!(*findings, [Finding::Lost(3, _)]), "{findings:?}");
}

#[test]
fn a_new_epoch_is_told_in_memory_and_wrong_on_disk() {
    let forgetful = Promise {
        durable: false,
        ..KEPT
    };
    for (promise, found) in [(forgetful, 0), (KEPT, 1)] {
        let mut resumed = book(promise);
        resumed.resume();
        assert_eq!(resumed.subscribed(place("f", 1), false, 0).len(), found);
        assert_eq!(resumed.event(Some("f"), 2), None);
        let mut unasked = book(promise);
        assert_eq!(unasked.subscribed(place("f", 1), false, 0).len(), found);
        assert_eq!(unasked.event(None, 2), None);
    }
}

#[test]
fn another_time_line_may_number_anew_once_and_never_recovers_over_it() {
    let mut book = book(KEPT);
    book.resume();
    book.expect_new_epoch();
    assert_eq!(book.subscribed(place("f", 9), false, 0), []);
    book.resume();
    assert_eq!(book.subscribed(place("g", 9), false, 0).len(), 1, "once");
    book.resume();
    book.expect_new_epoch();
    let findings = book.subscribed(place("h", 9), true, 0);
    assert!(matches!(*findings, [Finding::Wrong(_)]), "{findings:?}");
}

#[test]
fn an_event_of_another_epoch_is_found() {
    let mut book = book(KEPT);
    assert!(matches!(book.event(Some("f"), 13), Some(Finding::Wrong(_))));
}

#[test]
fn a_gap_is_fine_only_where_the_policy_drops_and_only_in_its_place() {
    let dropping = Promise {
        drops: true,
        ..KEPT
    };
    let mut told = book(dropping);
    assert_eq!(told.gap(13, 15, "slow_consumer"), None);
    assert_eq!(told.event(None, 16), None);
    let mut expired = book(dropping);
    let finding = expired.gap(13, 15, "expired");
    assert!(matches!(finding, Some(Finding::Lost(3, _))), "{finding:?}");
    for (from, to) in [(14, 15), (12, 15), (13, 12)] {
        let finding = book(dropping).gap(from, to, "slow_consumer");
        assert!(matches!(finding, Some(Finding::Wrong(_))), "{finding:?}");
    }
    let finding = book(KEPT).gap(13, 15, "slow_consumer");
    assert!(matches!(finding, Some(Finding::Lost(3, _))), "{finding:?}");
}

#[test]
fn an_event_before_its_channel_was_answered_is_found() {
    let mut book = Book::new(KEPT);
    assert!(matches!(book.event(None, 1), Some(Finding::Wrong(_))));
}
