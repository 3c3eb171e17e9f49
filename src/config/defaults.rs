//! The defaults of the tables, read from the declarations of their keys.

use figment::Figment;
use serde::de::DeserializeOwned;

use super::layer::Layer;
use super::{
    Audit, Auth, Catalog, ClusterConfig, Heartbeat, HistoryConfig, Internal, Limits, Public,
    Server, Telemetry, WebSocket,
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

macro_rules! declared_defaults {
    ($($table:ty = $path:literal),+ $(,)?) => {
        $(
            impl Default for $table {
                fn default() -> Self {
                    of($path)
                }
            }
        )+
    };
}

// These tables have no `#[serde(default)]`: it would call `default`, which deserializes them.
// `Config::load` merges `Layer::defaults` below all other layers instead.
declared_defaults! {
    Public = "public",
    Internal = "internal",
    Auth = "auth",
    Limits = "limits",
    Heartbeat = "heartbeat",
    HistoryConfig = "history",
    ClusterConfig = "cluster",
    Catalog = "catalog",
    WebSocket = "websocket",
    Telemetry = "telemetry",
    Audit = "audit",
    Server = "server",
}
