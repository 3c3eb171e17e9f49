//! The header `Host`.

use http::header::HOST;
use http::{Request, Version};

use crate::error::{Error, Result};

/// Holds a request to RFC 9112 §3.2: in HTTP/1.1 there is one `Host`, and it is a host with or
/// without a port.
///
/// # Errors
/// `invalid_argument` for the field `host`.
pub(super) fn check<B>(request: &Request<B>) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(hosts: &[&str]) -> Result<()> {
        let mut request = Request::new(());
        for host in hosts {
            let host = host.parse().expect("a header's value");
            request.headers_mut().append(HOST, host);
        }
        check(&request)
    }

    #[test]
    fn one_host_is_needed_and_it_is_a_host() {
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
