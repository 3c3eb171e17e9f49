//! Messages between nodes, whatever engine carries them.

use std::time::Duration;

use bytes::Bytes;

use crate::maybe_ready::MaybeReady;

/// Called with each message for this node. It must not block.
pub type Receive = Box<dyn Fn(Bytes) + Send + Sync>;

/// The receivers of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// The process with this random number.
    Process(u64),
    /// All nodes, the sender included.
    All,
}

/// Carries messages between nodes, at most once, and keeps their numbers.
pub trait Link: Send + Sync {
    /// Calls `receive` for each message to this process, or to all, from now on.
    ///
    /// # Errors
    /// `unavailable` if the engine does not answer.
    fn listen(&self, process: u64, receive: Receive) -> MaybeReady<()>;

    /// Sends a message. `false` if it is known that no process receives it.
    ///
    /// # Errors
    /// `unavailable` if it could not be sent.
    fn send(&self, to: Address, message: Bytes) -> MaybeReady<bool>;

    /// Claims a number for this process, or renews the claim; `false` if another process has it. The
    /// claim ends by itself after `lease`.
    ///
    /// # Errors
    /// `unavailable` if the engine does not answer.
    fn claim(&self, number: u16, lease: Duration) -> MaybeReady<bool>;

    /// Releases the number.
    fn release(&self, number: u16) -> MaybeReady<()>;
}
