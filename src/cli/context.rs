//! `tidings context`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::contexts::{Context, Contexts};
use super::failure::Failure;
use super::output::Output;
use crate::event::Timestamp;

/// The longest token that is read from stdin, in bytes.
const LONGEST_TOKEN: u64 = 16 * 1024;

/// Manage the remembered servers; without a command they are listed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the remembered servers
    List,
    /// Remember a server, or change its settings
    Set(SetArgs),
    /// Use this server by default
    Use {
        /// The context
        name: String,
    },
    /// Remove a server and its token
    Remove {
        /// The context
        name: String,
    },
}

#[derive(clap::Args)]
struct SetArgs {
    /// The context, such as `production`
    #[arg(value_parser = context_name)]
    name: String,
    /// The server's gRPC address
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The token for the server; `-` reads it from stdin, which keeps it out of the shell's history
    #[arg(long, value_name = "JWT")]
    token: Option<String>,
    /// Additional certificate authorities to trust for https (PEM file)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate for https (PEM file)
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM file)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl std::fmt::Debug for SetArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetArgs")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn context_name(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 of A-Z a-z 0-9 - _ .")
    }
}

/// Lists or changes the remembered servers.
pub(super) fn run(args: Args, output: &mut Output) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match args.command {
        None | Some(Command::List) => return list(&contexts, output),
        Some(Command::Set(args)) => set(&mut contexts, args)?,
        Some(Command::Use { name }) => {
            contexts.named(&name)?;
            contexts.current = name;
        }
        Some(Command::Remove { name }) => {
            contexts.named(&name)?;
            contexts.context.remove(&name);
            if contexts.current == name {
                contexts.current.clear();
            }
        }
    }
    let path = contexts.save()?;
    if output.is_json() {
        return output.object(&json!({
            "path": path.display().to_string(),
            "current": contexts.current,
        }));
    }
    output.line(&match contexts.current.as_str() {
        "" => format!("written to {}; no context is in use", path.display()),
        current => format!("written to {}; in use: {current}", path.display()),
    })
}

fn set(contexts: &mut Contexts, args: SetArgs) -> Result<(), Failure> {
    let mut context = contexts
        .context
        .get(&args.name)
        .cloned()
        .unwrap_or_default();
    if let Some(server) = args.server {
        if server != context.server {
            // A token is for one server.
            context.token = None;
        }
        context.server = server;
    }
    if context.server.is_empty() {
        return Err(Failure::Usage(String::from(
            "a new context needs --server, such as http://127.0.0.1:50051",
        )));
    }
    match args.token.as_deref() {
        None => {}
        Some("-") => context.token = Some(read_token()?),
        Some(token) => context.token = Some(token.to_owned()),
    }
    for (kept, given) in [
        (&mut context.ca, args.ca),
        (&mut context.client_cert, args.client_cert),
        (&mut context.client_key, args.client_key),
    ] {
        if let Some(path) = given {
            *kept = Some(absolute(&path)?);
        }
    }
    if contexts.current.is_empty() {
        contexts.current.clone_from(&args.name);
    }
    contexts.context.insert(args.name, context);
    Ok(())
}

fn read_token() -> Result<String, Failure> {
    let mut token = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST_TOKEN)
        .read_to_string(&mut token)?;
    Ok(token.trim().to_owned())
}

/// The absolute path of the file, which is valid in every working directory.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn list(contexts: &Contexts, output: &mut Output) -> Result<(), Failure> {
    let now = Timestamp::now();
    if output.is_json() {
        return contexts.context.iter().try_for_each(|(name, context)| {
            output.object(&json!({
                "name": name,
                "current": *name == contexts.current,
                "server": context.server,
                "token": context.token.is_some(),
                "expires_at": expiry(context).map(Timestamp::to_rfc3339),
            }))
        });
    }
    let rows: Vec<Vec<String>> = contexts
        .context
        .iter()
        .map(|(name, context)| {
            let mark = if *name == contexts.current { "*" } else { "" };
            vec![
                mark.to_owned(),
                name.clone(),
                context.server.clone(),
                token_state(context, now),
            ]
        })
        .collect();
    output.table(&["", "NAME", "SERVER", "TOKEN"], &rows)
}

fn token_state(context: &Context, now: Timestamp) -> String {
    match (context.token.is_some(), expiry(context)) {
        (false, _) => String::from("-"),
        (true, None) => String::from("yes"),
        (true, Some(end)) if end <= now => format!("expired {}", end.to_rfc3339()),
        (true, Some(end)) => format!("until {}", end.to_rfc3339()),
    }
}

/// The expiry of a context's token, read from the token itself. Only the server verifies it.
fn expiry(context: &Context) -> Option<Timestamp> {
    let payload = context.token.as_deref()?.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_i64()?;
    Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_shows_expiry_but_not_token() {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"exp":1000}"#));
        let context = Context {
            token: Some(token),
            ..Context::default()
        };
        let state = |at| token_state(&context, Timestamp::from_micros(at));
        assert_eq!(state(0), "until 1970-01-01T00:16:40.000Z");
        assert!(state(1_000_000_000).starts_with("expired "));
        assert_eq!(token_state(&Context::default(), Timestamp::now()), "-");
    }

    #[test]
    fn another_server_does_not_get_the_old_token() {
        let mut contexts = Contexts::default();
        let args = |server: &str, token: Option<&str>| SetArgs {
            name: String::from("a"),
            server: Some(server.to_owned()),
            token: token.map(str::to_owned),
            ca: None,
            client_cert: None,
            client_key: None,
        };
        set(&mut contexts, args("http://one:1", Some("t"))).expect("stored");
        assert_eq!(contexts.current, "a");
        set(&mut contexts, args("http://one:1", None)).expect("stored");
        assert_eq!(contexts.named("a").expect("a").token.as_deref(), Some("t"));
        set(&mut contexts, args("http://two:1", None)).expect("stored");
        assert_eq!(contexts.named("a").expect("a").token, None);
    }
}
