//! Errors of the engine, and what they mean to a publish.

use crate::error::Error;

/// Why the engine gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) enum EngineError {
    /// No answer in time. Whether the request was carried out is not known.
    Timeout,
    /// Nobody serves the subject now: no leader, or no such service.
    NoResponders,
    /// The connection is closed or was lost.
    Disconnected,
    /// The engine refused the request, with its own error code and description.
    Refused(u32, String),
    /// The answer can't be read.
    Unreadable(String),
}

impl EngineError {
    /// The error code of JetStream's API.
    pub(super) fn code(&self) -> Option<u32> {
        match self {
            EngineError::Refused(code, _) => Some(*code),
            _ => None,
        }
    }

    /// As the failure of a read.
    pub(super) fn unavailable(&self) -> Error {
        Error::unavailable(format!("cluster.engine: nats: {self}"))
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineError::Timeout => f.write_str("no answer in time"),
            EngineError::NoResponders => f.write_str("no server answers for JetStream"),
            EngineError::Disconnected => f.write_str("not connected"),
            EngineError::Refused(code, why) => write!(f, "{why} ({code})"),
            EngineError::Unreadable(why) => write!(f, "unreadable answer: {why}"),
        }
    }
}
