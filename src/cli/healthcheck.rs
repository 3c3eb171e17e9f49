//! `tidings healthcheck`: one probe of a server on this machine, for images without curl.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::client::flag_or_env;
use super::failure::Failure;
use super::output::{Output, note};
use super::serve::reachable;
use crate::config::{Config, Inputs, duration};

/// The most bytes that are read of a response. The status is in the first ones.
const LARGEST: u64 = 4096;

/// The server and path to probe.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "FILE",
        help = "The server's configuration file, for its address [env: TIDINGS_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// Probe this server instead, such as http://127.0.0.1:8000
    #[arg(long, value_name = "URL")]
    url: Option<Uri>,
    /// Only check whether the process answers (`/healthz`), not whether it is ready (`/readyz`)
    #[arg(long)]
    live: bool,
    /// The longest time to wait for the response
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    timeout: Duration,
}

/// The address to probe.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    tls: bool,
    /// Host and port.
    authority: String,
    path: &'static str,
}

/// Succeeds if the server answers 200.
pub(super) async fn run(args: Args, output: &mut Output) -> Result<(), Failure> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let probe = match &args.url {
        Some(url) => of_url(url, path)?,
        None => of_config(args.config, path),
    };
    let scheme = if probe.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}{path}", probe.authority);
    let asked = tokio::time::timeout(args.timeout, ask(&probe)).await;
    let status = match asked {
        Err(_) => Err(format!("no response within {:?}", args.timeout)),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(status)) => Ok(status),
    };
    match status {
        Ok(200) if output.is_json() => output.object(&json!({"url": url, "status": 200})),
        Ok(200) => output.line(&format!("{url}: 200")),
        Ok(status) => Err(Failure::new(format!("unavailable: {url}: {status}"))),
        Err(cause) => Err(Failure::new(format!("unavailable: {url}: {cause}"))),
    }
}

fn of_url(url: &Uri, path: &'static str) -> Result<Probe, Failure> {
    let wrong = || {
        Failure::Usage(String::from(
            "--url: expected http://HOST:PORT or https://HOST:PORT",
        ))
    };
    let tls = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return Err(wrong()),
    };
    let host = url.host().ok_or_else(wrong)?;
    let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Probe {
        tls,
        authority: format!("{host}:{port}"),
        path,
    })
}

/// The public listener of the configuration that `tidings serve` would use here. An invalid
/// configuration file must not make a running server count as unhealthy: the server loaded the file
/// before it became invalid.
fn of_config(file: Option<PathBuf>, path: &'static str) -> Probe {
    let file = file.or_else(|| flag_or_env(None, "TIDINGS_CONFIG").map(PathBuf::from));
    let inputs = Inputs {
        preset: super::check::preset(flag_or_env(None, "TIDINGS_PRESET").as_deref())
            .unwrap_or_default(),
        file,
        environment: Inputs::process_environment(),
        ..Inputs::default()
    };
    let config = Config::load(&inputs).unwrap_or_else(|problems| {
        note(&format!(
            "the configuration can't be read, probing the default address: {problems}"
        ));
        Config::default()
    });
    let address: SocketAddr = reachable(config.public.listen);
    Probe {
        tls: config.public.cert.is_some(),
        authority: address.to_string(),
        path,
    }
}

async fn ask(probe: &Probe) -> io::Result<u16> {
    let socket = TcpStream::connect(&probe.authority).await?;
    if !probe.tls {
        return exchange(socket, probe).await;
    }
    let host = probe
        .authority
        .rsplit_once(':')
        .map_or("", |(host, _)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = connector()?.connect(name, socket).await?;
    exchange(stream, probe).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    probe: &Probe,
) -> io::Result<u16> {
    let Probe {
        path, authority, ..
    } = probe;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // A server that closes the connection without TLS's `close_notify` has sent its response all
    // the same.
    let read = stream.take(LARGEST).read_to_end(&mut answer).await;
    match status(&answer) {
        Some(status) => Ok(status),
        None => Err(read
            .err()
            .unwrap_or_else(|| io::Error::other("the answer is not HTTP"))),
    }
}

/// The status of an HTTP/1.1 response.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn connector() -> io::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts every certificate. The probe sends no secret, and connects to a loopback address, for
/// which no public authority signs certificates.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_its_default_port() {
        let probe = |url: &str| of_url(&url.parse().expect("a URI"), "/readyz");
        assert_eq!(probe("http://h").expect("a probe").authority, "h:80");
        assert!(probe("https://[::1]:8443/x").expect("a probe").tls);
        assert!(probe("ftp://h").is_err() && probe("h:80").is_err());
    }

    #[test]
    fn status_is_read_from_first_line() {
        assert_eq!(status(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(503));
        assert_eq!(status(b"SSH-2.0"), None);
    }
}
