//! The defaults of the tables, read from the declarations of their keys.

use figment::Figment;
use figment::value::Value;
use serde::de::DeserializeOwned;

use super::layer::Layer;
use super::{
    Audit, Auth, Catalog, ClusterConfig, Console, DialectCommand, DialectConfig, DialectControl,
    DialectEvent, EventTypeConfig, Heartbeat, HistoryConfig, HooksConfig, Internal, Limits,
    NamespaceConfig, NamespaceHistory, Public, Server, SourceConfig, Telemetry, WebSocket,
    WebhookConfig, WebhooksConfig,
};

/// The declared default of a key or of a whole table.
#[expect(
    clippy::expect_used,
    reason = "a declaration that its own table refuses is a mistake in the source, and every test finds it"
)]
pub(super) fn of<T: DeserializeOwned>(path: &str) -> T {
    Figment::from(Layer::defaults())
        .extract_inner(path)
        .expect("every declared default has the type of its field")
}

/// The declared defaults of a repeated table, or of a table within one.
#[expect(
    clippy::expect_used,
    reason = "a declaration that its own table refuses is a mistake in the source, and every test finds it"
)]
fn of_each<T: DeserializeOwned>(path: &str) -> T {
    Value::from(Layer::defaults_of(path))
        .deserialize()
        .expect("every declared default has the type of its field")
}

macro_rules! declared_defaults {
    ($of:ident: $($table:ty = $path:literal),+ $(,)?) => {
        $(
            impl Default for $table {
                fn default() -> Self {
                    $of($path)
                }
            }
        )+
    };
}

// These tables have no `#[serde(default)]`: it would call `default`, which deserializes them.
// `Config::load` merges `Layer::defaults` below all other layers instead, and a layer puts each
// repeated table over `Layer::defaults_of`.
declared_defaults! {
    of:
    Public = "public",
    Internal = "internal",
    Auth = "auth",
    Limits = "limits",
    Heartbeat = "heartbeat",
    HistoryConfig = "history",
    ClusterConfig = "cluster",
    Catalog = "catalog",
    WebhooksConfig = "webhooks",
    WebSocket = "websocket",
    HooksConfig = "hooks",
    Telemetry = "telemetry",
    Audit = "audit",
    Server = "server",
    Console = "console",
}

declared_defaults! {
    of_each:
    NamespaceConfig = "namespace[]",
    NamespaceHistory = "namespace[].history",
    EventTypeConfig = "event_type[]",
    DialectConfig = "dialect[]",
    WebhookConfig = "webhook[]",
    DialectEvent = "dialect[].event",
    DialectControl = "dialect[].control",
    DialectCommand = "dialect[].command[]",
    SourceConfig = "source[]",
}
