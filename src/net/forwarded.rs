//! Client addresses behind proxies: which forwarding headers are trusted.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// The most hops that are examined, starting from the nearest.
const MAX_HOPS: usize = 32;
/// The prefix of IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;
/// A comma-separated list of addresses, the nearest last.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A network in CIDR notation, `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = if text.contains('/') {
            text.parse().map_err(|_| NotANetwork)?
        } else {
            let address: IpAddr = text.parse().map_err(|_| NotANetwork)?;
            IpNet::from(address)
        };
        // Peers have IPv4 addresses here, even on a dual-stack socket.
        match (network, network.addr().to_canonical()) {
            (IpNet::V6(_), first @ IpAddr::V4(_)) => {
                let bits = network.prefix_len().checked_sub(MAPPED);
                let network = IpNet::new(first, bits.ok_or(NotANetwork)?);
                network.map(Network).map_err(|_| NotANetwork)
            }
            (network, _) => Ok(Network(network)),
        }
    }
}

impl Network {
    /// True if it covers every address of its family.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// True if it contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// The trusted proxies, and the header that they set.
///
/// Only one header is read: a proxy may pass on any other one unchanged from the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The trusted proxies.
    pub proxies: Vec<Network>,
    /// `Forwarded` (RFC 7239) instead of `X-Forwarded-For`.
    pub standard: bool,
}

impl Trust {
    /// True for a trusted proxy.
    #[must_use]
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// The forwarding header that an untrusted peer sends.
    #[must_use]
    pub fn untrusted_header(&self, peer: IpAddr, headers: &HeaderMap) -> Option<HeaderName> {
        let entry = [X_FORWARDED_FOR, FORWARDED]
            .into_iter()
            .find(|name| headers.contains_key(name))?;
        (!self.is_proxy(peer)).then_some(entry)
    }

    /// The client's address: the peer, or if that is a trusted proxy, the nearest hop that is not.
    /// An invalid entry ends the search, because entries before it are unverified.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let mut client = peer;
        if self.proxies.is_empty() {
            return client;
        }
        let name = if self.standard {
            FORWARDED
        } else {
            X_FORWARDED_FOR
        };
        let lines: Vec<&str> = headers
            .get_all(name)
            .iter()
            .map(|line| HeaderValue::to_str(line).unwrap_or_default())
            .collect();
        let hops = lines.iter().rev().flat_map(|line| split(line, ','));
        for hop in hops.take(MAX_HOPS) {
            if !self.is_proxy(client.ip()) {
                break;
            }
            let entry = if self.standard { node(hop) } else { Some(hop) };
            match entry.and_then(address) {
                Some(before) => client = before,
                None => break,
            }
        }
        client
    }
}

/// The value of `for` in one element of `Forwarded` (RFC 7239 §4).
fn node(element: &str) -> Option<&str> {
    split(element, ';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then(|| value.trim().trim_matches('"'))
    })
}

/// The parts between separators, in reverse order. A quoted string is never split (RFC 9110
/// §5.6.4), because a proxy may quote client input such as `Host`. Parsing starts at the end, which
/// the nearest proxy wrote.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let mut quoted = false;
        for (at, letter) in text.char_indices().rev() {
            let before = text.get(..at).unwrap_or_default();
            if letter == '"' {
                let escapes = before.len() - before.trim_end_matches('\\').len();
                quoted ^= escapes % 2 == 0;
            } else if letter == separator && !quoted {
                rest = Some(before);
                return text.get(at + letter.len_utf8()..);
            }
        }
        Some(text)
    })
}

/// An address with an optional port and optional brackets. Port 0 if there is none.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 0),
        Err(_) => text.parse().ok()?,
    };
    Some(SocketAddr::new(found.ip().to_canonical(), found.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(proxies: &[&str], standard: bool) -> Trust {
        let proxies = proxies.iter().map(|text| text.parse().expect("a network"));
        Trust {
            proxies: proxies.collect(),
            standard,
        }
    }

    fn client(trust: &Trust, peer: &str, name: &'static str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_static(line));
        }
        let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
        trust.client(peer, &headers).ip().to_string()
    }

    #[test]
    fn network_has_optional_prefix_length() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:0:0/96", "8.8.8.8", "::1"),
        ] {
            let network: Network = network.parse().expect("a network");
            assert!(network.contains(inside.parse().expect("an address")));
            assert!(!network.contains(outside.parse().expect("an address")));
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::ffff:10.0.0.0/8",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
    }

    #[test]
    fn nearest_untrusted_hop_is_client() {
        let proxies = trust(&["10.0.0.0/8"], false);
        let table: [(&str, &[&str], &str); 8] = [
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1,10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["1.1.1.1, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1,,"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (peer, lines, expected) in table {
            let got = client(&proxies, peer, "x-forwarded-for", lines);
            assert_eq!(got, expected, "{peer} {lines:?}");
        }
        let nobody = Trust::default();
        let got = client(&nobody, "10.0.0.1", "x-forwarded-for", &["1.1.1.1"]);
        assert_eq!(got, "10.0.0.1");
    }

    #[test]
    fn forwarded_accepts_ports_brackets_and_parameters() {
        let proxies = trust(&["10.0.0.0/8"], true);
        for (line, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (
                "for=1.1.1.1, For=\"[2001:db8:cafe::17]:4711\"",
                "2001:db8:cafe::17",
            ),
            ("proto=https; for = \"192.0.2.43:47011\"", "192.0.2.43"),
            ("for=unknown", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("by=1.1.1.1", "10.0.0.1"),
            // A proxy may quote client input, and the client controls everything before that.
            ("for=192.0.2.1;host=\"a,for=1.1.1.1\"", "192.0.2.1"),
            ("host=\"a;for=1.1.1.1\";for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1;host=\"a;for=1.1.1.1\"", "192.0.2.1"),
            ("for=192.0.2.1;host=\"\\\",for=1.1.1.1\"", "192.0.2.1"),
            ("for=192.0.2.1;host=\"\\\\\"", "192.0.2.1"),
            ("for=\"1.1.1.1, for=192.0.2.1", "192.0.2.1"),
            ("\", for=192.0.2.1", "192.0.2.1"),
        ] {
            let got = client(&proxies, "10.0.0.1", "forwarded", &[line]);
            assert_eq!(got, expected, "{line}");
        }
        let other = client(&proxies, "10.0.0.1", "x-forwarded-for", &["1.1.1.1"]);
        assert_eq!(other, "10.0.0.1", "only the configured header is looked at");
    }
}
