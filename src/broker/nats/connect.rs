//! Connecting: options, and the features that the servers must have.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Receiver, channel};

use super::error::EngineError;
use super::line::Line;
use super::outage::Outages;
use super::stream::BATCH_EXTRA;
use crate::auth::Secret;
use crate::broker::Bounds;

/// The oldest server that can be used: older ones ignore a part of the reads silently.
const OLDEST: (i64, i64) = (2, 11);
/// The most messages that a subscription queues. Further ones are read from the log.
const SUBSCRIPTION_CAPACITY: usize = 4096;
/// The smallest event size, in bytes, to which the default is lowered.
const LEAST: usize = 65_536;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between attempts to reconnect.
const RECONNECT: Duration = Duration::from_secs(1);

/// How to reach the engine, and the limits of the data kept there.
#[derive(Debug, Clone)]
pub struct NatsSettings {
    /// The prefix of subjects and streams.
    pub prefix: String,
    /// The servers.
    pub urls: Vec<String>,
    /// User name and password.
    pub user: Option<(String, Secret)>,
    /// A token.
    pub token: Option<Secret>,
    /// A file with a JWT and an `NKey` seed.
    pub credentials_file: Option<PathBuf>,
    /// A file with an `NKey` seed.
    pub nkey_file: Option<PathBuf>,
    /// The certificates that sign the servers' certificates.
    pub ca: Option<PathBuf>,
    /// The client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Replicas of each stream; 0: as many as the servers allow, up to three.
    pub replicas: u8,
    /// The most bytes of each stream; 0: no limit.
    pub max_bytes: u64,
    /// How long a publish waits.
    pub publish_timeout: Duration,
    /// How often each subscribed channel is compared with its log.
    pub sweep: Duration,
    /// The largest event, in bytes.
    pub event_bytes: usize,
    /// Whether the configuration sets it: only the default is lowered to the servers' limit.
    pub event_bytes_is_set: bool,
    /// The newest events that stay in memory, in bytes.
    pub cache_bytes: usize,
    /// Limits of channels and idempotency keys.
    pub bounds: Bounds,
}

/// Why the engine can't be used.
#[derive(Debug)]
pub struct ConnectError(String);

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectError {}

impl ConnectError {
    fn at(key: &str, what: impl std::fmt::Display) -> Self {
        ConnectError(format!("{key}: {what}"))
    }

    /// The streams can't be made or read.
    pub(super) fn streams(error: &EngineError) -> Self {
        let hint = match error {
            EngineError::Timeout => {
                ": has the user the right to use $JS.API.> and this cluster's subjects? \
                 Servers do not answer what is not allowed"
            }
            EngineError::NoResponders => ": JetStream is off, or has no leader",
            EngineError::Disconnected | EngineError::Refused(..) | EngineError::Unreadable(_) => "",
        };
        ConnectError::at("cluster.nats", format!("{error}{hint}"))
    }
}

/// Connects and checks the servers. The receiver reports when live messages may have been lost.
pub(super) async fn connect(
    settings: &NatsSettings,
) -> Result<(Line, Receiver<()>, usize), ConnectError> {
    let (lost, events) = channel(1);
    let options = options(settings).await?;
    let outages = Arc::new(Outages::default());
    let noted = Arc::clone(&outages);
    let options = options.event_callback(move |event| {
        let (lost, noted) = (lost.clone(), Arc::clone(&noted));
        async move {
            match event {
                Event::Connected => {
                    noted.begin();
                    tracing::info!("connected to the engine");
                }
                Event::SlowConsumer(_) => {}
                Event::Disconnected => {
                    noted.begin();
                    tracing::warn!("the connection to the engine was lost");
                }
                Event::LameDuckMode
                | Event::Draining
                | Event::Closed
                | Event::ServerError(_)
                | Event::ClientError(_) => return tracing::warn!(%event, "the engine reports"),
            }
            // One note is enough for any number of events.
            lost.try_send(()).ok();
        }
    });
    let client = options.connect(settings.urls.clone()).await;
    let client = client.map_err(|error| {
        ConnectError::at(
            "cluster.nats.urls",
            format!("can't connect: {}", with_source(&error)),
        )
    })?;
    let line = Line::new(client, outages);
    let event_bytes = check(&line, settings).await?;
    Ok((line, events, event_bytes))
}

/// An error with its cause, which contains TLS and permission errors.
fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

async fn options(settings: &NatsSettings) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(format!("tidings {}", env!("CARGO_PKG_VERSION")))
        .custom_inbox_prefix(format!("_INBOX_{}", settings.prefix))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX).min(10);
            (Duration::from_millis(20) * 2_u32.saturating_pow(attempts)).min(RECONNECT)
        });
    if let Some((user, password)) = &settings.user {
        options = options.user_and_password(user.clone(), password.expose().to_owned());
    }
    if let Some(token) = &settings.token {
        options = options.token(token.expose().to_owned());
    }
    if let Some(path) = &settings.credentials_file {
        let read = options.credentials_file(path).await;
        options = read.map_err(|why| {
            ConnectError::at(
                "cluster.nats.credentials_file",
                format!("can't be read: {why}"),
            )
        })?;
    }
    if let Some(path) = &settings.nkey_file {
        let seed = tokio::fs::read_to_string(path).await;
        let seed = seed.map_err(|why| {
            ConnectError::at("cluster.nats.nkey_file", format!("can't be read: {why}"))
        })?;
        options = options.nkey(seed.trim().to_owned());
    }
    if let Some(path) = &settings.ca {
        options = options
            .add_root_certificates(path.clone())
            .require_tls(true);
    }
    if let Some((cert, key)) = &settings.identity {
        options = options
            .add_client_certificate(cert.clone(), key.clone())
            .require_tls(true);
    }
    Ok(options)
}

/// Checks the servers. Returns the largest event that they take, in bytes.
async fn check(line: &Line, settings: &NatsSettings) -> Result<usize, ConnectError> {
    #[derive(Deserialize)]
    struct Account {}
    let info = line.client().server_info();
    let version = parse(&info.version);
    if version < OLDEST {
        let text = format!("the server is {}; expected 2.11 or newer", info.version);
        return Err(ConnectError::at("cluster.nats.urls", text));
    }
    let needed = settings.event_bytes.saturating_add(BATCH_EXTRA);
    let fits = info.max_payload.saturating_sub(BATCH_EXTRA);
    if info.max_payload < needed && (settings.event_bytes_is_set || fits < LEAST) {
        let text = format!(
            "{} needs a max_payload of {needed} bytes, and that of the server \
             (cluster.nats.urls) is {}",
            settings.event_bytes, info.max_payload
        );
        return Err(ConnectError::at("limits.event_bytes", text));
    }
    let account: Result<Account, EngineError> = line.ask("INFO", &json!({})).await;
    match account {
        Ok(_) if fits < settings.event_bytes => {
            tracing::info!(
                event_bytes = fits,
                max_payload = info.max_payload,
                "limits.event_bytes is lowered to what the engine takes"
            );
            Ok(fits)
        }
        Ok(_) => Ok(settings.event_bytes),
        Err(EngineError::NoResponders | EngineError::Refused(10039 | 10076, _)) => {
            let text = "JetStream is not enabled: start nats-server with -js, or enable it for the account";
            Err(ConnectError::at("cluster.nats.urls", text))
        }
        Err(error) => Err(ConnectError::streams(&error)),
    }
}

/// Major and minor version.
fn parse(version: &str) -> (i64, i64) {
    let mut parts = version
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parse("2.9.25") < OLDEST && parse("2.10.26") < OLDEST);
        assert!(parse("2.11.0-beta.1") >= OLDEST && parse("2.15.1") >= OLDEST);
    }
}
