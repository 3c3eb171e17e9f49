//! The connection of the commands to a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidings_client::Client;

use super::failure::Failure;

/// The server's address if none is given.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// The longest wait for a response.
const ANSWER: Duration = Duration::from_mins(1);
/// The largest response, in bytes: more than the largest event that a server can be configured to
/// accept.
const LARGEST: usize = (1 << 30) + (1 << 20);

/// The server, and the credentials.
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
        help = "The token for the server [env: TIDINGS_TOKEN]"
    )]
    token: Option<String>,
    /// Certificate authorities to trust for https (PEM file), besides the system's
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
    /// The token on the command line.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let server = flag_or_env(self.server.as_ref(), "TIDINGS_SERVER")
            .unwrap_or_else(|| String::from(DEFAULT_SERVER));
        let mut client = Client::builder(server)
            .timeout(ANSWER)
            .largest_message(LARGEST)
            .user_agent(concat!("tidings-cli/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = flag_or_env(self.token.as_ref(), "TIDINGS_TOKEN") {
            client = client.token(token);
        }
        if let Some(path) = &self.ca {
            client = client.ca(read(path)?);
        }
        client = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => client.identity(read(cert)?, read(key)?),
            (None, None) => client,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::new(
                    "--client-cert and --client-key belong together",
                ));
            }
        };
        Ok(client.connect().await?)
    }
}

/// A flag's value, or else a variable that is not empty.
pub(super) fn flag_or_env(flag: Option<&String>, variable: &str) -> Option<String> {
    let variable = || std::env::var(variable).ok().filter(|text| !text.is_empty());
    flag.cloned().or_else(variable)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_not_printed() {
        let target = Target {
            server: None,
            token: Some(String::from("hunter2")),
            ca: None,
            client_cert: None,
            client_key: None,
        };
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
