//! The fan-out: shards, outboxes, filters, catching up.

pub mod filter;
