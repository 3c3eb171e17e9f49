//! The tables of the two listeners; fields have the names of the keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::values;

/// `[public]`: the listener for browsers and the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// The address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Origins of pages that may connect (WebSocket upgrades and CORS). Empty: only pages of this
    /// server's own origin. `*` alone: any.
    pub allowed_origins: Vec<String>,
    /// Networks of the proxies whose header with the client's address is trusted.
    pub trusted_proxies: Vec<String>,
    /// The header with the client's address.
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
    /// `X-Forwarded-For`: addresses separated by commas.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Who may read the API documents.
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
    /// The address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// How callers authenticate.
    pub auth: InternalAuth,
    /// Origins of pages that may call gRPC-Web. Empty: none.
    pub allowed_origins: Vec<String>,
    /// TLS certificate chain, PEM. Needs `key`.
    #[serde(deserialize_with = "values::path")]
    pub cert: Option<PathBuf>,
    /// TLS private key, PEM. Needs `cert`.
    #[serde(deserialize_with = "values::path")]
    pub key: Option<PathBuf>,
    /// Authorities that sign callers' certificates, PEM; callers without a certificate are refused.
    #[serde(deserialize_with = "values::path")]
    pub client_ca: Option<PathBuf>,
    /// The most sockets of the listener.
    pub connections: usize,
    /// The most sockets from one network address.
    pub connections_per_ip: usize,
    /// Host names under which it may be called over HTTP/1.1 without TLS, besides addresses and
    /// private names. `*` alone: any.
    pub allowed_hosts: Vec<String>,
}

/// `[console]`: the page for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Whether it is at `/console/` on the internal listener.
    pub enabled: bool,
}

/// How callers of the internal listener authenticate.
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
