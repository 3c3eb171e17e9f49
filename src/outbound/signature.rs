//! Signatures of requests, by the Standard Webhooks specification (version 1.0.0).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use crate::error::{Error, Result};

/// The prefix of a symmetric secret.
const PREFIX: &str = "whsec_";
/// The lengths of a key, in bytes, that the specification allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// A secret that signs requests with HMAC-SHA256. `Debug` hides it.
#[derive(Clone)]
pub struct SigningSecret(hmac::Key);

impl SigningSecret {
    /// Reads a secret: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the given field; the message never contains the secret.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        let wrong = |message: &'static str| Err(Error::field(field.to_owned(), message));
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return wrong("must begin with whsec_, as Standard Webhooks secrets do");
        };
        let Ok(key) = STANDARD.decode(encoded) else {
            return wrong("must be base64 behind whsec_");
        };
        if !KEY_BYTES.contains(&key.len()) {
            return wrong("must have 24 to 64 bytes, encoded in base64 behind whsec_");
        }
        Ok(SigningSecret(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// Adds the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. The id names the
    /// message and stays the same when it is sent again; the time, in seconds since 1970, is that of
    /// this attempt.
    ///
    /// # Errors
    ///
    /// `internal` for an id that is no header value.
    pub fn sign(
        &self,
        headers: &mut HeaderMap,
        id: &str,
        timestamp: u64,
        body: &[u8],
    ) -> Result<()> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(id.as_bytes());
        context.update(b".");
        context.update(timestamp.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        let signature = format!("v1,{}", STANDARD.encode(context.sign()));
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Error::internal("a message's id is no header value"))
        };
        headers.insert(ID, value(id)?);
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(SIGNATURE, value(&signature)?);
        Ok(())
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn signs_as_the_reference_libraries_do() {
        let secret =
            SigningSecret::parse("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut headers = HeaderMap::new();
        secret
            .sign(
                &mut headers,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            )
            .unwrap();
        assert_eq!(
            headers["webhook-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
    }

    #[test]
    fn a_wrong_secret_is_refused_without_being_shown() {
        for wrong in ["", "hunter2hunter2", "whsec_?", "whsec_c2hvcnQ="] {
            let error = SigningSecret::parse("hooks.secret", wrong).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("whsec_"), "{text}");
            assert!(wrong.len() < 8 || !text.contains(wrong), "{text}");
        }
        let secret = SigningSecret::parse("s", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(hidden)");
    }
}
