//! Where Redis is, as the configuration says it.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// How Redis is run.
#[derive(Debug, Clone)]
pub(super) enum Deployment {
    /// One server, or a seed of a cluster: the server says which.
    One(ConnectionInfo),
    /// Seeds of a Redis Cluster.
    Cluster(Vec<ConnectionInfo>),
    /// Servers whose master Sentinels know.
    Sentinel {
        /// The Sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name of the master.
        master: String,
        /// How to connect to the master, except its address.
        server: ConnectionInfo,
    },
}

const SENTINEL: [(&str, &str); 2] = [
    ("redis+sentinel://", "redis://"),
    ("rediss+sentinel://", "rediss://"),
];

impl Deployment {
    /// Reads the addresses: one server, several seeds of a cluster, or Sentinels with the name of
    /// their master as the path.
    ///
    /// # Errors
    /// What is wrong with which address. Never contains a password.
    pub(super) fn parse(urls: &[&str]) -> Result<Self, String> {
        let sentinels = urls.iter().filter(|url| is_sentinel(url)).count();
        if sentinels > 0 {
            if sentinels < urls.len() {
                return Err("expected either Sentinels or servers, not both".to_owned());
            }
            return parse_sentinels(urls);
        }
        let mut servers = Vec::with_capacity(urls.len());
        for (at, url) in urls.iter().enumerate() {
            servers.push(parse_server(url).map_err(|error| place(at, &error))?);
        }
        match servers.len() {
            0 => Err("expected at least one address".to_owned()),
            1 => Ok(Deployment::One(servers.swap_remove(0))),
            _ => {
                if servers
                    .iter()
                    .any(|server| server.redis_settings().db() != 0)
                {
                    return Err("a Redis Cluster has no database but 0".to_owned());
                }
                Ok(Deployment::Cluster(servers))
            }
        }
    }
}

fn is_sentinel(url: &str) -> bool {
    SENTINEL.iter().any(|(scheme, _)| url.starts_with(scheme))
}

fn place(at: usize, error: &str) -> String {
    format!("address {}: {error}", at + 1)
}

fn parse_server(url: &str) -> Result<ConnectionInfo, String> {
    let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Err("expected redis://, rediss:// or redis+sentinel://".to_owned());
    }
    // The library's message may quote the address, and with it the password.
    let info = url
        .into_connection_info()
        .map_err(|error| error.category().to_owned() + " in the address")?;
    Ok(with_resp3(info))
}

/// Pushed messages need the third version of the protocol.
fn with_resp3(info: ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone();
    info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3))
}

fn parse_sentinels(urls: &[&str]) -> Result<Deployment, String> {
    let mut sentinels = Vec::with_capacity(urls.len());
    let mut found: Option<(String, ConnectionInfo)> = None;
    for (at, url) in urls.iter().enumerate() {
        let plain = SENTINEL
            .iter()
            .find_map(|(scheme, plain)| Some(format!("{plain}{}", url.strip_prefix(scheme)?)));
        let plain = plain.unwrap_or_default();
        let (address, path) = plain
            .split_once("//")
            .and_then(|(scheme, rest)| {
                let (host, path) = rest.split_once('/')?;
                Some((format!("{scheme}//{host}"), path))
            })
            .filter(|(_, path)| !path.is_empty())
            .ok_or_else(|| place(at, "expected the master's name as the path"))?;
        let (name, database) = path.split_once('/').unwrap_or((path, "0"));
        let server =
            parse_server(&format!("{address}/{database}")).map_err(|error| place(at, &error))?;
        match &found {
            Some((other, _)) if other != name => {
                return Err(place(at, "expected the same master's name as before"));
            }
            Some(_) => {}
            None => found = Some((name.to_owned(), server.clone())),
        }
        // Sentinels have passwords of their own, or none. The address's is the master's.
        let sentinel = parse_server(&address).map_err(|error| place(at, &error))?;
        let bare = redis::RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        sentinels.push(sentinel.set_redis_settings(bare));
    }
    let (master, server) = found.ok_or_else(|| "expected at least one Sentinel".to_owned())?;
    Ok(Deployment::Sentinel {
        sentinels,
        master,
        server,
    })
}

/// The same connection to another address.
pub(super) fn moved(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let address = if let ConnectionAddr::TcpTls {
        insecure,
        tls_params,
        ..
    } = info.addr()
    {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    info.clone().set_addr(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(urls: &[&str]) -> Result<Deployment, String> {
        Deployment::parse(urls)
    }

    #[test]
    fn urls_tell_the_deployment() {
        assert!(matches!(
            parse(&["redis://127.0.0.1:6379"]),
            Ok(Deployment::One(_))
        ));
        let several = parse(&["rediss://a:1", "rediss://b:2"]);
        let Ok(Deployment::Cluster(seeds)) = several else {
            panic!("{several:?}");
        };
        assert_eq!(seeds[1].addr().to_string(), "b:2");
        let sentinels = parse(&[
            "redis+sentinel://ann:secret@s1:26379/main",
            "redis+sentinel://s2:26379/main",
        ]);
        let Ok(Deployment::Sentinel {
            sentinels,
            master,
            server,
        }) = sentinels
        else {
            panic!("{sentinels:?}");
        };
        assert_eq!((sentinels.len(), master.as_str()), (2, "main"));
        assert_eq!(server.redis_settings().password(), Some("secret"));
        assert_eq!(sentinels[0].redis_settings().password(), None);
        let there = moved(&server, "10.0.0.7", 7000);
        assert_eq!(there.addr().to_string(), "10.0.0.7:7000");
        assert_eq!(there.redis_settings().username(), Some("ann"));
    }

    #[test]
    fn invalid_urls_are_refused_without_their_password() {
        for urls in [
            &["http://u:secret@a"][..],
            &[],
            &["redis://u:secret@a:b"],
            &["redis://u:secret@a/x"],
            &["redis+sentinel://u:secret@a:1"],
            &["redis+sentinel://u:secret@a:1/m", "redis://b"],
            &[
                "redis+sentinel://u:secret@a:1/m",
                "redis+sentinel://u:secret@b:1/n",
            ],
            &["redis://a/0", "redis://u:secret@b/1"],
        ] {
            let error = parse(urls).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
