//! Certificates.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::StartError;

/// Chooses the cryptography for the whole process; the first choice stays.
pub(super) fn install_crypto() {
    if aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("the cryptography was chosen before");
    }
}

/// What accepts TLS on a listener; `None` where no certificate is configured. With `client_ca`,
/// clients must show a certificate that it signed.
///
/// # Errors
/// Names the key whose file can't be used.
pub(super) fn of(
    listener: &'static str,
    cert: Option<&Path>,
    key: Option<&Path>,
    client_ca: Option<&Path>,
) -> Result<Option<TlsAcceptor>, StartError> {
    let (Some(cert), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        StartError::new(format!("{listener}.{what}: {error}"))
    };
    let chain = certificates(cert).map_err(|error| wrong("cert", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key", &error))?;
    let builder = ServerConfig::builder();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path).map_err(|error| wrong("client_ca", &error))? {
                roots
                    .add(root)
                    .map_err(|error| wrong("client_ca", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|error| wrong("client_ca", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("cert", &error))?;
    config.alpn_protocols = match listener {
        "internal" => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        _ => vec![b"http/1.1".to_vec()],
    };
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, tokio_rustls::rustls::pki_types::pem::Error> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(tokio_rustls::rustls::pki_types::pem::Error::NoItemsFound);
    }
    Ok(found)
}
