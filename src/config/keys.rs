//! Every configuration key, with its kind, its default, its meaning and when a change takes effect.
//!
//! These declarations are used to check files, to suggest keys and to set defaults, and to generate
//! the default file and the tables of `docs/reference/configuration.md`.

use super::hook_keys::HOOKS;
use super::key_list::SETTINGS;
use super::kind::Kind;
use super::nearest::nearest;
use super::process_keys::PROCESS;
use super::repeated_keys::REPEATED;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its dotted path; `[]` stands for the index in an array of tables.
    pub(super) path: &'static str,
    /// The kind of its value.
    pub(super) kind: Kind,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// Its meaning, with its unit, in Markdown.
    pub(super) help: &'static str,
    /// Whether SIGHUP changes it.
    pub(super) reloads: bool,
    /// Whether it must be set: `default` is an example then.
    pub(super) required: bool,
}

impl Key {
    /// Its meaning, without Markdown's links and code marks.
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
    let tables = SETTINGS.iter().chain(HOOKS).chain(PROCESS);
    tables.chain(REPEATED)
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

/// Tables with their descriptions, in the order of the default file.
pub(super) const TABLES: [(&str, &str); 26] = [
    ("public", "The listener for browsers and the HTTP API."),
    ("internal", "The listener for gRPC, gRPC-Web and /metrics."),
    (
        "auth",
        "Tokens (JWT). At least one of the first four keys is required, except with --dev.",
    ),
    ("limits", "Limits. Reloaded on SIGHUP."),
    ("heartbeat", "Liveness of connections."),
    (
        "history",
        "Where events are kept. Each namespace sets how many.",
    ),
    (
        "cluster",
        "Several nodes that serve as one, joined by an engine.",
    ),
    (
        "cluster.nats",
        "The engine NATS: nats-server 2.11 or newer with JetStream.",
    ),
    (
        "cluster.redis",
        "The engine Redis: Redis 7.0 or Valkey 7.2, or newer.",
    ),
    ("catalog", "The declared event types."),
    ("websocket", "The WebSocket endpoint."),
    (
        "hooks",
        "Questions to the application behind the server. Reloaded on SIGHUP.",
    ),
    (
        "telemetry",
        "Traces, metrics and logs. The standard OTEL_* variables override it.",
    ),
    (
        "audit",
        "The audit log: who connected, was refused or disconnected, and by whom.",
    ),
    ("server", "The process itself."),
    (
        "console",
        "The page for operators, at /console/ on the internal listener.",
    ),
    ("webhooks", "What all webhooks share."),
    (
        "namespace",
        "Settings for the channels whose names begin with this name and a colon. Repeat as needed.",
    ),
    (
        "namespace[].history",
        "The limits of each channel's history.",
    ),
    ("event_type", "A declared event type. Repeat as needed."),
    (
        "dialect",
        "Message names and formats for clients of another system. Repeat as needed.",
    ),
    ("dialect[].event", "The format of an event."),
    (
        "dialect[].control",
        "The format of replies and of the server's own messages.",
    ),
    (
        "dialect[].command",
        "A client command. Repeat as needed; other commands are as in the dialect tidings.",
    ),
    (
        "source",
        "A system of the application whose records are published. Repeat as needed.",
    ),
    (
        "webhook",
        "An address of the application that gets events. Repeat as needed.",
    ),
];

/// An alternative path of the same setting.
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
