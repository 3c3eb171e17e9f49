//! The subject of a client certificate.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// The longest name, in bytes. Longer ones are truncated.
const LONGEST: usize = 255;

/// The subject of a certificate in the form of RFC 4514, `CN=backend,O=Example`. If it is empty,
/// the first URI or DNS name among the alternative names. At most 255 bytes without control
/// characters. `None` if there is no name.
pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut name = subject(certificate.subject());
    if name.is_empty() {
        let others = certificate.subject_alternative_name().ok()??;
        let named = others.value.general_names.iter().find_map(|name| {
            if let GeneralName::URI(uri) = name {
                return Some(("URI", *uri));
            }
            let GeneralName::DNSName(host) = name else {
                return None;
            };
            Some(("DNS", *host))
        });
        let (kind, value) = named?;
        name = format!("{kind}:");
        escape(&mut name, value);
    }
    name.truncate(name.floor_char_boundary(LONGEST));
    Some(Arc::from(name))
}

/// The attributes of a name, the most specific one first.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            let Ok(value) = attribute.as_str() else {
                continue;
            };
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(kind) => text.push_str(kind),
                Err(_) => text.push_str(&attribute.attr_type().to_id_string()),
            }
            text.push('=');
            escape(&mut text, value);
        }
    }
    text
}

/// Appends a value, escaped so that it cannot be mistaken for another attribute (RFC 4514 §2.4).
fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        if letter.is_control() {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                text.extend(['\\', hex(byte >> 4), hex(byte & 0xf)]);
            }
        } else {
            if matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
                text.push('\\');
            }
            text.push(letter);
        }
    }
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn name_of(parts: &[(DnType, &str)], others: Vec<SanType>) -> Option<Arc<str>> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = others;
        let key = KeyPair::generate().unwrap();
        of(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn subject_starts_with_most_specific_attribute() {
        let parts = [
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, "backend"),
        ];
        assert_eq!(
            name_of(&parts, Vec::new()).as_deref(),
            Some("CN=backend,O=Example")
        );
    }

    #[test]
    fn attribute_values_are_escaped() {
        let evil = "a,O=Other+\"\\\n\u{9b}";
        let name = name_of(&[(DnType::CommonName, evil)], Vec::new()).unwrap();
        assert_eq!(&*name, r#"CN=a\,O\=Other\+\"\\\0A\C2\9B"#);
    }

    #[test]
    fn long_name_is_truncated_at_char_boundary() {
        let name = name_of(&[(DnType::CommonName, &"ä".repeat(200))], Vec::new()).unwrap();
        assert_eq!(name.len(), 255);
    }

    #[test]
    fn empty_subject_falls_back_to_alternative_name() {
        let uri = SanType::URI("spiffe://example/backend".try_into().unwrap());
        let address = SanType::IpAddress([10, 0, 0, 1].into());
        assert_eq!(
            name_of(&[], vec![address.clone(), uri]).as_deref(),
            Some("URI:spiffe://example/backend")
        );
        assert_eq!(name_of(&[], vec![address]), None);
        assert_eq!(of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
