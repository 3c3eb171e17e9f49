//! The engine of a cluster: whether its servers answer, and are new enough.

use std::time::Duration;

use http::Uri;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;
use crate::config::{Config, Engine};

const CHECK: &str = "engine";
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The most bytes of an answer.
const LARGEST: u64 = 64 * 1024;
/// The oldest NATS server that is supported.
const OLDEST_NATS: (u64, u64) = (2, 11);

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let cluster = &config.cluster;
    let urls: Vec<&str> = match cluster.engine {
        Engine::None => return Vec::new(),
        Engine::Nats => cluster.nats.urls.iter().map(String::as_str).collect(),
        Engine::Redis => cluster.redis.urls.iter().map(|url| url.expose()).collect(),
    };
    let mut findings = Vec::new();
    for url in urls {
        let Some(address) = address(url) else {
            continue;
        };
        findings.push(match cluster.engine {
            Engine::Nats => nats(&address, ask(&address, b"").await),
            // Sentinels and TLS are only connected to.
            Engine::Redis if url.starts_with("redis://") => {
                redis(&address, ask(&address, b"PING\r\n").await)
            }
            Engine::Redis | Engine::None => connected(&address, connect(&address).await),
        });
    }
    findings
}

/// Host and port of an engine's URL, without its credentials.
fn address(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(match uri.scheme_str()? {
        "nats" | "tls" => 4222,
        scheme if scheme.ends_with("sentinel") => 26379,
        _ => 6379,
    });
    Some(format!("{}:{port}", uri.host()?))
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    match timeout(TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {TIMEOUT:?}")),
    }
}

/// The first line that the server sends after this request.
async fn ask(address: &str, request: &[u8]) -> Result<String, String> {
    let mut socket = connect(address).await?;
    let exchange = async {
        socket.write_all(request).await?;
        let mut line = String::new();
        BufReader::new(socket.take(LARGEST))
            .read_line(&mut line)
            .await?;
        std::io::Result::Ok(line)
    };
    match timeout(TIMEOUT, exchange).await {
        Ok(line) => line.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}

fn unreachable(address: &str, error: &str) -> Finding {
    Finding::fail(
        CHECK,
        format!("{address}: {error}"),
        "start it, or correct the URL; without the engine the server does not become ready",
    )
}

fn connected(address: &str, socket: Result<TcpStream, String>) -> Finding {
    match socket {
        Ok(_) => Finding::ok(CHECK, format!("{address}: accepts connections")),
        Err(error) => unreachable(address, &error),
    }
}

/// Checks the greeting of a NATS server, `INFO {…}`.
fn nats(address: &str, greeting: Result<String, String>) -> Finding {
    let greeting = match greeting {
        Ok(greeting) => greeting,
        Err(error) => return unreachable(address, &error),
    };
    let info = greeting.strip_prefix("INFO ").map(str::trim);
    let info: Option<Value> = info.and_then(|json| serde_json::from_str(json).ok());
    let Some(info) = info else {
        return unreachable(address, "the server is not NATS");
    };
    let version = info
        .get("version")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) < OLDEST_NATS {
        let message = format!("{address}: NATS {version}");
        return Finding::fail(CHECK, message, "at least NATS 2.11 is needed: upgrade it");
    }
    if info.get("jetstream") != Some(&Value::Bool(true)) {
        let message = format!("{address}: NATS {version} without JetStream");
        return Finding::fail(
            CHECK,
            message,
            "start it with -js, or set jetstream in its configuration",
        );
    }
    Finding::ok(CHECK, format!("{address}: NATS {version} with JetStream"))
}

/// Checks the response of a Redis server to PING. One that requires a password counts as reachable.
fn redis(address: &str, answer: Result<String, String>) -> Finding {
    match answer {
        Ok(answer) if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") => {
            Finding::ok(CHECK, format!("{address}: Redis answers"))
        }
        Ok(_) => unreachable(address, "the server is not Redis"),
        Err(error) => unreachable(address, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn address_is_shown_without_credentials() {
        let address = |url| address(url).expect("an address");
        assert_eq!(address("nats://h"), "h:4222");
        assert_eq!(address("redis://user:hunter2@h/0"), "h:6379");
        assert_eq!(address("redis+sentinel://h:7/master"), "h:7");
    }

    #[test]
    fn nats_needs_version_and_jetstream() {
        let judge = |info: &str| nats("h:4222", Ok(format!("INFO {info}\r\n"))).level;
        assert_eq!(judge(r#"{"version":"2.11.3","jetstream":true}"#), Level::Ok);
        assert_eq!(
            judge(r#"{"version":"2.9.10","jetstream":true}"#),
            Level::Fail
        );
        assert_eq!(judge(r#"{"version":"2.12.0"}"#), Level::Fail);
        assert_eq!(
            nats("h:4222", Ok(String::from("HTTP/1.1 400"))).level,
            Level::Fail
        );
    }

    #[test]
    fn redis_behind_a_password_is_there() {
        let judge = |answer: &str| redis("h:6379", Ok(answer.to_owned())).level;
        assert_eq!(judge("+PONG\r\n"), Level::Ok);
        assert_eq!(judge("-NOAUTH Authentication required.\r\n"), Level::Ok);
        assert_eq!(judge("SSH-2.0\r\n"), Level::Fail);
    }
}
