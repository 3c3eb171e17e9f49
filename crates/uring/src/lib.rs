//! Many sends in one system call.
//!
//! An event goes to a thousand sockets as a thousand sends of a few hundred bytes each, and
//! entering and leaving the kernel for each of them costs about as much as everything that the
//! server itself does. With `io_uring` (Linux 5.6) the sends are queued one after the other and
//! submitted together.
//!
//! Nothing here is asynchronous: every send has `MSG_DONTWAIT`, so the kernel completes each send
//! at once, and [`Sends::send`] has all the results when it returns. It borrows buffers only for
//! that call.

#[cfg(target_os = "linux")]
mod ring;
#[cfg(not(target_os = "linux"))]
#[path = "nowhere.rs"]
mod ring;

pub use ring::Sends;

/// A send that was not completed in full.
#[derive(Debug)]
pub struct Short {
    /// Its index, counted from 0 in the order of submission.
    pub index: usize,
    /// How many bytes were sent, fewer than there were; or the error: `WouldBlock` if the socket is
    /// full.
    pub sent: std::io::Result<usize>,
}
