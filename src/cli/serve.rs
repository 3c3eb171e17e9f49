//! `tidings serve`.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check;
use super::client::flag_or_env;
use super::failure::Failure;
use super::output::note;
use super::token::{self, Claims};
use crate::config::{CatalogMode, Config, Inputs, LogFormat, Problems, Secret, duration};
use crate::event::Timestamp;
use crate::server::{self, Bound, ServeOptions};
use crate::telemetry::logs;
use crate::transport::http::DevGuide;

/// The lifetime of the token that `--dev` prints.
const DEV_TTL: Duration = Duration::from_hours(24);

/// How to run the server.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file [env: TIDINGS_CONFIG]"
    )]
    config: Option<PathBuf>,
    #[arg(
        long,
        value_name = "NAME",
        value_parser = check::preset_names(),
        help = "A ready configuration below the file and the environment [env: TIDINGS_PRESET]"
    )]
    preset: Option<String>,
    /// For trying the server: a random secret, anonymous connections, open channels, a demo page
    #[arg(long)]
    dev: bool,
    /// Write the bound addresses to this file, as JSON, once both listeners accept connections
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Time that clients have to leave when the server stops (`server.drain`)
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    drain: Option<String>,
    /// Address for browsers (`public.listen`)
    #[arg(long, value_name = "ADDRESS")]
    public: Option<SocketAddr>,
    /// Address for services (`internal.listen`)
    #[arg(long, value_name = "ADDRESS")]
    internal: Option<SocketAddr>,
}

fn checked_duration(text: &str) -> Result<String, &'static str> {
    duration::parse(text).map(|_| text.to_owned())
}

/// Reloads the configuration from the same sources.
type Reload = Arc<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

/// Everything that the server is started with.
struct Start {
    /// The checked configuration.
    config: Config,
    /// True with `--dev`.
    dev: bool,
    /// Where to write the bound addresses.
    ready_file: Option<PathBuf>,
    /// The reload for SIGHUP.
    reload: Reload,
    /// With `dev`: a token with the roles `service` and `admin`, if there is a secret to sign it
    /// with.
    dev_token: Option<String>,
    /// With `dev`: the event of the printed commands.
    trial: Trial,
}

/// An event for trying the server.
#[derive(Debug, PartialEq, Eq)]
struct Trial {
    channel: String,
    event_type: String,
    data: String,
}

impl Trial {
    /// A greeting; if the catalog does not accept it, the first event type with an example.
    fn of(config: &Config) -> Self {
        let greeting = Trial {
            channel: String::from("demo"),
            event_type: String::from("greeting"),
            data: String::from("{\"text\":\"hello\"}"),
        };
        if config.catalog.mode != CatalogMode::Strict {
            return greeting;
        }
        let mut known = config.event_type.iter();
        let known = known
            .find(|known| !known.control && known.roles.is_empty() && known.namespace != "user");
        let found = known.and_then(|known| {
            let channel = match known.namespace.as_str() {
                "" | "*" => "global",
                namespace => namespace,
            };
            Some(Trial {
                channel: channel.to_owned(),
                event_type: known.name.clone(),
                // The shell commands have it between single quotes.
                data: known.example.clone().filter(|data| !data.contains('\''))?,
            })
        });
        found.unwrap_or(greeting)
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("dev", &self.dev)
            .finish_non_exhaustive()
    }
}

/// Runs the server until it receives a signal to stop.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let start = options(args)?;
    super::runtime(start.config.server.runtime_threads)?.block_on(serve(start))
}

async fn serve(start: Start) -> Result<(), Failure> {
    let Start {
        config,
        dev,
        ready_file,
        reload,
        dev_token,
        trial,
    } = start;
    for warning in config.warnings() {
        note(&format!("warning: {warning}"));
    }
    let format = match config.telemetry.log_format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    logs::init(format).map_err(|error| Failure::new(error.to_string()))?;
    let guide = dev.then(|| DevGuide {
        binary: program(),
        internal: String::new(),
        channel: trial.channel.clone(),
        event_type: trial.event_type.clone(),
        data: trial.data.clone(),
        path: config.websocket.path.clone(),
        anonymous: !config.auth.required,
        console: config.console.enabled,
        token: dev_token.clone(),
    });
    let console = config.console.enabled;
    let on_ready = move |bound: Bound| {
        if let Some(token) = dev_token {
            let banner = dev_banner(bound, &token, &trial, console);
            if let Err(error) = std::io::stdout().write_all(banner.as_bytes()) {
                tracing::debug!(%error, "the banner could not be printed");
            }
        }
    };
    let options = ServeOptions {
        config,
        dev,
        guide,
        ready_file,
        reload: Box::new(move || reload().map_err(|problems| problems.to_string())),
        on_ready: Box::new(on_ready),
    };
    server::run(options)
        .await
        .map_err(|error| Failure::new(error.to_string()))
}

fn options(args: Args) -> Result<Start, Failure> {
    let preset = args.preset.or_else(|| flag_or_env(None, "TIDINGS_PRESET"));
    let preset = check::preset(preset.as_deref())?;
    let file = args
        .config
        .or_else(|| flag_or_env(None, "TIDINGS_CONFIG").map(PathBuf::from));
    // Generated once: the same secret after every reload, so that tokens stay valid.
    let secret = args.dev.then(Secret::random).transpose()?;
    let addresses = [
        ("--public", "public.listen", args.public),
        ("--internal", "internal.listen", args.internal),
    ];
    let mut flags: Vec<(&str, &str, String)> = addresses
        .into_iter()
        .filter_map(|(flag, key, address)| Some((flag, key, address?.to_string())))
        .collect();
    flags.extend(args.drain.map(|drain| ("--drain", "server.drain", drain)));
    let inputs = Inputs {
        preset,
        file,
        environment: Inputs::process_environment(),
        flags,
        dev: secret,
        needs_key: true,
    };
    let config = Config::load(&inputs)?;
    let dev_token = if args.dev { dev_token(&config)? } else { None };
    Ok(Start {
        trial: Trial::of(&config),
        config,
        dev: args.dev,
        ready_file: args.ready_file,
        reload: Arc::new(move || Config::load(&inputs)),
        dev_token,
    })
}

fn dev_token(config: &Config) -> Result<Option<String>, Failure> {
    if config.auth.hs256_secret.is_none() {
        return Ok(None);
    }
    let roles = [String::from("service"), String::from("admin")];
    let claims = Claims {
        user: "dev",
        roles: &roles,
        channels: &[],
        ttl: DEV_TTL,
    };
    token::sign(&config.auth, &claims, Timestamp::now()).map(Some)
}

/// The text printed once the server listens: the token, and lines that can be pasted one by one.
fn dev_banner(bound: Bound, token: &str, trial: &Trial, console: bool) -> String {
    let (public, internal) = (reachable(bound.public), reachable(bound.internal));
    let to = format!("--server http://{internal} --token {token}");
    let program = program();
    let Trial {
        channel,
        event_type,
        data,
    } = trial;
    let console = if console {
        format!("\nLook into the server with the console:\nopen http://{internal}/console/\n")
    } else {
        String::new()
    };
    format!(
        "Tidings for development: this server is open. Every channel is open, and subscribing needs no token.\n\
         \n\
         A token with the roles service and admin, valid for 24 hours:\n\
         {token}\n\
         \n\
         Publish an event, subscribe to a channel, open the demo page:\n\
         {program} publish {channel} {event_type} '{data}' {to}\n\
         {program} tail {channel} --rewind 5 {to}\n\
         open http://{public}/\n\
         {console}"
    )
}

/// This program, as a shell finds it: by the path that it was started with, because a program that
/// was built or unpacked is mostly not on the `PATH`.
fn program() -> String {
    let first = std::env::args_os().next().unwrap_or_default();
    match first.to_str() {
        Some(path) if path.contains('/') => quoted(path),
        Some(_) | None => String::from("tidings"),
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The address by which this machine reaches a listener.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: Option<PathBuf>, dev: bool) -> Args {
        Args {
            config,
            preset: None,
            dev,
            ready_file: None,
            drain: None,
            public: None,
            internal: None,
        }
    }

    #[test]
    fn banner_commands_use_reachable_addresses() {
        let all = SocketAddr::from(([0, 0, 0, 0], 8000));
        let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 50051));
        let bound = Bound {
            public: all,
            internal: six,
        };
        let banner = dev_banner(bound, "abc.def.ghi", &Trial::of(&Config::default()), true);
        let to = "--server http://[::1]:50051 --token abc.def.ghi\n";
        let program = program();
        let publish = format!("\n{program} publish demo greeting '{{\"text\":\"hello\"}}' {to}");
        assert!(banner.contains(&publish), "{banner}");
        assert!(banner.contains(&format!("\n{program} tail demo --rewind 5 {to}")));
        assert!(banner.contains("http://[::1]:50051/console/"));
        assert!(banner.contains("http://127.0.0.1:8000/\n"));
    }

    #[test]
    fn program_with_special_characters_is_quoted() {
        assert_eq!(quoted("target/release/tidings"), "target/release/tidings");
        assert_eq!(quoted("/my tools/it's"), r"'/my tools/it'\''s'");
    }

    #[test]
    fn banner_event_fits_preset_catalog() {
        for preset in crate::config::Preset::all() {
            let inputs = Inputs {
                preset: Some(*preset),
                dev: Some(Secret::random().expect("random bytes")),
                ..Inputs::default()
            };
            let config = Config::load(&inputs).expect("good");
            let trial = Trial::of(&config);
            assert_ne!(trial.event_type, "greeting");
            let known = config
                .event_type
                .iter()
                .find(|known| known.name == trial.event_type)
                .expect("a known type");
            assert_eq!(known.example.as_deref(), Some(trial.data.as_str()));
        }
    }

    #[test]
    fn reload_keeps_flags_and_generated_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(
            &file,
            "[public]\nlisten = \"127.0.0.1:1\"\n[limits]\nconnections = 7",
        )
        .expect("write");
        let public = Some(SocketAddr::from(([127, 0, 0, 1], 2)));
        let options = options(Args {
            public,
            drain: Some(String::from("3s")),
            ..args(Some(file.clone()), true)
        })
        .expect("good");
        assert_eq!(options.config.public.listen.port(), 2);
        assert_eq!(options.config.server.drain, Duration::from_secs(3));
        assert_eq!(options.config.limits.connections, 7);
        assert!(!options.config.auth.required);
        assert!(options.dev_token.is_some());

        std::fs::write(&file, "[limits]\nconnections = 8").expect("write");
        let again = (options.reload)().expect("good");
        assert_eq!(
            (again.limits.connections, again.public.listen.port()),
            (8, 2)
        );
        assert_eq!(again.auth.hs256_secret, options.config.auth.hs256_secret);

        std::fs::write(&file, "[limits]\nconnections = 0").expect("write");
        assert!((options.reload)().is_err());
    }

    #[test]
    fn preset_applies_below_other_sources() {
        let public = Some(SocketAddr::from(([127, 0, 0, 1], 2)));
        let options = options(Args {
            preset: Some(String::from("football")),
            public,
            ..args(None, true)
        })
        .expect("good");
        assert_eq!(options.config.limits.connections, 1000);
        assert_eq!(options.config.public.listen.port(), 2);
        let again = (options.reload)().expect("good");
        assert_eq!(again.event_type, options.config.event_type);
    }

    #[test]
    fn unknown_preset_error_lists_known_ones() {
        let failure = options(Args {
            preset: Some(String::from("x")),
            ..args(None, true)
        })
        .expect_err("unknown");
        assert!(
            failure.to_string().contains("expected one of football, "),
            "{failure:?}"
        );
    }
}
