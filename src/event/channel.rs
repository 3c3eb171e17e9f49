//! Channel names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A channel name: 1–255 of `A-Z a-z 0-9 _ - . : @ / ~`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Parses a name.
    ///
    /// # Errors
    /// `invalid_argument` for the field `channel`.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check(name)?;
        Ok(ChannelName(Arc::from(name)))
    }

    /// A name that sorts before every other one.
    #[must_use]
    pub(crate) fn first() -> Self {
        ChannelName(Arc::from("-"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace: the part before the first `:`, or the whole name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0
            .split_once(':')
            .map_or(&*self.0, |(namespace, _)| namespace)
    }

    /// The part after the first `:`, or an empty string.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, id)| id)
    }
}

fn check(name: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.:@/~".contains(&b);
    if name.is_empty() || name.len() > ChannelName::MAX_LEN || !name.bytes().all(allowed) {
        return Err(Error::field(
            "channel",
            "expected 1 to 255 of A-Z a-z 0-9 _ - . : @ / ~",
        ));
    }
    Ok(())
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The target of a subscription: one channel, every channel of a namespace (`project:*`), or all
/// channels (`*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChannelPattern {
    /// One channel.
    Exact(ChannelName),
    /// Every channel of this namespace.
    Namespace(Arc<str>),
    /// Every channel.
    All,
}

impl ChannelPattern {
    /// Parses a channel name, `namespace:*` or `*`.
    ///
    /// # Errors
    /// `invalid_argument` for the field `channel`.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(ChannelPattern::All);
        }
        match text.strip_suffix(":*") {
            Some(namespace) if !namespace.contains(':') => {
                check(namespace)?;
                Ok(ChannelPattern::Namespace(Arc::from(namespace)))
            }
            _ => ChannelName::new(text).map(ChannelPattern::Exact),
        }
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelPattern::Exact(name) => name.fmt(f),
            ChannelPattern::Namespace(namespace) => write!(f, "{namespace}:*"),
            ChannelPattern::All => f.write_str("*"),
        }
    }
}
