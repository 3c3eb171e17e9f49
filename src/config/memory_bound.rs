//! stub
/// A term.
#[derive(Debug, Clone)]
pub struct Term;
/// The bound.
#[derive(Debug, Clone)]
pub struct MemoryBound;
