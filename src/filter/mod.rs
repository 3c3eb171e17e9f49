//! Subscription filters: event types and a CEL expression of bounded cost.

mod event_filter;
pub mod expression;
mod limits;
mod numbers;
mod store;

pub use event_filter::{EventFilter, EventView, FilterKey};
pub use limits::FilterLimits;
pub(crate) use numbers::FilterNumbers;
pub use store::{Condition, FilterStore};

#[cfg(test)]
pub(crate) use event_filter::tests;
