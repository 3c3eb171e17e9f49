//! TLS certificates, which can be renewed while the server runs.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use super::StartError;
use crate::config::Config;
use crate::config::certificates::{Unusable, server_config};
use crate::net::tls::Tls;

/// Installs the process-wide cryptography provider. The first choice stays.
pub(super) fn install_crypto() {
    if ring::default_provider().install_default().is_err() {
        tracing::debug!("a cryptography provider was installed before");
    }
}

/// The TLS configurations of both listeners. `None` if no certificate is configured.
pub(super) struct Listeners {
    pub(super) public: Option<Tls>,
    pub(super) internal: Option<Tls>,
}

/// Reloaded and validated certificates.
pub(super) struct Renewed {
    public: Option<Arc<ServerConfig>>,
    internal: Option<Arc<ServerConfig>>,
}

impl Listeners {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the key whose file is unusable.
    pub(super) fn load(config: &Config) -> Result<Self, StartError> {
        let Renewed { public, internal } = Renewed::load(config)?;
        Ok(Listeners {
            public: public.map(Tls::new),
            internal: internal.map(Tls::new),
        })
    }

    /// Applies reloaded certificates. TLS itself cannot be switched on or off.
    pub(super) fn renew(&self, renewed: Renewed) {
        let Renewed { public, internal } = renewed;
        for (name, now, next) in [
            ("public", &self.public, public),
            ("internal", &self.internal, internal),
        ] {
            match (now, next) {
                (Some(now), Some(next)) => now.replace(next),
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => {
                    tracing::warn!(listener = name, "switching TLS on or off needs a restart");
                }
            }
        }
    }
}

impl Renewed {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the key whose file is unusable.
    pub(super) fn load(config: &Config) -> Result<Self, StartError> {
        let (public, internal) = (&config.public, &config.internal);
        let client_ca = internal.client_ca.as_deref();
        Ok(Renewed {
            public: of(
                "public",
                public.cert.as_deref(),
                public.key.as_deref(),
                None,
            )?,
            internal: of(
                "internal",
                internal.cert.as_deref(),
                internal.key.as_deref(),
                client_ca,
            )?,
        })
    }
}

/// The TLS configuration of a listener. `None` if no certificate is configured. With `client_ca`,
/// clients must present a certificate that it signed.
fn of(
    listener: &'static str,
    cert: Option<&Path>,
    key: Option<&Path>,
    client_ca: Option<&Path>,
) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let (Some(cert), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let mut config = server_config(cert, key, client_ca).map_err(|Unusable { key, problem }| {
        StartError::new(format!("{listener}.{key}: {problem}"))
    })?;
    config.alpn_protocols = match listener {
        "internal" => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        _ => vec![b"http/1.1".to_vec()],
    };
    Ok(Some(Arc::new(config)))
}
