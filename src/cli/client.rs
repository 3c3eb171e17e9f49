//! The connection of the commands to a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::failure::Failure;
use crate::proto::catalog_service_client::CatalogServiceClient;
use crate::proto::connection_service_client::ConnectionServiceClient;
use crate::proto::event_service_client::EventServiceClient;

/// Where a server is found unless it is said.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_mins(1);
/// The biggest answer, in bytes: above the biggest event that a server can be set to take.
const LARGEST: usize = (1 << 30) + (1 << 20);

/// Which server, and who asks.
#[derive(Args)]
pub(super) struct Target {
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "The server's gRPC address [env: TIDINGS_SERVER] [default: http://127.0.0.1:50051]"
    )]
    server: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "JWT",
        help = "The token to show to the server [env: TIDINGS_TOKEN]"
    )]
    token: Option<String>,
    /// Authorities to trust for https (PEM file), besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate for https (PEM file)
    #[arg(long, global = true, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM file)
    #[arg(long, global = true, value_name = "FILE")]
    client_key: Option<PathBuf>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let server = said(self.server.as_ref(), "TIDINGS_SERVER")
            .unwrap_or_else(|| String::from(DEFAULT_SERVER));
        let url = if server.contains("://") {
            server
        } else {
            format!("http://{server}")
        };
        let wrong = || Failure::new("--server: expected a URL such as http://127.0.0.1:50051");
        let mut endpoint = Endpoint::from_shared(url.clone()).map_err(|_| wrong())?;
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(self.tls()?)?;
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .user_agent(concat!("tidings-cli/", env!("CARGO_PKG_VERSION")))?;
        let token = match said(self.token.as_ref(), "TIDINGS_TOKEN") {
            None => None,
            Some(token) => Some(bearer(&token)?),
        };
        Ok(Client {
            channel: endpoint.connect().await?,
            token,
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let mut tls = ClientTlsConfig::new().with_native_roots();
        if let Some(path) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
        }
        match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                Ok(tls.identity(Identity::from_pem(read(cert)?, read(key)?)))
            }
            (None, None) => Ok(tls),
            (Some(_), None) | (None, Some(_)) => Err(Failure::new(
                "--client-cert and --client-key belong together",
            )),
        }
    }
}

/// A flag, or else a variable that is not empty.
pub(super) fn said(flag: Option<&String>, variable: &str) -> Option<String> {
    let variable = || std::env::var(variable).ok().filter(|text| !text.is_empty());
    flag.cloned().or_else(variable)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// The header's value; marked so that it shows in no log.
fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| Failure::new("--token: expected a token as `tidings token` prints it"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection to a server.
pub(super) struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Publishing and following.
    pub(super) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST)
    }

    /// Looking at connections.
    pub(super) fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// Looking at event types.
    pub(super) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// A request whose answer comes soon.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(ANSWER);
        request
    }

    /// A request whose answers never end.
    pub(super) fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_does_not_show() {
        let target = Target {
            server: None,
            token: Some(String::from("hunter2")),
            ca: None,
            client_cert: None,
            client_key: None,
        };
        assert!(!format!("{target:?}").contains("hunter2"));
        assert!(!format!("{:?}", bearer("hunter2")).contains("hunter2"));
    }
}
