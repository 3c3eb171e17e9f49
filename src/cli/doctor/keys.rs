//! Token keys: whether the JWK set can be fetched, and how far the provider's clock differs.

use jiff::fmt::rfc2822;

use super::finding::Finding;
use crate::auth::{JwksProbe, probe_jwks};
use crate::config::Config;
use crate::event::Timestamp;

const CHECK: &str = "jwks";

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.auth.jwks_url else {
        return Vec::new();
    };
    match probe_jwks(url).await {
        Err(error) => vec![Finding::fail(
            CHECK,
            format!("auth.jwks_url ({url}): {error}"),
            "check the address, DNS, the firewall, and the authorities that this machine trusts",
        )],
        Ok(probe) => {
            let leeway = i64::try_from(config.auth.leeway.as_secs()).unwrap_or(i64::MAX);
            let now = Timestamp::now().as_millis().div_euclid(1000);
            judge(url, &probe, leeway, now)
        }
    }
}

fn judge(url: &str, probe: &JwksProbe, leeway: i64, now: i64) -> Vec<Finding> {
    let JwksProbe { keys, date } = probe;
    if *keys == 0 {
        return vec![Finding::fail(
            CHECK,
            format!("auth.jwks_url ({url}): no usable key in the set"),
            "it must hold public keys for signatures (RSA, P-256, P-384 or Ed25519)",
        )];
    }
    let mut findings = vec![Finding::ok(
        CHECK,
        format!("auth.jwks_url ({url}): {keys} usable keys"),
    )];
    let theirs = date.as_deref().and_then(|date| rfc2822::parse(date).ok());
    if let Some(theirs) = theirs {
        let ahead = now.saturating_sub(theirs.timestamp().as_second());
        // The header has a resolution of a second, and the response took some time.
        if ahead.abs() > leeway.saturating_add(2) {
            findings.push(Finding::warn(
                "clock",
                format!(
                    "{ahead} s ahead of the identity provider: its tokens expire at the wrong time"
                ),
                "synchronise the clocks of both, or raise auth.leeway",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn levels(keys: usize, date: &str, now: i64) -> Vec<Level> {
        let date = Some(date.to_owned());
        let probe = JwksProbe { keys, date };
        let found = judge("https://id.example.com", &probe, 5, now);
        found.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn empty_set_fails_and_wrong_clock_warns() {
        let date = "Thu, 01 Jan 1970 00:01:00 GMT";
        assert_eq!(levels(0, date, 60), [Level::Fail]);
        assert_eq!(levels(2, date, 61), [Level::Ok]);
        assert_eq!(levels(2, date, 90), [Level::Ok, Level::Warn]);
        assert_eq!(levels(2, "yesterday", 90), [Level::Ok]);
    }
}
