//! The reasons for closing a connection because of its peer's frames.

/// The close code of a [`Violation`](crate::frame::Violation) (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// A frame broke RFC 6455.
    Protocol = 1002,
    /// A text message that is not UTF-8, or data that can't be inflated.
    InvalidPayload = 1007,
    /// A message over the limit of its size.
    TooBig = 1009,
}

impl CloseCode {
    /// The number that a close frame carries.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "the discriminant is the number")]
    pub const fn number(self) -> u16 {
        self as u16
    }
}
