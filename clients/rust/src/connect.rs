//! Configuration of a client and its connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Endpoint;
#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Code, transport};

use crate::token::{TokenError, Tokens};
use crate::{Backoff, Client, Error, Result};

/// The timeout of connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest timeout of a call. gRPC cannot express much more, and timers would overflow.
const LONGEST: Duration = Duration::from_secs(24 * 365 * 3600);
/// The interval of keep-alive pings on a silent connection, and the timeout of their answers.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Configures a [`Client`].
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
            timeout: Duration::from_secs(60),
            largest: 32 << 20,
            user_agent: concat!("tidings-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            #[cfg(feature = "tls")]
            tls: ClientTlsConfig::new().with_native_roots(),
        }
    }

    /// A fixed token (a JWT).
    #[must_use]
    pub fn token(mut self, token: impl AsRef<str>) -> Self {
        self.tokens = Tokens::fixed(token.as_ref());
        self
    }

    /// A token provider. It is called before the first call, a minute before a token expires (or at
    /// half of its lifetime, if that is shorter), and when the server refuses a token. Calls never
    /// overlap.
    #[must_use]
    pub fn token_provider<P, F>(mut self, provider: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.tokens = Ok(Tokens::from(Arc::new(move || Box::pin(provider()))));
        self
    }

    /// The range of reconnect delays. Default: half a second to 15 seconds.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The timeout of a call including its retries. Default: a minute, at most a year.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// The largest message, in bytes, in both directions. Default: 32 MiB.
    #[must_use]
    pub fn largest_message(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// The user agent, for the server's logs.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// A certificate authority to trust for https, in addition to the system's, in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.ca_certificate(Certificate::from_pem(pem));
        self
    }

    /// The client certificate and private key (mutual TLS), in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(mut self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.identity(Identity::from_pem(cert, key));
        self
    }

    /// Builds the client. It connects on its first call, and reconnects when necessary. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` if the URL, the token or a certificate is invalid.
    pub fn build(self) -> Result<Client> {
        let (endpoint, rest) = self.endpoint()?;
        Ok(rest.client(endpoint.connect_lazy()))
    }

    /// Builds the client and connects.
    ///
    /// # Errors
    /// As [`Builder::build`], and `Unavailable` if the server cannot be reached.
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

/// The settings of a client besides its channel.
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
