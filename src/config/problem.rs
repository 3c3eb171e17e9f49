//! What is wrong with a configuration, and where it stands.

use std::fmt;
use std::path::PathBuf;

/// Where a setting stands.
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

/// One thing that is wrong. Never holds a value, for it might be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for what is missing altogether.
    pub place: Option<Place>,
    /// The key, as a dotted path; empty where the whole file is meant.
    pub key: String,
    /// What was expected.
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

/// Everything that is wrong, one on a line; never empty.
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
