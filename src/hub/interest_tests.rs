//! Tests of the interest table. `interest.rs` itself is compiled under loom too.

use super::interest::InterestTable;
use crate::event::{ChannelName, ChannelPattern};

#[test]
fn rate_is_that_of_the_last_ten_seconds() {
    let table = InterestTable::new();
    let channel = ChannelName::new("a").unwrap();
    assert_eq!(table.activity(&channel), None);
    let _ = table.add(&ChannelPattern::Exact(channel.clone()), 0);
    let idle = table.activity(&channel).unwrap();
    assert_eq!((idle.rate > 0.0, idle.idle_seconds), (false, None));
    for second in 0..20 {
        table.set_second(second);
        for _ in 0..5 {
            std::hint::black_box(table.find_for_event(&channel));
        }
    }
    let busy = table.activity(&channel).unwrap();
    assert!((4.9..=5.1).contains(&busy.rate), "{busy:?}");
    assert_eq!(busy.idle_seconds, Some(0));
    std::hint::black_box(table.find(&channel));
    table.set_second(24);
    let slower = table.activity(&channel).unwrap();
    assert!((2.0..=3.0).contains(&slower.rate), "{slower:?}");
    assert_eq!(slower.idle_seconds, Some(5));
    table.set_second(60);
    assert!(table.activity(&channel).unwrap().rate < 0.001);
}
