//! Problems of a configuration, and their places.

use std::fmt;
use std::path::PathBuf;

/// The place of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this file, on this line, counted from 1.
    File(PathBuf, usize),
    /// In the preset of this name, on this line, counted from 1.
    Preset(&'static str, usize),
    /// In this environment variable.
    Environment(String),
    /// In this flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path, line) => write!(f, "{}:{line}", path.display()),
            Place::Preset(name, line) => write!(f, "preset {name}:{line}"),
            Place::Environment(name) => f.write_str(name),
            Place::Flag(name) => f.write_str(name),
        }
    }
}

/// One problem. Never contains a value, because it might be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place; `None` if the setting is missing.
    pub place: Option<Place>,
    /// The key, as a dotted path; empty for the whole file.
    pub key: String,
    /// The expected value.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        // An unknown key is named by the message itself.
        if !self.key.is_empty() && !self.message.starts_with("unknown key") {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All problems, one per line; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
