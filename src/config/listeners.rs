//! The tables of the two listeners; fields are named as the keys are.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::values;

/// `[public]`: the listener for browsers and the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Origins of pages that may connect (WebSocket upgrades and CORS). Empty: only pages of this
    /// server's own origin. `*` alone: any.
    pub allowed_origins: Vec<String>,
    /// Networks of the proxies whose word on where a request comes from is believed.
    pub trusted_proxies: Vec<String>,
    /// The header in which they give it.
    pub forwarded_header: ForwardedHeader,
    /// Who may read `/openapi.json` and `/asyncapi.json`.
    pub documents: Documents,
    /// TLS certificate chain, PEM. Needs `key`.
    #[serde(deserialize_with = "values::path")]
    pub cert: Option<PathBuf>,
    /// TLS private key, PEM. Needs `cert`.
    #[serde(deserialize_with = "values::path")]
    pub key: Option<PathBuf>,
}

/// A header in which proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses with commas between.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Who may read the descriptions of the API and the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Documents {
    /// Anyone.
    Open,
    /// Holders of a valid token.
    Token,
}

/// `[internal]`: the listener for gRPC and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How callers prove who they are.
    pub auth: InternalAuth,
    /// Origins of pages that may call gRPC-Web. Empty: none.
    pub allowed_origins: Vec<String>,
    /// TLS certificate chain, PEM. Needs `key`.
    #[serde(deserialize_with = "values::path")]
    pub cert: Option<PathBuf>,
    /// TLS private key, PEM. Needs `cert`.
    #[serde(deserialize_with = "values::path")]
    pub key: Option<PathBuf>,
    /// Authorities that sign callers' certificates, PEM; callers without one are refused.
    #[serde(deserialize_with = "values::path")]
    pub client_ca: Option<PathBuf>,
    /// The most sockets of the listener.
    pub connections: usize,
    /// The most sockets from one network address.
    pub connections_per_ip: usize,
    /// Names by which it may be called over HTTP/1.1 without TLS, beside addresses and names that
    /// can't be bought. `*` alone: any.
    pub allowed_hosts: Vec<String>,
}

/// `[console]`: the page for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Whether it is at `/console/` on the internal listener.
    pub enabled: bool,
}

/// How callers of the internal listener prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InternalAuth {
    /// By a token.
    Jwt,
    /// By a client certificate.
    Mtls,
    /// Not at all: everyone is a service and an admin. Only on loopback, or with `--dev`.
    None,
}
