//! The connection of the commands to a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidings_client::Client;

use super::contexts::{Context, Contexts};
use super::failure::Failure;

/// The default server.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";
/// The longest wait for a response.
const ANSWER: Duration = Duration::from_mins(1);
/// The largest response, in bytes: more than the largest event that a server can be configured to
/// accept.
const LARGEST: usize = (1 << 30) + (1 << 20);
/// The heading of these options in the help.
const HEADING: &str = "Server";

/// The server to use, and the credentials for it.
#[derive(Args, Clone, Default)]
pub(super) struct Target {
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = HEADING,
        display_order = 100,
        help = "The server's gRPC address [env: TIDINGS_SERVER] [default: the context in use, or http://127.0.0.1:50051]"
    )]
    server: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = HEADING,
        display_order = 101,
        conflicts_with = "server",
        help = "A server that `tidings context` remembers [env: TIDINGS_CONTEXT]"
    )]
    context: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "JWT",
        help_heading = HEADING,
        display_order = 102,
        help = "The token to show to the server [env: TIDINGS_TOKEN]"
    )]
    token: Option<String>,
    /// Additional certificate authorities to trust for https (PEM file)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, display_order = 103)]
    ca: Option<PathBuf>,
    /// Client certificate for https (PEM file)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, display_order = 104)]
    client_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM file)
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING, display_order = 105)]
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
    /// The names of the options.
    pub(super) const OPTIONS: [&'static str; 6] = [
        "server",
        "context",
        "token",
        "ca",
        "client_cert",
        "client_key",
    ];

    /// These options; those that are not given are taken from `other`.
    pub(super) fn or(self, other: Target) -> Target {
        Target {
            server: self.server.or(other.server),
            context: self.context.or(other.context),
            token: self.token.or(other.token),
            ca: self.ca.or(other.ca),
            client_cert: self.client_cert.or(other.client_cert),
            client_key: self.client_key.or(other.client_key),
        }
    }

    /// The token on the command line.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let Context {
            server,
            token,
            ca,
            client_cert,
            client_key,
        } = self.resolve()?;
        let mut client = Client::builder(server)
            .timeout(ANSWER)
            .largest_message(LARGEST)
            .user_agent(concat!("tidings-cli/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            client = client.token(token);
        }
        if let Some(path) = &ca {
            client = client.ca(read(path)?);
        }
        client = match (&client_cert, &client_key) {
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

    /// The address of the server, for failures.
    pub(super) fn address(&self) -> String {
        let server = self.resolve().map(|context| context.server);
        server.unwrap_or_else(|_| String::from(DEFAULT_SERVER))
    }

    /// The server and its credentials: from the flags, the environment, or a context. The
    /// credentials of a context are for its own server only.
    fn resolve(&self) -> Result<Context, Failure> {
        let environment = |name| {
            let unnamed = self.server.is_none() && self.context.is_none();
            unnamed.then(|| flag_or_env(None, name)).flatten()
        };
        let server = self
            .server
            .clone()
            .or_else(|| environment("TIDINGS_SERVER"));
        let context = match (&server, &self.context) {
            (Some(_), _) => Context::default(),
            (None, Some(name)) => Contexts::load()?.named(name)?.clone(),
            (None, None) => remembered(environment("TIDINGS_CONTEXT"))?,
        };
        let server = server.unwrap_or(context.server);
        Ok(Context {
            server: if server.is_empty() {
                String::from(DEFAULT_SERVER)
            } else {
                server
            },
            token: flag_or_env(self.token.as_ref(), "TIDINGS_TOKEN").or(context.token),
            ca: self.ca.clone().or(context.ca),
            client_cert: self.client_cert.clone().or(context.client_cert),
            client_key: self.client_key.clone().or(context.client_key),
        })
    }
}

/// The context of this name, or the one in use.
fn remembered(name: Option<String>) -> Result<Context, Failure> {
    let contexts = Contexts::load()?;
    let name = name.unwrap_or_else(|| contexts.current.clone());
    if name.is_empty() {
        return Ok(Context::default());
    }
    contexts.named(&name).cloned()
}

/// A flag's value, or else a variable that is not empty.
pub(super) fn flag_or_env(flag: Option<&String>, variable: &str) -> Option<String> {
    let variable = || std::env::var(variable).ok().filter(|text| !text.is_empty());
    flag.cloned().or_else(variable)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_not_printed() {
        let target = Target {
            token: Some(String::from("hunter2")),
            ..Target::default()
        };
        assert!(!format!("{target:?}").contains("hunter2"));
    }

    #[test]
    fn options_after_the_command_win() {
        let with = |server: Option<&str>, token: Option<&str>| Target {
            server: server.map(str::to_owned),
            token: token.map(str::to_owned),
            ..Target::default()
        };
        let merged = with(Some("http://one:1"), None).or(with(Some("http://two:2"), Some("t")));
        assert_eq!(merged.server.as_deref(), Some("http://one:1"));
        assert_eq!(merged.token(), Some("t"));
    }
}
