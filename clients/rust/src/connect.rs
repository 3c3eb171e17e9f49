//! How a client reaches its server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Endpoint;
#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Code, transport};

use crate::token::{TokenError, Tokens};
use crate::{Backoff, Client, Error, Result};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest that a call may take: gRPC can't say much more, and time can't be counted without end.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// After how long without a word the server is asked whether it is still there, and how long it may take to answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Sets a [`Client`] up.
#[derive(Debug)]
pub struct Builder {
    url: String,
    tokens: Result<Tokens>,
    backoff: Backoff,
    timeout: Duration,
    largest: usize,
    user_agent: String,
    #[cfg(feature = "tls")]
    tls: ClientTlsConfig,
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Builder {
            url,
            tokens: Ok(Tokens::none()),
            backoff: Backoff::default(),
            timeout: Duration::from_mins(1),
            largest: 32 << 20,
            user_agent: concat!("tidings-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            #[cfg(feature = "tls")]
            tls: ClientTlsConfig::new().with_native_roots(),
        }
    }

    /// The token (a JWT) to show, always the same.
    #[must_use]
    pub fn token(mut self, token: impl AsRef<str>) -> Self {
        self.tokens = Tokens::fixed(token.as_ref());
        self
    }

    /// Where tokens come from: asked before the first call, a minute before a token ends (at half of its life, if
    /// that is shorter), and when the server refuses one; never twice at once.
    #[must_use]
    pub fn token_provider<P, F>(mut self, provider: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.tokens = Ok(Tokens::from(Arc::new(move || Box::pin(provider()))));
        self
    }

    /// How long to wait before trying again; half a second to 15 seconds unless it is said.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long a call may take with all its repeats; a minute unless it is said, a year at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// The biggest message, in bytes, both ways; 32 MiB unless it is said.
    #[must_use]
    pub fn largest_message(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// Who asks, for the server's logs.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// An authority to trust for https, besides the system's, in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.ca_certificate(Certificate::from_pem(pem));
        self
    }

    /// The certificate and the private key to show (mutual TLS), in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(mut self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.identity(Identity::from_pem(cert, key));
        self
    }

    /// The client. It connects with its first call, and again whenever it has to. Call it within a runtime (tokio).
    ///
    /// # Errors
    /// `InvalidArgument` where the URL, the token or a certificate can't be used.
    pub fn build(self) -> Result<Client> {
        let (endpoint, rest) = self.endpoint()?;
        Ok(rest.client(endpoint.connect_lazy()))
    }

    /// The client, connected.
    ///
    /// # Errors
    /// As [`Builder::build`], and `Unavailable` where the server can't be reached.
    pub async fn connect(self) -> Result<Client> {
        let (endpoint, rest) = self.endpoint()?;
        Ok(rest.client(endpoint.connect().await?))
    }

    fn endpoint(self) -> Result<(Endpoint, Rest)> {
        let url = if self.url.contains("://") {
            self.url
        } else {
            format!("http://{}", self.url)
        };
        let wrong = |error: transport::Error| {
            Error::new(Code::InvalidArgument, format!("the URL {url}: {error}"))
        };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(wrong)?;
        #[cfg(feature = "tls")]
        let endpoint = if url.starts_with("https://") {
            endpoint.tls_config(self.tls).map_err(wrong)?
        } else {
            endpoint
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .user_agent(self.user_agent)
            .map_err(wrong)?;
        let rest = Rest {
            tokens: self.tokens?,
            backoff: self.backoff,
            timeout: self.timeout,
            largest: self.largest,
        };
        Ok((endpoint, rest))
    }
}

/// What a client is set up with besides its channel.
struct Rest {
    tokens: Tokens,
    backoff: Backoff,
    timeout: Duration,
    largest: usize,
}

impl Rest {
    fn client(self, channel: transport::Channel) -> Client {
        Client::new(
            channel,
            self.tokens,
            self.backoff,
            self.timeout,
            self.largest,
        )
    }
}
