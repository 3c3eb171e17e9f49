//! Every key there is, with its kind, its default, what it means and when a change takes effect.
//!
//! From these declarations files are checked, suggestions are made, defaults are set, and the default
//! file and the tables of `docs/reference/configuration.md` are written.

use super::key_list::SETTINGS;
use super::kind::Kind;
use super::nearest::nearest;
use super::repeated_keys::REPEATED;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its dotted path; `[]` stands for the place in an array of tables.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// What it means, with its unit, in Markdown.
    pub(super) help: &'static str,
    /// Whether SIGHUP changes it.
    pub(super) reloads: bool,
    /// Whether it must be set: `default` is an example then.
    pub(super) required: bool,
}

impl Key {
    /// What it means, without Markdown's links and code marks.
    pub(super) fn plain_help(&self) -> String {
        let mut plain = String::with_capacity(self.help.len());
        let mut rest = self.help;
        while let Some((before, link)) = rest.split_once('[') {
            plain.push_str(before);
            let parts = link.split_once("](").and_then(|(text, after)| {
                let (_, after) = after.split_once(')')?;
                Some((text, after))
            });
            if let Some((text, after)) = parts.filter(|(text, _)| !text.contains('"')) {
                plain.push_str(text);
                rest = after;
            } else {
                plain.push('[');
                rest = link;
            }
        }
        plain.push_str(rest);
        plain.retain(|c| c != '`');
        plain
    }
}

/// Every key, table by table.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    SETTINGS.iter().chain(REPEATED)
}

/// A key that SIGHUP changes.
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
        reloads: true,
        required: false,
    }
}

/// A key that must be set, with an example in place of a default.
pub(super) const fn required(
    path: &'static str,
    kind: Kind,
    example: &'static str,
    help: &'static str,
) -> Key {
    Key {
        required: true,
        ..key(path, kind, example, help)
    }
}

/// A key that only a restart changes.
pub(super) const fn fixed(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key {
        reloads: false,
        ..key(path, kind, default, help)
    }
}

/// Tables with what they are about, in the order of the default file.
pub(super) const TABLES: [(&str, &str); 19] = [
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
        "console",
        "The page for operators, at /console/ on the internal listener.",
    ),
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
    all().find(|key| key.path == path)
}

/// True if this path is a table that holds keys.
pub(super) fn is_table(path: &str) -> bool {
    all().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The known key or table that is nearest to this path.
pub(super) fn suggest(path: &str) -> &'static str {
    let tables = TABLES.iter().map(|(name, _)| *name);
    nearest(path, all().map(|key| key.path).chain(tables)).unwrap_or("auth.hs256_secret")
}
