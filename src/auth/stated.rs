//! Identities that the application states, for clients without a token.

use std::net::IpAddr;
use std::sync::Arc;

use super::claims::Claims;
use super::identity::IdentityExtras;
use super::{AuthFailure, Identity};
use crate::event::Timestamp;

/// What the application states of a client.
#[derive(Debug, Clone, Copy)]
pub struct StatedIdentity<'a> {
    /// The user; `None` for an anonymous client.
    pub user: Option<&'a str>,
    /// The roles.
    pub roles: &'a [String],
    /// The claims, a JSON object; `None` for none.
    pub claims: Option<&'a str>,
    /// Channels and patterns that the client may follow and is subscribed to.
    pub channels: &'a [String],
    /// When it expires; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When the application stated it. Revoking the user covers what was stated before.
    pub stated_at: Timestamp,
    /// The client's address.
    pub address: IpAddr,
}

impl Identity {
    /// The identity of a client that the application knows by a cookie or a session.
    ///
    /// # Errors
    ///
    /// [`AuthFailure::Claims`] for claims that not every reader of them reads in the same way.
    pub fn stated(stated: StatedIdentity<'_>) -> Result<Self, AuthFailure> {
        let claims = stated.claims.unwrap_or_default();
        if !claims.is_empty() {
            Claims::parse(claims)?;
        }
        let channels = boxed(stated.channels);
        let address = stated.user.is_none().then_some(stated.address);
        let extras = !channels.is_empty() || address.is_some();
        Ok(Identity {
            user: stated.user.map(Arc::from),
            roles: stated.roles.iter().map(|role| Arc::from(&**role)).collect(),
            claims: Box::from(claims),
            issued_at: Some(stated.stated_at),
            expires_at: stated.expires_at,
            token: None,
            extras: extras.then(|| {
                Box::new(IdentityExtras {
                    channels: channels.clone(),
                    follows: channels,
                    address,
                    ..IdentityExtras::default()
                })
            }),
        })
    }

    /// The identity of a token, to which the application has added channels to follow and an earlier
    /// expiry.
    #[must_use]
    pub fn with(&self, channels: &[String], expires_at: Option<Timestamp>) -> Self {
        let mut identity = self.clone();
        if let Some(earlier) = expires_at {
            let own = identity.expires_at;
            identity.expires_at = Some(own.map_or(earlier, |own| own.min(earlier)));
        }
        if !channels.is_empty() {
            let extras = identity.extras.get_or_insert_default();
            let granted = extras.channels.iter().cloned();
            extras.channels = granted.chain(boxed(channels)).collect();
            extras.follows = boxed(channels);
        }
        identity
    }

    /// The same identity, renewed by the application. What it leaves out stays, except for the expiry.
    ///
    /// # Errors
    ///
    /// [`AuthFailure::Claims`] as [`Identity::stated`].
    pub fn renewed(
        &self,
        roles: Option<&[String]>,
        claims: Option<&str>,
        expires_at: Option<Timestamp>,
        stated_at: Timestamp,
    ) -> Result<Self, AuthFailure> {
        let mut identity = self.clone();
        if let Some(roles) = roles {
            identity.roles = roles.iter().map(|role| Arc::from(&**role)).collect();
        }
        if let Some(claims) = claims {
            Claims::parse(claims)?;
            identity.claims = Box::from(claims);
        }
        identity.expires_at = expires_at;
        identity.issued_at = Some(stated_at);
        Ok(identity)
    }

    /// True if the application has stated it. Then the application can renew it, too.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        self.token.is_none() && self.issued_at.is_some()
    }

    /// The channels and patterns that the application subscribes the client to.
    #[must_use]
    pub fn follows(&self) -> &[Box<str>] {
        let extras = self.extras.as_deref();
        extras.map_or(&[], |extras| &extras.follows)
    }
}

fn boxed(channels: &[String]) -> Box<[Box<str>]> {
    channels
        .iter()
        .map(|channel| Box::from(&**channel))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated<'a>(user: Option<&'a str>, claims: &'a str) -> StatedIdentity<'a> {
        StatedIdentity {
            user,
            roles: &[],
            claims: Some(claims),
            channels: &[],
            expires_at: None,
            stated_at: Timestamp::from_micros(1),
            address: [192, 0, 2, 1].into(),
        }
    }

    #[test]
    fn stated_identity_is_no_token_and_no_trusted_caller() {
        let ann = Identity::stated(stated(Some("ann"), r#"{"team":1}"#)).unwrap();
        assert!(ann.is_stated() && ann.fingerprint().is_none() && !ann.is_service());
        assert_eq!((ann.claims(), ann.valid_until()), (r#"{"team":1}"#, None));
        assert!(!Identity::trusted("ann").is_stated() && !Identity::anonymous().is_stated());
        let nobody = Identity::stated(stated(None, "")).unwrap();
        let address = [192, 0, 2, 1].into();
        assert_eq!(
            nobody.account(),
            Identity::anonymous_from(address).account()
        );
        let twice = r#"{"a":1,"a":2}"#;
        assert_eq!(
            Identity::stated(stated(None, twice)).err(),
            Some(AuthFailure::Claims)
        );
    }

    #[test]
    fn followed_channels_are_granted() {
        let channels = ["room:1".to_owned(), "news:*".to_owned()];
        let ann = Identity::trusted("ann").with(&channels, None);
        assert!(ann.is_granted("room:1") && ann.is_granted_all("news:"));
        assert_eq!(ann.follows().len(), 2);
        let soon = Timestamp::from_micros(5);
        assert_eq!(ann.with(&[], Some(soon)).expires_at(), Some(soon));
        let later = Timestamp::from_micros(9);
        assert_eq!(
            ann.with(&[], Some(soon))
                .with(&[], Some(later))
                .expires_at(),
            Some(soon)
        );
    }
}
