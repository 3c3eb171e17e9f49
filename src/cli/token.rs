//! `tidings token`.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::client::flag_or_env;
use super::failure::Failure;
use super::output::Output;
use crate::config::{Auth, Config, Inputs, duration};
use crate::event::{ChannelName, Timestamp};

/// The contents of the token.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The user
    #[arg(long, value_name = "USER")]
    sub: String,
    /// A role: `service` publishes and subscribes anywhere, `admin` also manages connections
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Its lifetime
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// A channel that the token grants: a name, or a prefix such as `project:*`
    #[arg(long = "channel", value_name = "PATTERN", value_parser = pattern)]
    channels: Vec<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file with the secret [env: TIDINGS_CONFIG]"
    )]
    config: Option<PathBuf>,
}

fn ttl(text: &str) -> Result<Duration, &'static str> {
    let ttl = duration::parse(text)?;
    if ttl >= Duration::from_secs(1) {
        Ok(ttl)
    } else {
        Err("expected at least 1s")
    }
}

/// A channel's name, or a prefix followed by `*`.
fn pattern(text: &str) -> Result<String, String> {
    let beginning = text.strip_suffix('*').unwrap_or(text);
    if text != "*" {
        ChannelName::new(beginning).map_err(|error| error.message())?;
    }
    Ok(text.to_owned())
}

/// The contents of a new token.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    /// The user.
    pub(super) user: &'a str,
    /// The roles.
    pub(super) roles: &'a [String],
    /// The channels that the token grants.
    pub(super) channels: &'a [String],
    /// Its lifetime.
    pub(super) ttl: Duration,
}

/// Prints a token.
pub(super) fn run(args: Args, output: &mut Output) -> Result<(), Failure> {
    let file = args
        .config
        .or_else(|| flag_or_env(None, "TIDINGS_CONFIG").map(PathBuf::from));
    let environment = Inputs::process_environment();
    let config = Config::load(&Inputs {
        file,
        environment,
        ..Inputs::default()
    })?;
    let claims = Claims {
        user: &args.sub,
        roles: &args.roles,
        channels: &args.channels,
        ttl: args.ttl,
    };
    let now = Timestamp::now();
    let token = sign(&config.auth, &claims, now)?;
    if output.is_json() {
        let expires = expiry(&claims, now).saturating_mul(1_000_000);
        let expires_at = Timestamp::from_micros(expires).to_rfc3339();
        return output.object(&json!({"token": token, "expires_at": expires_at}));
    }
    output.line(&token)
}

/// Signs a token that is valid from now on.
pub(super) fn sign(auth: &Auth, claims: &Claims<'_>, now: Timestamp) -> Result<String, Failure> {
    let Some(secret) = &auth.hs256_secret else {
        return Err(Failure::new(
            "failed_precondition: making a token needs auth.hs256_secret: \
             name the file with --config, or set TIDINGS_AUTH__HS256_SECRET",
        ));
    };
    let shared = [
        ("HS256", Algorithm::HS256),
        ("HS384", Algorithm::HS384),
        ("HS512", Algorithm::HS512),
    ];
    // If no algorithms are configured, the secret is used with HS256.
    let listed = &auth.algorithms;
    let allowed = |(name, _): &&(&str, Algorithm)| {
        listed.is_empty() || listed.iter().any(|known| known == name)
    };
    let Some((_, algorithm)) = shared.iter().find(allowed) else {
        return Err(Failure::new(
            "failed_precondition: making a token needs HS256 in auth.algorithms",
        ));
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    tidings_jwt::encode(&Header::new(*algorithm), &body(auth, claims, now), &key)
        .map_err(|_| Failure::new("internal: the token could not be signed"))
}

/// The claims under the names that a server with these settings expects.
fn body(auth: &Auth, claims: &Claims<'_>, now: Timestamp) -> Value {
    let mut body = Map::new();
    put(&mut body, &auth.user_claim, json!(claims.user));
    put(&mut body, &auth.roles_claim, json!(claims.roles));
    if !claims.channels.is_empty() {
        put(&mut body, &auth.channels_claim, json!(claims.channels));
    }
    for (claim, value) in [("iss", &auth.issuer), ("aud", &auth.audience)] {
        if !value.is_empty() {
            put(&mut body, claim, json!(value));
        }
    }
    put(&mut body, "iat", json!(seconds(now)));
    put(&mut body, "exp", json!(expiry(claims, now)));
    Value::Object(body)
}

fn expiry(claims: &Claims<'_>, now: Timestamp) -> i64 {
    let ttl = i64::try_from(claims.ttl.as_secs()).unwrap_or(i64::MAX);
    seconds(now).saturating_add(ttl)
}

fn seconds(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(1000)
}

/// Sets a claim at a dotted path, such as `realm_access.roles`.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            claims.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = claims
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::config::Secret;

    fn auth() -> Auth {
        Auth {
            hs256_secret: Some(Secret::new("a secret of more than thirty-two bytes")),
            roles_claim: String::from("realm.roles"),
            audience: String::from("tidings"),
            ..Auth::default()
        }
    }

    fn claims(roles: &[String]) -> Claims<'_> {
        Claims {
            user: "alice",
            roles,
            channels: &[],
            ttl: Duration::from_hours(1),
        }
    }

    #[test]
    fn token_has_claims_and_is_signed_with_secret() {
        let roles = [String::from("service")];
        let token = sign(&auth(), &claims(&roles), Timestamp::now()).expect("a token");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&["tidings"]);
        let key = DecodingKey::from_secret(b"a secret of more than thirty-two bytes");
        let decoded = jsonwebtoken::decode::<Value>(&token, &key, &validation)
            .expect("valid")
            .claims;
        assert_eq!(decoded.pointer("/sub"), Some(&json!("alice")));
        assert_eq!(decoded.pointer("/realm/roles"), Some(&json!(["service"])));
        let time = |claim| decoded.get(claim).and_then(Value::as_i64).expect("a time");
        assert_eq!(time("exp") - time("iat"), 3600);
        let wrong = DecodingKey::from_secret(b"another secret");
        assert!(jsonwebtoken::decode::<Value>(&token, &wrong, &validation).is_err());
    }

    #[test]
    fn token_requires_a_secret() {
        let failure =
            sign(&Auth::default(), &claims(&[]), Timestamp::now()).expect_err("no secret");
        assert!(failure.to_string().contains("TIDINGS_AUTH__HS256_SECRET"));
    }
}
