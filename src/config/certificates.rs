//! Reads the TLS files: the same code checks a configuration and serves with it.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A file that can't be used: the last part of its key, and the reason.
pub(crate) struct Unusable {
    pub(crate) key: &'static str,
    pub(crate) problem: String,
}

fn unusable(key: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Unusable {
    move |problem| Unusable {
        key,
        problem: problem.to_string(),
    }
}

/// The TLS server configuration with this certificate and its key. With `client_ca`, clients must
/// present a certificate that it signed.
///
/// # Errors
///
/// Names the first file that can't be used.
pub(crate) fn server_config(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<ServerConfig, Unusable> {
    let chain = certificates(cert, "cert")?;
    let private = PrivateKeyDer::from_pem_slice(&read(key, "key")?)
        .map_err(|error| unusable("key")(&what_is_missing(&error, "private key")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("cert")(&error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
    };
    builder
        .with_single_cert(chain, private)
        .map_err(|error| unusable("cert")(&error))
}

/// The verifier of client certificates.
fn verifier(
    authorities: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, Unusable> {
    let mut roots = RootCertStore::empty();
    for root in certificates(authorities, "client_ca")? {
        roots
            .add(root)
            .map_err(|error| unusable("client_ca")(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable("client_ca")(&error))
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let pem = read(path, key)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(key)(&"expected a PEM with a certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(key)(&what_is_missing(&error, "certificate"))),
    }
}

fn what_is_missing(error: &PemError, wanted: &str) -> String {
    if matches!(error, PemError::NoItemsFound) {
        format!("expected a PEM with a {wanted}")
    } else {
        format!("expected a PEM with a {wanted}: {error}")
    }
}

/// The bytes of a file, without the byte order mark that some editors put in front.
fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, Unusable> {
    let mut bytes = std::fs::read(path)
        .map_err(|error| unusable(key)(&format!("the file can't be read: {error}")))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}
