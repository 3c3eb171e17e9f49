//! Checks of the `Host` header.

use std::net::IpAddr;

use http::header::HOST;
use http::{Request, Version};

use crate::error::{Error, Result};

/// Checks RFC 9112 §3.2: an HTTP/1.1 request has exactly one `Host`, which is a host with an
/// optional port.
///
/// # Errors
/// `invalid_argument` for the field `host`.
pub(crate) fn check<B>(request: &Request<B>) -> Result<()> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let wrong = |what: &'static str| Err(Error::field("host", what));
    match (first, second) {
        (_, Some(_)) => wrong("expected one host, not several"),
        (None, None) if request.version() == Version::HTTP_11 => {
            wrong("expected a host, and it is missing")
        }
        (None, None) => Ok(()),
        (Some(host), None) => {
            let host = host.as_bytes();
            let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(byte);
            if host.len() <= 255 && host.iter().all(good) {
                Ok(())
            } else {
                wrong("expected a host with or without a port")
            }
        }
    }
}

/// Suffixes that cannot be registered by the public: local networks (RFC 6761, RFC 6762, RFC 8375,
/// and `internal`, reserved by ICANN) and Kubernetes.
const PRIVATE: [&str; 5] = ["localhost", "local", "internal", "home.arpa", "svc"];

/// Whether the host of a request's target, or else of every `Host` header, is acceptable: an IP
/// address, a name without dots, a name with a private suffix, or one of `allowed`, where `*`
/// accepts all.
///
/// The owner of any other name may point it to this address, so that their page can read the
/// responses in a visitor's browser (DNS rebinding).
pub(crate) fn is_for_own<B>(request: &Request<B>, allowed: &[String]) -> bool {
    // In absolute form, the target takes precedence over `Host` (RFC 9112 §3.2.2).
    if let Some(host) = request.uri().host() {
        return is_own(host, allowed);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    hosts.all(|host| host.to_str().is_ok_and(|host| is_own(host, allowed)))
}

fn is_own(host: &str, allowed: &[String]) -> bool {
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() || !name.contains('.') {
        return true;
    }
    let is = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(name);
    if allowed.iter().any(is) {
        return true;
    }
    let name = name.to_ascii_lowercase();
    let ends_with = |end: &&str| {
        name.strip_suffix(*end)
            .is_some_and(|before| before.ends_with('.'))
    };
    PRIVATE.iter().any(ends_with)
}

/// A host without its port, and an IPv6 address without its brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_host_names_are_refused() {
        let allowed = ["push.example.com".to_owned()];
        for own in [
            "127.0.0.1:50051",
            "[::1]:50051",
            "localhost",
            "tidings:50051",
            "tidings.prod.svc:50051",
            "tidings.prod.svc.cluster.local:50051",
            "Tidings.Internal.",
            "a.localhost:1",
            "PUSH.example.com:50051",
            "",
        ] {
            assert!(is_own(own, &allowed), "{own}");
        }
        for foreign in [
            "evil.example:50051",
            "127.0.0.1.nip.io",
            "push.example.com.evil.example",
            "mylocal.example",
            "evil-local.xlocal",
        ] {
            assert!(!is_own(foreign, &allowed), "{foreign}");
        }
        assert!(is_own("evil.example", &["*".to_owned()]));
    }

    #[test]
    fn absolute_target_overrides_host() {
        for (target, host, own) in [
            ("http://evil.example/metrics", "localhost", false),
            ("http://evil.example:50051/metrics", "localhost", false),
            ("http://me@evil.example/metrics", "localhost", false),
            ("http://localhost:50051/metrics", "evil.example", true),
            ("http://[::1]:50051/metrics", "localhost", true),
            ("/metrics", "localhost", true),
            ("/metrics", "evil.example", false),
        ] {
            let request = Request::get(target).header(HOST, host).body(());
            let request = request.expect("a request");
            assert_eq!(is_for_own(&request, &[]), own, "{target}, {host}");
        }
    }

    fn with(hosts: &[&str]) -> Result<()> {
        let mut request = Request::new(());
        for host in hosts {
            let host = host.parse().expect("a header's value");
            request.headers_mut().append(HOST, host);
        }
        check(&request)
    }

    #[test]
    fn exactly_one_valid_host_is_required() {
        for good in [
            "example.com",
            "example.com:8000",
            "[::1]:8000",
            "10.0.0.1",
            "",
        ] {
            assert_eq!(with(&[good]), Ok(()), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            &["a", "a"][..],
            &[],
            &["a/b"],
            &["a b"],
            &["user@a"],
            &["ä"],
            &[&long],
        ] {
            let error = with(bad).expect_err("refused");
            assert_eq!(error.field_name(), Some("host"), "{bad:?}");
        }
    }
}
