//! What can be wrong with the store.

use std::io;

use super::record::Unreadable;

/// Why the store could not do what was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no space left.
    Full,
    /// The device or file system failed, or an earlier failure stands in the way.
    Failed(String),
    /// What was read is not what was written.
    Damaged(String),
}

impl Trouble {
    /// The trouble as what is wrong with a store.
    pub(super) fn of_a_store(&self) -> String {
        match self {
            Trouble::Damaged(why) => format!("the store is damaged: {why}"),
            Trouble::Full | Trouble::Failed(_) => self.to_string(),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Full => f.write_str("no space left on the device"),
            Trouble::Failed(what) | Trouble::Damaged(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            Trouble::Full
        } else {
            Trouble::Failed(error.to_string())
        }
    }
}

impl From<Unreadable> for Trouble {
    fn from(why: Unreadable) -> Self {
        Trouble::Damaged(why.to_string())
    }
}

impl From<fjall::Error> for Trouble {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is or will be is about what stands on disk"
    )]
    fn from(error: fjall::Error) -> Self {
        use fjall::{Error, LsmError};
        let text = error.to_string();
        match error {
            Error::Io(error) | Error::Storage(LsmError::Io(error)) => error.into(),
            Error::Poisoned => Trouble::Failed("an earlier write failed".to_owned()),
            Error::Locked => Trouble::Failed("another process has it open".to_owned()),
            _ => Trouble::Damaged(text),
        }
    }
}
