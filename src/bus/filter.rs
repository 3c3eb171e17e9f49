//! Which events a subscription lets through.
