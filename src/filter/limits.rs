//! What filters may cost.

/// What filters may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterLimits {
    /// The most steps of one evaluation.
    pub steps: u64,
    /// Steps a second for the filters of one connection on average; 0 is no limit.
    pub steps_per_second: u64,
    /// The most memory of one compiled filter, in bytes.
    pub bytes: usize,
    /// The same for all filters of one connection.
    pub bytes_per_connection: usize,
    /// The same for the filters of all connections.
    pub memory: usize,
}

impl Default for FilterLimits {
    fn default() -> Self {
        FilterLimits {
            steps: 250_000,
            steps_per_second: 2_000_000,
            bytes: 128 << 10,
            bytes_per_connection: 1 << 20,
            memory: 64 << 20,
        }
    }
}
