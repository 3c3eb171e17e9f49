//! Tokens, fetched in time and without overlapping calls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Mutex;
use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};

use crate::{Error, Result};

/// The error type of a token provider.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// Returns a token (a JWT), possibly asynchronously.
pub(crate) type Provider =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>> + Send + Sync>;

/// How long before expiry a new token is fetched, or at half of its lifetime.
const EARLY: Duration = Duration::from_secs(60);

/// A fixed token or a provider. Its `Debug` prints no token.
pub(crate) struct Tokens {
    provider: Option<Provider>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    value: MetadataValue<Ascii>,
    renew_at: Option<SystemTime>,
    ends_at: Option<SystemTime>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// No token.
    pub(crate) fn none() -> Self {
        Tokens {
            provider: None,
            kept: Mutex::new(None),
        }
    }

    /// A fixed token.
    pub(crate) fn fixed(token: &str) -> Result<Self> {
        let kept = Kept {
            value: header(token)?,
            renew_at: None,
            ends_at: None,
        };
        Ok(Tokens {
            provider: None,
            kept: Mutex::new(Some(kept)),
        })
    }

    /// Tokens from a provider.
    pub(crate) fn from(provider: Provider) -> Self {
        Tokens {
            provider: Some(provider),
            kept: Mutex::new(None),
        }
    }

    /// The header with a token that remains valid for a while.
    pub(crate) async fn get(&self) -> Result<Option<MetadataValue<Ascii>>> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        let fresh = kept
            .as_ref()
            .is_some_and(|kept| kept.renew_at.is_none_or(|at| now < at));
        let Some(provider) = self.provider.as_ref().filter(|_| !fresh) else {
            return Ok(kept.as_ref().map(|kept| kept.value.clone()));
        };
        match provider().await {
            Ok(token) => {
                let ends_at = expiry(&token);
                let left = ends_at.and_then(|end| end.duration_since(now).ok());
                let early = left.map_or(EARLY, |left| EARLY.min(left / 2));
                let value = header(&token)?;
                *kept = Some(Kept {
                    value: value.clone(),
                    renew_at: ends_at.and_then(|end| end.checked_sub(early)),
                    ends_at,
                });
                Ok(Some(value))
            }
            // Keep the old one until it expires.
            Err(error) => match kept.as_ref() {
                Some(kept) if kept.ends_at.is_none_or(|end| now < end) => {
                    Ok(Some(kept.value.clone()))
                }
                _ => Err(Error::new(
                    Code::Unavailable,
                    format!("the token provider failed: {error}"),
                )),
            },
        }
    }

    /// The server refused this token. Returns true if there may be another one.
    pub(crate) async fn refused(&self, token: Option<&MetadataValue<Ascii>>) -> bool {
        if self.provider.is_none() {
            return false;
        }
        let mut kept = self.kept.lock().await;
        if kept.as_ref().map(|kept| &kept.value) == token {
            *kept = None;
        }
        true
    }
}

/// The header's value, marked as sensitive so that it is not logged.
fn header(token: &str) -> Result<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| Error::new(Code::InvalidArgument, "the token is not one line of ASCII"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The expiry of a JWT. `None` if it has none.
fn expiry(token: &str) -> Option<SystemTime> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let seconds = claims.get("exp")?.as_f64()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn provider(life: Duration, asked: &Arc<AtomicU64>) -> Tokens {
        let asked = Arc::clone(asked);
        Tokens::from(Arc::new(move || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let end = SystemTime::now().duration_since(UNIX_EPOCH)? + life;
                let claims = format!("{{\"exp\":{},\"n\":{number}}}", end.as_secs());
                Ok(format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims)))
            })
        }))
    }

    #[tokio::test]
    async fn token_is_cached_until_refused() {
        let asked = Arc::new(AtomicU64::new(0));
        let tokens = provider(Duration::from_secs(3600), &asked);
        let first = tokens.get().await.expect("a token");
        assert_eq!(tokens.get().await.expect("a token"), first);
        assert!(tokens.refused(first.as_ref()).await);
        assert_ne!(tokens.get().await.expect("a token"), first);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn expired_token_is_fetched_again() {
        let asked = Arc::new(AtomicU64::new(0));
        let tokens = provider(Duration::ZERO, &asked);
        tokens.get().await.expect("a token");
        tokens.get().await.expect("a token");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn fixed_token_is_not_refreshed_and_not_printed() {
        let tokens = Tokens::fixed("hunter2").expect("a token");
        let shown = tokens.get().await.expect("a token");
        assert!(!tokens.refused(shown.as_ref()).await);
        assert!(!format!("{tokens:?} {shown:?}").contains("hunter2"));
        assert!(Tokens::fixed("two\nlines").is_err());
    }
}
