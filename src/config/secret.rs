//! A text that must not be seen.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A text that never shows in logs, errors or `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The shortest that is not weak, in bytes: HS256 needs a key at least as long as its hash
    /// (RFC 7518 §3.2).
    pub const STRONG_LEN: usize = 32;

    /// Takes the text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Secret(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if it is shorter than [`Secret::STRONG_LEN`]: worth a warning.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.len() < Self::STRONG_LEN
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_text() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
