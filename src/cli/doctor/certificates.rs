//! The certificates of the listeners: whether they are valid, and for how long.

use std::path::Path;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::private_file;
use super::finding::Finding;
use crate::config::Config;
use crate::event::Timestamp;

const CHECK: &str = "certificate";
const DAY: i64 = 86_400;
/// A certificate that expires within this many days should have been renewed.
const RENEWAL_DAYS: i64 = 14;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let (public, internal) = (&config.public, &config.internal);
    let files = [
        ("public.cert", public.cert.as_deref()),
        ("internal.cert", internal.cert.as_deref()),
        ("internal.client_ca", internal.client_ca.as_deref()),
    ];
    let now = Timestamp::now().as_millis().div_euclid(1000);
    let mut findings: Vec<Finding> = files
        .into_iter()
        .filter_map(|(key, path)| Some(file(key, path?, now)))
        .collect();
    for (key, path) in [
        ("public.key", public.key.as_deref()),
        ("internal.key", internal.key.as_deref()),
    ] {
        findings.extend(path.and_then(|path| private_key(key, path)));
    }
    findings
}

/// The first certificate of a file, which is the server's own; its issuers follow.
fn file(key: &str, path: &Path, now: i64) -> Finding {
    let name = format!("{key} ({})", path.display());
    let certificate = match CertificateDer::from_pem_file(path) {
        Ok(certificate) => certificate,
        Err(error) => {
            return Finding::fail(CHECK, format!("{name}: {error}"), "write it as PEM");
        }
    };
    let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else {
        return Finding::fail(
            CHECK,
            format!("{name}: not an X.509 certificate"),
            "write it as PEM",
        );
    };
    let validity = parsed.validity();
    validity_of(
        &name,
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
        now,
    )
}

fn validity_of(name: &str, from: i64, until: i64, now: i64) -> Finding {
    const RENEW: &str = "renew it, and send the server SIGHUP: open connections stay";
    let date =
        |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000)).to_rfc3339();
    let left = until.saturating_sub(now).div_euclid(DAY);
    if now > until {
        Finding::fail(CHECK, format!("{name}: expired at {}", date(until)), RENEW)
    } else if now < from {
        let message = format!("{name}: not valid before {}", date(from));
        Finding::fail(CHECK, message, "check the clock of this machine")
    } else if left < RENEWAL_DAYS {
        Finding::warn(CHECK, format!("{name}: expires in {left} days"), RENEW)
    } else {
        Finding::ok(CHECK, format!("{name}: valid for {left} days"))
    }
}

fn private_key(key: &str, path: &Path) -> Option<Finding> {
    let metadata = std::fs::metadata(path).ok()?;
    private_file::is_readable_by_all(&metadata).then(|| {
        let path = path.display();
        Finding::warn(
            CHECK,
            format!("{key} ({path}): every user of this machine can read the private key"),
            &format!("chmod o-rwx {path}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn certificate_warns_before_it_expires() {
        let level = |now| validity_of("public.cert", 0, 100 * DAY, now).level;
        assert_eq!(level(-1), Level::Fail);
        assert_eq!(level(0), Level::Ok);
        assert_eq!(level(87 * DAY), Level::Warn);
        assert_eq!(level(100 * DAY + 1), Level::Fail);
    }

    #[test]
    fn certificate_file_is_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("cert.pem");
        let made = rcgen::generate_simple_self_signed(vec![String::from("localhost")]);
        let der = made.expect("a certificate").cert.der().to_vec();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(&path, pem).expect("written");
        let now = Timestamp::now().as_millis() / 1000;
        assert_eq!(file("public.cert", &path, now).level, Level::Ok);
        assert_eq!(file("public.cert", folder.path(), now).level, Level::Fail);
    }
}
