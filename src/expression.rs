//! Bounded CEL expressions.
