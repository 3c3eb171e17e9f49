//! The TLS configuration of a listener, which can be replaced while it accepts connections.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// The TLS configuration of one listener. A replacement applies to new connections.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Begins with this configuration.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Tls(Arc::new(ArcSwap::new(config)))
    }

    /// The acceptor for the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }

    /// Applies another configuration to new connections.
    pub(crate) fn replace(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }
}
