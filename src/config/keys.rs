//! Every key there is, with its kind, its default and what it means.
//!
//! The one list from which files are checked, suggestions are made and the default file is written.

pub(super) use super::key_list::KEYS;
use super::kind::Kind;
use super::nearest::nearest;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its dotted path; `[]` stands for the place in an array of tables.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// What it means, with its unit.
    pub(super) help: &'static str,
}

pub(super) const fn key(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key {
        path,
        kind,
        default,
        help,
    }
}

/// Tables with what they are about, in the order of the default file.
pub(super) const TABLES: [(&str, &str); 18] = [
    ("public", "The listener for browsers and the HTTP API."),
    ("internal", "The listener for gRPC, gRPC-Web and /metrics."),
    (
        "auth",
        "Tokens (JWT). At least one of the four keys is needed, except with --dev.",
    ),
    ("limits", "Bounds. Reloaded on SIGHUP."),
    ("heartbeat", "Liveness of connections."),
    (
        "history",
        "Where events are kept. How much is a namespace's setting.",
    ),
    ("catalog", "The known event types."),
    ("websocket", "The WebSocket."),
    (
        "telemetry",
        "Traces, metrics and logs. The standard OTEL_* variables are honoured too.",
    ),
    (
        "audit",
        "The record of who connected, was refused, subscribed, was disconnected, and by whom.",
    ),
    ("server", "The process itself."),
    (
        "namespace",
        "Settings for the channels whose names begin with this name and a colon. Repeat as needed.",
    ),
    ("namespace[].history", "How much of each channel is kept."),
    ("event_type", "A known event type. Repeat as needed."),
    (
        "dialect",
        "What clients and server call things, for clients of another system. Repeat as needed.",
    ),
    ("dialect[].event", "How an event is written."),
    (
        "dialect[].control",
        "How replies and the server's own messages are written.",
    ),
    (
        "dialect[].command",
        "Something that clients say. Repeat as needed; the rest is as in the dialect tidings.",
    ),
];

/// The same setting by another path.
pub(super) const ALIAS: (&str, &str) = ("history.auto_subscribe", "auto_subscribe");

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let path = if path == ALIAS.0 { ALIAS.1 } else { path };
    KEYS.iter().find(|key| key.path == path)
}

/// True if this path is a table that holds keys.
pub(super) fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The known key or table that is nearest to this path.
pub(super) fn suggest(path: &str) -> &'static str {
    let tables = TABLES.iter().map(|(name, _)| *name);
    nearest(path, KEYS.iter().map(|key| key.path).chain(tables)).unwrap_or("auth.hs256_secret")
}
