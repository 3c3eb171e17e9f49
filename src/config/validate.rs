//! Semantic checks: values that are each well-formed but invalid, alone or together.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::certificates::{Unusable, server_config};
use super::problem::{Place, Problem};
use super::{
    Config, InternalAuth, OnDamage, Storage, cluster, declarations, dialects, hooks, sources,
    webhook_tables,
};
use crate::event::ChannelName;
use crate::hooks::HookType;
use crate::net::forwarded::Network;
use crate::net::origin;

/// The purpose of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// For development.
    pub(super) dev: bool,
    /// Whether there must be a key to check tokens with.
    pub(super) needs_key: bool,
}

/// Paths of the public listener that the WebSocket can't use.
const TAKEN: [&str; 11] = [
    "/",
    "/sse",
    "/stream",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/asyncapi.json",
    "/websocket/clients",
    "/websocket/broadcast",
    "/websocket/stats",
];

/// True if the public listener serves something else at this path, with or without a trailing
/// slash.
pub(super) fn is_taken(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let own = |taken: &&str| taken.trim_end_matches('/') == path;
    TAKEN.iter().any(own)
        || path.starts_with("/api/v1/")
        || path.starts_with("/websocket/disconnect/")
}

/// All semantic problems. Keys that already have a problem get no second one.
pub(super) fn problems(
    config: &Config,
    setting: Setting,
    places: &BTreeMap<String, Place>,
    known: &[Problem],
) -> Vec<Problem> {
    let mut check = Check {
        places,
        known,
        found: Vec::new(),
    };
    listeners(config, setting, &mut check);
    origins(config, &mut check);
    allowed_hosts(config, &mut check);
    auth(config, setting, &mut check);
    heartbeat(config, &mut check);
    declarations::check(config, setting.dev, &mut check);
    dialects::check(config, &mut check);
    cluster::check(config, &mut check);
    hooks::check(config, &mut check);
    sources::check(config, &mut check);
    webhook_tables::check(config, &mut check);
    rest(config, &mut check);
    check.found
}

/// Collects problems with their places.
pub(super) struct Check<'a> {
    places: &'a BTreeMap<String, Place>,
    known: &'a [Problem],
    found: Vec<Problem>,
}

impl Check<'_> {
    /// Reports a problem unless the condition holds.
    pub(super) fn expect(&mut self, well: bool, key: &str, message: impl Into<String>) {
        if well || self.known.iter().any(|problem| problem.key == key) {
            return;
        }
        let place = self.place(key).cloned();
        self.found.push(Problem {
            place,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// True if a file or the environment sets the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The key's place, or that of its table.
    fn place(&self, key: &str) -> Option<&Place> {
        let mut path = key;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}

fn listeners(config: &Config, setting: Setting, check: &mut Check<'_>) {
    let (public, internal) = (&config.public, &config.internal);
    for (table, cert, key) in [
        ("public", &public.cert, &public.key),
        ("internal", &internal.cert, &internal.key),
    ] {
        check.expect(
            key.is_some() || cert.is_none(),
            &format!("{table}.cert"),
            format!("needs {table}.key"),
        );
        check.expect(
            cert.is_some() || key.is_none(),
            &format!("{table}.key"),
            format!("needs {table}.cert"),
        );
        let client_ca = internal.client_ca.as_deref();
        let client_ca = client_ca.filter(|_| table == "internal");
        if let (Some(cert), Some(key)) = (cert, key)
            && let Err(Unusable { key, problem }) = server_config(cert, key, client_ca)
        {
            check.expect(false, &format!("{table}.{key}"), problem);
        }
    }
    let tls = internal.cert.is_some() && internal.key.is_some();
    let authority = internal.client_ca.is_some();
    check.expect(
        tls || !authority,
        "internal.client_ca",
        "needs internal.cert and internal.key",
    );
    let mtls = internal.auth == InternalAuth::Mtls;
    let complete = tls && authority;
    check.expect(
        !mtls || complete,
        "internal.auth",
        "\"mtls\" needs internal.cert, internal.key and internal.client_ca",
    );
    let local = internal.listen.ip().to_canonical().is_loopback();
    check.expect(
        internal.auth != InternalAuth::None || local || setting.dev,
        "internal.auth",
        "\"none\" is only allowed where internal.listen is a loopback address, or with --dev",
    );
    let same = public.listen == internal.listen && public.listen.port() != 0;
    check.expect(
        !same,
        "internal.listen",
        "expected another address than public.listen",
    );
}

fn origins(config: &Config, check: &mut Check<'_>) {
    allowed_origins(
        "public.allowed_origins",
        &config.public.allowed_origins,
        check,
    );
    allowed_origins(
        "internal.allowed_origins",
        &config.internal.allowed_origins,
        check,
    );
    let mut proxies = config.public.trusted_proxies.iter();
    check.expect(
        proxies.all(|text| text.parse::<Network>().is_ok()),
        "public.trusted_proxies",
        "expected addresses or networks: \"10.0.0.0/8\", \"2001:db8::1\"",
    );
}

fn allowed_origins(key: &str, origins: &[String], check: &mut Check<'_>) {
    let any = origins.iter().any(|origin| origin == "*");
    check.expect(
        !any || origins.len() == 1,
        key,
        "\"*\" allows every origin and must stand alone",
    );
    if let Some(never) = origins.iter().find(|text| origin::normal(text).is_none()) {
        let message = format!(
            "{never:?} can never match: expected origins as browsers send them, without a path or a \
             slash at the end: \"https://app.example.com\""
        );
        check.expect(false, key, message);
    }
}

fn allowed_hosts(config: &Config, check: &mut Check<'_>) {
    let hosts = &config.internal.allowed_hosts;
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_name = |host: &str| !host.is_empty() && host.bytes().all(name_byte);
    let good = hosts.iter().all(|host| host == "*" || is_name(host));
    check.expect(
        good,
        "internal.allowed_hosts",
        "expected names without a port: \"tidings.example.com\"",
    );
    let any = hosts.iter().any(|host| host == "*");
    check.expect(
        !any || hosts.len() == 1,
        "internal.allowed_hosts",
        "\"*\" allows every name and must stand alone",
    );
}

fn auth(config: &Config, setting: Setting, check: &mut Check<'_>) {
    let auth = &config.auth;
    let spoiled = check
        .known
        .iter()
        .any(|problem| problem.key.starts_with("auth."));
    // The application says who connects.
    let by_application = config.hooks.asks(HookType::Connect);
    check.expect(
        auth.has_key() || by_application || !setting.needs_key || spoiled,
        "auth",
        "no key to check tokens with: set auth.hs256_secret (TIDINGS_AUTH__HS256_SECRET), \
         auth.public_key_file, auth.jwks_file or auth.jwks_url, or start with --dev to try things out",
    );
    // Problems that the server would find at its start.
    for fault in auth.verifier().faults() {
        check.expect(
            false,
            fault.field_name().unwrap_or("auth"),
            fault.description(),
        );
    }
    for (name, claim) in [
        ("user_claim", &auth.user_claim),
        ("roles_claim", &auth.roles_claim),
        ("channels_claim", &auth.channels_claim),
    ] {
        check.expect(
            !claim.is_empty(),
            &format!("auth.{name}"),
            "expected the name of a claim",
        );
    }
    check.expect(
        !auth.deadline.is_zero(),
        "auth.deadline",
        "expected more than 0s",
    );
}

/// True for a URL with scheme and host.
fn is_url(text: &str) -> bool {
    let url = text.parse::<http::Uri>().ok();
    url.is_some_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
    })
}

fn heartbeat(config: &Config, check: &mut Check<'_>) {
    let heartbeat = &config.heartbeat;
    check.expect(
        !heartbeat.interval.is_zero(),
        "heartbeat.interval",
        "expected more than 0s",
    );
    check.expect(
        heartbeat.timeout > heartbeat.interval,
        "heartbeat.timeout",
        "expected longer than heartbeat.interval",
    );
}

fn rest(config: &Config, check: &mut Check<'_>) {
    let server = &config.server;
    check.expect(
        server.drain_delay.is_zero() || server.drain_delay < server.drain,
        "server.drain_delay",
        "expected less than server.drain: it is a part of it",
    );
    check.expect(
        !config.server.keep_alive.is_zero(),
        "server.keep_alive",
        "expected more than 0s",
    );
    if let Some(Err(why)) = config.audit.file.as_deref().map(may_append) {
        check.expect(false, "audit.file", format!("can't be written: {why}"));
    }
    check.expect(
        config.history.storage != Storage::Nats,
        "history.storage",
        "expected memory or disk: a cluster's history is its engine's (cluster.engine = \"nats\")",
    );
    check.expect(
        !config.history.path.as_os_str().is_empty(),
        "history.path",
        "expected a directory",
    );
    if config.history.storage == Storage::Disk
        && let Err(why) = crate::broker::check_path(
            &config.history.path,
            match config.history.on_damage {
                OnDamage::Refuse => crate::broker::OnDamage::Refuse,
                OnDamage::NewEpoch => crate::broker::OnDamage::NewEpoch,
            },
        )
    {
        check.expect(false, "history.path", &why);
    }
    let channels = config.auto_subscribe.iter();
    let good = channels
        .map(|c| c.replace("{user}", "u"))
        .all(|c| ChannelName::new(c).is_ok());
    check.expect(
        good,
        "auto_subscribe",
        "expected names of channels, where {user} stands for the user",
    );
    automatic_subscriptions(config, check);
    let path = config.websocket.path.as_str();
    let plain = is_plain_path(path);
    check.expect(plain, "websocket.path", "expected a path such as \"/ws\"");
    check.expect(
        !is_taken(path) || path == "/api/v1/websocket",
        "websocket.path",
        "this path is taken",
    );
    let telemetry = &config.telemetry;
    let endpoint = telemetry.otlp_endpoint.as_deref().is_none_or(is_url);
    check.expect(
        endpoint,
        "telemetry.otlp_endpoint",
        "expected an http or https URL",
    );
    check.expect(
        !telemetry.service_name.is_empty(),
        "telemetry.service_name",
        "expected a name",
    );
}

/// Refuses more automatic subscriptions than one connection may have. The problem is reported for
/// the key that was set.
fn automatic_subscriptions(config: &Config, check: &mut Check<'_>) {
    let automatic = config.auto_subscribe.len();
    let most = config.limits.subscriptions_per_connection;
    let (key, message) = if check.place("auto_subscribe").is_some() {
        let expected = format!(
            "expected at most limits.subscriptions_per_connection channels, which is {most}"
        );
        ("auto_subscribe", expected)
    } else {
        let expected =
            format!("expected at least {automatic}, one for each channel of auto_subscribe");
        ("limits.subscriptions_per_connection", expected)
    };
    check.expect(automatic <= most, key, message);
}

/// Checks whether a file can be appended to or created. Nothing is created here.
fn may_append(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        // Opening a pipe would block until it has a reader.
        Ok(there) if !there.is_file() => return Ok(()),
        Ok(_) => return OpenOptions::new().append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = beside.metadata()?;
    if !directory.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if directory.permissions().readonly() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// True for a path without patterns or parameters.
pub(super) fn is_plain_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#{}*".contains(&b);
    path.starts_with('/') && path.bytes().all(plain)
}
