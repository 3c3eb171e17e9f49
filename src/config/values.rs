//! Deserializers for values that need more than serde's default.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::Secret;
use crate::event::SlowConsumer;

/// An empty text means not set.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// An empty path means not set.
pub(super) fn path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    Ok(text(deserializer)?.map(PathBuf::from))
}

/// An empty secret means not set.
pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(text(deserializer)?.map(Secret::new))
}

/// An empty node name means the host name.
pub(super) fn node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(text(deserializer)?.unwrap_or_else(host_name))
}

/// The policy's name.
pub(super) fn slow_consumer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SlowConsumer, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "disconnect" => Ok(SlowConsumer::Disconnect),
        "drop_oldest" => Ok(SlowConsumer::DropOldest),
        "conflate" => Ok(SlowConsumer::Conflate),
        "resync" => Ok(SlowConsumer::Resync),
        _ => Err(serde::de::Error::custom(
            "expected a policy for slow connections",
        )),
    }
}

/// The host name, as the system reports it; otherwise `localhost`.
pub(super) fn host_name() -> String {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .chain(std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty() && name.len() <= 255)
        .unwrap_or_else(|| String::from("localhost"))
}
