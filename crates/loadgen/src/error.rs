//! Why a run failed.

use std::fmt;

/// The result of a run, or of a part of it.
pub type Result<T> = std::result::Result<T, Error>;

/// The failure of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    field: Option<&'static str>,
    message: String,
}

impl Error {
    /// An argument is out of range; `expected` is the valid range.
    #[must_use]
    pub fn field(name: &'static str, expected: impl Into<String>) -> Self {
        Error {
            field: Some(name),
            message: expected.into(),
        }
    }

    /// The run can't be done: the server can't be reached or refuses, or this process fails.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Error {
            field: None,
            message: message.into(),
        }
    }

    /// The message, without the argument's name.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The argument that is out of range.
    #[must_use]
    pub const fn field_name(&self) -> Option<&'static str> {
        self.field
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
