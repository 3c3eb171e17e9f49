//! A range of network addresses, to select connections by.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// The addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// IPv4 addresses as IPv6 ones (RFC 4291 §2.5.5.2).
    address: u128,
    prefix: u32,
}

impl Network {
    /// True if the address is in it. An IPv4 address is the same in its IPv6 form.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let shift = 128 - self.prefix;
        let part = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
        part(bits(address)) == part(self.address)
    }
}

/// In the form of IPv6, which reads back as the same network.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from_bits(self.address), self.prefix)
    }
}

/// An address such as `192.0.2.7`, or one with the length of its prefix, such as `192.0.2.0/24`.
impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = length.unwrap_or(most);
            (length <= most).then(|| Network {
                address: bits(address),
                prefix: 128 - most + length,
            })
        };
        parse().ok_or_else(|| {
            let expected = "expected an address, or one with a prefix such as 192.0.2.0/24";
            Error::field("address", expected)
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Ipv6Addr::to_bits(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_holds_the_addresses_of_its_prefix() {
        for (network, address, holds) in [
            ("192.0.2.0/24", "192.0.2.200", true),
            ("192.0.2.0/24", "192.0.3.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let (parsed, ip): (Network, IpAddr) =
                (network.parse().unwrap(), address.parse().unwrap());
            assert_eq!(parsed.holds(ip), holds, "{network} {address}");
            assert_eq!(parsed.to_string().parse::<Network>().unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_no_network_is_refused_by_the_field_s_name() {
        for text in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2.0/",
            "::/129",
            "/8",
            "1.2.3",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.field_name(), Some("address"), "{text}");
        }
    }
}
