//! A connection to PostgreSQL, with the notifications that come over it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::super::SourceSettings;
use super::super::driver::Failure;
use super::tls::Tls;

/// How long one address may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// After this silence, the system asks whether the other end still exists.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Wakes a reader for the buckets that it owns.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    /// The owned buckets, as bits.
    owned: AtomicU32,
    rung: Notify,
}

impl Doorbell {
    /// The buckets whose notifications matter from now on.
    pub(super) fn own(&self, buckets: &[i32]) {
        let bits = buckets.iter().fold(0, |bits, bucket| bits | bit(*bucket));
        self.owned.store(bits, Ordering::Relaxed);
    }

    /// Waits for a notification since the last wait.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    fn notified(&self, payload: &str) {
        // An unknown payload counts for all buckets.
        let bits = payload.parse().map_or(u32::MAX, bit);
        if self.owned.load(Ordering::Relaxed) & bits != 0 {
            self.rung.notify_one();
        }
    }
}

fn bit(bucket: i32) -> u32 {
    let shift = u32::try_from(bucket).unwrap_or(u32::MAX);
    1_u32.checked_shl(shift).unwrap_or(0)
}

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    None,
    Tls,
}

/// The parsed URL.
pub(super) struct Address {
    config: Config,
    security: Security,
}

/// Reads a URL. TLS is used unless the server is on this machine or `sslmode=disable` is given; the
/// server's certificate is always verified.
///
/// # Errors
/// What is expected. The URL, which may hold a password, is not repeated.
pub(super) fn parse(url: &str) -> Result<Address, String> {
    let expected = "expected a URL such as \"postgres://user:password@db.example.com/app\"";
    let is_url = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if !is_url {
        return Err(expected.to_owned());
    }
    // The library knows fewer modes, and none that verifies.
    let (before, parameters) = url.split_once('?').unwrap_or((url, ""));
    let parameters = parameters.split('&').filter(|text| !text.is_empty());
    let (modes, others): (Vec<&str>, Vec<&str>) =
        parameters.partition(|text| text.starts_with("sslmode="));
    let others = others.join("&");
    let plain = if others.is_empty() {
        before.to_owned()
    } else {
        format!("{before}?{others}")
    };
    let mut config: Config = plain.parse().map_err(|_| expected.to_owned())?;
    let is_local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
    };
    let security = match modes.last().copied() {
        None if config.get_hosts().iter().all(is_local) => Security::None,
        Some("sslmode=disable") => Security::None,
        None | Some("sslmode=require" | "sslmode=verify-full") => Security::Tls,
        Some(_) => {
            return Err(String::from(
                "expected sslmode=disable, sslmode=require or sslmode=verify-full",
            ));
        }
    };
    config.ssl_mode(match security {
        Security::None => SslMode::Disable,
        Security::Tls => SslMode::Require,
    });
    if config.get_application_name().is_none() {
        config.application_name("tidings");
    }
    config
        .connect_timeout(CONNECT)
        .keepalives_idle(KEEPALIVE)
        .tcp_user_timeout(UNACKNOWLEDGED);
    Ok(Address { config, security })
}

/// Connects. The connection's own task ends with the client.
pub(super) async fn connect(
    settings: &SourceSettings,
    doorbell: &Arc<Doorbell>,
) -> Result<Client, Failure> {
    let Address { config, security } = parse(settings.url.expose()).map_err(Failure)?;
    match security {
        Security::None => {
            let (client, connection) = config.connect(NoTls).await.map_err(failure)?;
            tokio::spawn(drive(connection, Arc::clone(doorbell)));
            Ok(client)
        }
        Security::Tls => {
            let tls = Tls::new(settings.ca.as_deref()).map_err(Failure)?;
            let (client, connection) = config.connect(tls).await.map_err(failure)?;
            tokio::spawn(drive(connection, Arc::clone(doorbell)));
            Ok(client)
        }
    }
}

/// Reads the connection until it ends, and passes notifications on.
async fn drive<S, T>(mut connection: Connection<S, T>, doorbell: Arc<Doorbell>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(notification) = message {
            doorbell.notified(notification.payload());
        }
    }
    // The reader may be waiting for a notification: its next query finds the connection closed.
    doorbell.rung.notify_one();
}

/// The failure as a text. The server's messages name users and tables, never a password.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn failure(error: tokio_postgres::Error) -> Failure {
    use std::error::Error as _;
    let text = error.as_db_error().map_or_else(
        || match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
        |error| error.message().to_owned(),
    );
    Failure(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_servers_need_tls_unless_it_is_disabled() {
        let security = |url: &str| parse(url).map(|address| address.security);
        for (url, expected) in [
            ("postgres://app@localhost/app", Security::None),
            ("postgres://app@127.0.0.1:5433/app", Security::None),
            ("postgresql:///app?host=/run/postgresql", Security::None),
            ("postgres://app:pw@db.example.com/app", Security::Tls),
            ("postgres://app@db/app?sslmode=disable", Security::None),
            (
                "postgres://app@localhost/app?sslmode=require",
                Security::Tls,
            ),
            (
                "postgres://app@db/app?connect_timeout=3&sslmode=verify-full",
                Security::Tls,
            ),
        ] {
            assert_eq!(security(url), Ok(expected), "{url}");
        }
        for bad in [
            "mysql://app@db/app",
            "postgres://app@db/app?sslmode=prefer",
            "postgres://app@db/app?nonsense=1",
        ] {
            let error = security(bad).unwrap_err();
            assert!(
                error.starts_with("expected ") && !error.contains("app@"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn doorbell_rings_only_for_owned_buckets() {
        let doorbell = Doorbell::default();
        doorbell.own(&[3, 15]);
        doorbell.notified("4");
        let quiet = tokio::time::timeout(Duration::ZERO, doorbell.rung()).await;
        assert!(quiet.is_err());
        doorbell.notified("15");
        doorbell.rung().await;
        doorbell.notified("of a later version");
        doorbell.rung().await;
    }
}
