//! `tidings init`: a first configuration with a generated secret.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use super::private_file;
use crate::config::Secret;

/// The file to write, and its contents.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write; it must not exist
    #[arg(default_value = "tidings.toml")]
    file: PathBuf,
    /// Store history on disk, in this directory
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// An origin whose pages may connect, such as `https://app.example.com`
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// Listen on all addresses, as in a container behind a proxy that terminates TLS
    #[arg(long)]
    all_addresses: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Writes the configuration and prints the next steps.
pub(super) fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let file = args.file.as_path();
    let about = |error: &std::io::Error| Failure::new(format!("{}: {error}", file.display()));
    let text = configuration(args, Secret::random()?.expose());
    if args.force && file.exists() {
        fs::remove_file(file).map_err(|error| about(&error))?;
    }
    let mut created = private_file::create(file).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let there = format!("already_exists: {}: the file exists", file.display());
            Failure::new(there).advise("--force replaces it, and its secrets with it")
        } else {
            about(&error)
        }
    })?;
    let written = created
        .write_all(text.as_bytes())
        .and_then(|()| created.sync_all());
    written.map_err(|error| about(&error))?;
    if output.is_json() {
        return output.object(&json!({"path": file.display().to_string()}));
    }
    output.line(&next_steps(file))
}

fn next_steps(file: &Path) -> String {
    let file = file.display();
    format!(
        "{file} was written, with a generated secret. Next:\n  \
         tidings check {file}\n  \
         tidings doctor --config {file}\n  \
         tidings serve --config {file}\n  \
         tidings token --config {file} --sub backend --role service"
    )
}

/// The file's contents. Every other key has its default.
fn configuration(args: &Args, secret: &str) -> String {
    let host = if args.all_addresses {
        "0.0.0.0"
    } else {
        "127.0.0.1"
    };
    let origins: Vec<String> = args.origins.iter().map(|origin| quoted(origin)).collect();
    let mut text = format!(
        "# The configuration of Tidings, written by `tidings init`. It contains a secret: keep its mode at 0600, and keep it out of\n\
         # version control. `tidings config` prints every other key with its default.\n\
         # Each key can also be set by an environment variable: TIDINGS_AUTH__HS256_SECRET is auth.hs256_secret.\n\
         \n\
         # Browsers connect here. Put a proxy with TLS in front, or set `cert` and `key`.\n\
         [public]\n\
         listen = \"{host}:8000\"\n\
         # The origins whose pages may connect. If none is listed, only pages of the server's own origin may.\n\
         allowed_origins = [{}]\n\
         # Proxies whose header with the client's address is trusted.\n\
         # trusted_proxies = [\"10.0.0.0/8\"]\n\
         \n\
         # Back-end services and Prometheus connect here. Do not expose it to the public network.\n\
         [internal]\n\
         listen = \"{host}:50051\"\n\
         auth = \"jwt\"\n\
         \n\
         # Tokens are JWTs. Your application signs them with this secret. Or set your identity provider's keys with\n\
         # `jwks_url`, and remove the secret.\n\
         [auth]\n\
         hs256_secret = \"{secret}\"\n\
         # jwks_url = \"https://id.example.com/.well-known/jwks.json\"\n\
         # issuer = \"https://id.example.com/\"\n\
         # audience = \"tidings\"\n\
         \n",
        origins.join(", "),
    );
    text.push_str("# Where the events of channels with history are kept. In memory they are gone after a restart.\n");
    // Writing to a `String` cannot fail.
    match &args.data {
        Some(path) => drop(write!(
            text,
            "[history]\nstorage = \"disk\"\npath = {}\n",
            quoted(&path.display().to_string())
        )),
        None => text.push_str("# [history]\n# storage = \"disk\"\n# path = \"tidings-data\"\n"),
    }
    text.push_str(NAMESPACES);
    text
}

/// The namespaces of a new file.
const NAMESPACES: &str = r#"
# Channels are named `namespace:id`. Only services and admins can use a namespace without rules.
# Users may subscribe to `project:42` if their token has "42" in its claim `projects`.
[[namespace]]
name = "project"
history = { size = 100, ttl = "1h" }
presence = true
subscribe = 'id in claims.projects'

# Announcements to all connected users.
[[namespace]]
name = "news"
history = { size = 20, ttl = "24h" }
subscribe = 'true'

# Declare event types here to validate payloads and to generate types for clients:
# [[event_type]]
# name = "project.updated"
# namespace = "project"
# schema_file = "schemas/project.updated.json"
"#;

/// A string in TOML.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Inputs, Storage};

    #[test]
    fn written_configuration_is_accepted_without_warning() {
        let args = Args {
            file: PathBuf::from("tidings.toml"),
            data: Some(PathBuf::from("a \"quoted\" folder")),
            origins: vec![String::from("https://app.example.com")],
            all_addresses: false,
            force: false,
        };
        let secret = Secret::random().expect("random bytes");
        let text = configuration(&args, secret.expose());
        let inputs = Inputs {
            needs_key: true,
            ..Inputs::default()
        };
        let config = Config::from_toml(Path::new("/x/tidings.toml"), &text, &inputs).expect("good");
        assert_eq!(config.warnings(), Vec::<String>::new());
        assert_eq!(config.auth.hs256_secret, Some(secret));
        assert_eq!(config.history.storage, Storage::Disk);
        assert_eq!(config.public.allowed_origins, ["https://app.example.com"]);
    }

    #[test]
    fn container_configuration_listens_on_all_addresses() {
        let args = Args {
            file: PathBuf::from("tidings.toml"),
            data: None,
            origins: Vec::new(),
            all_addresses: true,
            force: false,
        };
        let text = configuration(&args, "a secret of more than thirty-two bytes");
        let config = Config::from_toml(Path::new("tidings.toml"), &text, &Inputs::default());
        let config = config.expect("good");
        assert!(config.public.listen.ip().is_unspecified());
        assert!(config.internal.listen.ip().is_unspecified());
    }
}
