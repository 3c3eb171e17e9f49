//! Many sends in one system call.
//!
//! An event goes to a thousand sockets as a thousand sends of a few hundred bytes each, and on each
//! of them the way into the kernel and back costs about as much as everything that the server itself
//! does. With `io_uring` (Linux 5.6) they are written down one after the other and handed over
//! together.
//!
//! Nothing here is asynchronous: every send has `MSG_DONTWAIT`, so the kernel does what it can at
//! once, and [`Sends::send`] has all the answers when it returns. What it borrows, it borrows for
//! that long.

#[cfg(target_os = "linux")]
mod ring;
#[cfg(not(target_os = "linux"))]
#[path = "nowhere.rs"]
mod ring;

pub use ring::Sends;

/// A send that was not done whole.
#[derive(Debug)]
pub struct Short {
    /// Which one, counted from 0 in the order in which they were given.
    pub index: usize,
    /// How many bytes went out, fewer than there were; or why none did: `WouldBlock` where the
    /// socket is full.
    pub sent: std::io::Result<usize>,
}
