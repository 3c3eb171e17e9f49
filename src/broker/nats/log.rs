//! A channel's log: append if nothing was appended since, and read.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::batch::Stored;
use super::channel::Channel;
use super::error::EngineError;

/// The engine's log, by channel.
pub(super) trait Log: Send + Sync + 'static {
    /// False between a loss of the connection and the next look at the streams: epochs may be other
    /// ones.
    fn is_current(&self) -> bool;

    /// Appends a batch if the channel's newest batch has the sequence `expected` (0: there is
    /// none). Answers the new batch's sequence.
    fn append(
        &self,
        channel: &Channel,
        expected: u64,
        body: Bytes,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send;

    /// The channel's newest batch, from the leader.
    fn last(
        &self,
        channel: &Channel,
    ) -> impl Future<Output = Result<Option<Stored>, EngineError>> + Send;

    /// The first batch from this sequence on, from the leader.
    fn next(
        &self,
        channel: &Channel,
        from: u64,
    ) -> impl Future<Output = Result<Option<Stored>, EngineError>> + Send;

    /// Up to `limit` batches from this sequence on, from any replica, which may be behind.
    fn page(
        &self,
        channel: &Channel,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Stored>, EngineError>> + Send;

    /// Up to `limit` batches that were appended at most so long ago, by the servers' clocks, from any
    /// replica.
    fn page_since(
        &self,
        channel: &Channel,
        age: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Stored>, EngineError>> + Send;
}

/// Why a batch was not appended, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AppendError {
    /// Another batch was appended first.
    Conflict,
    /// The server still clears the mark of the batch before: ask again at once.
    Busy,
    /// There is no leader, or too much to do. Nothing was appended.
    NoLeader,
    /// No answer. It may have been appended.
    Unclear,
    /// The server has no space.
    Exhausted(String),
    /// The batch is too large for the server.
    TooLarge(String),
}
