//! Allowed origins of web pages: one rule for WebSocket upgrades, event streams and CORS.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HOST, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, Method};
use tower_http::cors::{AllowCredentials, AllowHeaders, AllowOrigin, CorsLayer};

/// Whether a page of this origin may connect. `allowed` lists origins, where `*` allows all. If it
/// is empty, only the same origin may. A request without `Origin` does not come from a browser.
#[must_use]
pub fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (None, _) => return true,
        // No browser sends two.
        (Some(_), Some(_)) => return false,
        (Some(origin), None) => origin.to_str().unwrap_or_default(),
    };
    if is_listed(origin, allowed) {
        return true;
    }
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    // Whether a proxy in front terminates TLS is not known here.
    let same = origin.split_once("://").is_some_and(|(scheme, of_origin)| {
        let of_origin = without_port(scheme, of_origin);
        WEB.iter().any(|web| scheme.eq_ignore_ascii_case(web.0))
            && of_origin.eq_ignore_ascii_case(without_port(scheme, host))
    });
    allowed.is_empty() && !host.is_empty() && same
}

/// The schemes of pages, with the default ports that browsers omit (RFC 6454 §6.2).
const WEB: [(&str, &str); 2] = [("http", ":80"), ("https", ":443")];

/// Whether an origin is one of these, which are [`normal`]. `*` matches all.
#[must_use]
pub fn is_listed(origin: &str, allowed: &[String]) -> bool {
    // Browsers omit the scheme's default port, but other clients may not.
    let Some((scheme, host)) = origin.split_once("://") else {
        return allowed.iter().any(|allowed| allowed == "*");
    };
    let host = without_port(scheme, host);
    allowed.iter().any(|allowed| {
        let same = |(listed, of_listed): (&str, &str)| {
            listed.eq_ignore_ascii_case(scheme) && of_listed.eq_ignore_ascii_case(host)
        };
        allowed == "*" || allowed.split_once("://").is_some_and(same)
    })
}

/// Normalizes an origin to what browsers send (RFC 6454 §6.2): lower case, without the scheme's
/// default port. `*` stays. `None` for what no browser sends: a path, a user, an invalid port.
#[must_use]
pub fn normal(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let (scheme, rest) = text.split_once("://")?;
    let scheme_byte = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let letter = scheme
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic());
    if !letter || !scheme.bytes().all(scheme_byte) {
        return None;
    }
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.to_ascii_lowercase());
    let rest = without_port(&scheme, &rest);
    let (host, port) = if let Some(six) = rest.strip_prefix('[') {
        let (address, after) = six.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        (address, after)
    } else {
        let end = rest.find(':').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if !name.bytes().all(name_byte) {
            return None;
        }
        (name, after)
    };
    let port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(number) => {
            number.bytes().all(|digit| digit.is_ascii_digit())
                && number.parse::<u16>().is_ok()
                && !number.starts_with('0')
        }
    };
    (port && !host.is_empty()).then(|| format!("{scheme}://{rest}"))
}

/// A host without the scheme's default port.
fn without_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let own = WEB.iter().find(|web| web.0.eq_ignore_ascii_case(scheme));
    own.and_then(|(_, port)| host.strip_suffix(port))
        .unwrap_or(host)
}

/// How long a browser may cache the response to a preflight request.
const REMEMBER: Duration = Duration::from_mins(10);

/// Cross-origin resource sharing (CORS) for these origins. An empty list means the same origin
/// only, which needs no headers. The list is read for each request, because it may change.
/// Credentials are not allowed: tokens are sent in a header.
pub fn cors(allowed: Arc<ArcSwap<Vec<String>>>) -> CorsLayer {
    let by_origin = AllowOrigin::predicate(move |_, request| {
        let allowed = allowed.load();
        !allowed.is_empty() && is_allowed(&request.headers, &allowed)
    });
    CorsLayer::new()
        .allow_origin(by_origin)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        // The possible headers are not known here: those of a CloudEvent are named after its
        // attributes, and tracing libraries add their own (`baggage`). The server reads only the
        // headers that it knows.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER])
        .max_age(REMEMBER)
}

/// CORS for clients whose library sends credentials (for instance a cookie for a proxy's session
/// affinity) and custom headers. The server reads neither. Credentials are allowed for listed
/// origins only, never for `*`.
pub fn cors_with_credentials(allowed: Arc<ArcSwap<Vec<String>>>) -> CorsLayer {
    let listed = Arc::clone(&allowed);
    let credentials = AllowCredentials::predicate(move |origin, _| {
        let origin = origin.to_str().unwrap_or_default();
        let listed = listed.load();
        !listed.iter().any(|o| o == "*") && is_listed(origin, &listed)
    });
    cors(allowed).allow_credentials(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_normalized_like_browsers() {
        for (text, expected) in [
            ("https://app.example.com:443", "https://app.example.com"),
            ("HTTP://App.Example.COM:80", "http://app.example.com"),
            ("https://app.example.com:80", "https://app.example.com:80"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[2001:DB8::1]:80", "http://[2001:db8::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("http://my_host", "http://my_host"),
            ("*", "*"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
        }
        for never in [
            "https://app.example.com/",
            "https://app.example.com/chat",
            "https://ann@app.example.com",
            "https://app.example.com:",
            "https://app.example.com:65536",
            "https://app.example.com:0443",
            "https://a:1:2",
            "https://*.example.com",
            "https://",
            "://a",
            "app.example.com",
            "null",
            "",
        ] {
            assert_eq!(normal(never), None, "{never}");
        }
    }

    #[test]
    fn default_port_is_ignored() {
        let allowed = [normal("https://app.example.com:443").unwrap()];
        assert!(is_listed("https://app.example.com", &allowed));
        assert!(is_listed("https://APP.example.com:443", &allowed));
        assert!(!is_listed("https://app.example.com:80", &allowed));
        assert!(!is_listed("http://app.example.com", &allowed));
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, "https://app.example.com".parse().unwrap());
        headers.insert(HOST, "app.example.com:443".parse().unwrap());
        assert!(is_allowed(&headers, &[]), "the same origin");
        headers.insert(HOST, "app.example.com:80".parse().unwrap());
        assert!(!is_allowed(&headers, &[]));
    }
}
