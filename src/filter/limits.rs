//! Cost limits of filters.

/// Cost limits of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterLimits {
    /// The most steps of one evaluation.
    pub steps: u64,
    /// The average steps per second for the filters of one connection. 0 means no limit.
    pub steps_per_second: u64,
    /// The most memory of one compiled filter, in bytes.
    pub bytes: usize,
    /// The most memory of all filters of one connection, in bytes.
    pub bytes_per_connection: usize,
    /// The most memory of all filters of all connections, in bytes.
    pub memory: usize,
}

/// The configuration declares the server's defaults. These are for tests and measurements.
#[cfg(any(test, feature = "parts"))]
impl FilterLimits {
    /// Limits that few tests reach.
    #[must_use]
    pub fn sample() -> Self {
        FilterLimits {
            steps: 250_000,
            steps_per_second: 2_000_000,
            bytes: 128 << 10,
            bytes_per_connection: 1 << 20,
            memory: 64 << 20,
        }
    }
}
