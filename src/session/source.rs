//! The source of an event.
//!
//! Subscribers trust it, so only services may set it. Events of other publishers carry the publisher's
//! user, on every transport.

use std::sync::Arc;

use crate::auth::Identity;
use crate::error::{Error, Result};
use crate::event::Headers;

/// The header that keeps the `source` of a CloudEvent whose publisher may not name one.
pub const CLAIMED_SOURCE: &str = "claimedsource";

/// The source of an event, as its publisher gives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// None: the publisher's own name.
    #[default]
    Own,
    /// A name that the publisher has set.
    Named(String),
    /// The `source` of a CloudEvent, where it is required (CloudEvents §3.1).
    CloudEvent(String),
}

impl From<String> for Source {
    /// Empty text is [`Source::Own`].
    fn from(text: String) -> Self {
        if text.is_empty() {
            Source::Own
        } else {
            Source::Named(text)
        }
    }
}

impl Source {
    /// The text; empty if there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Source::Own => "",
            Source::Named(text) | Source::CloudEvent(text) => text,
        }
    }

    /// The source and the headers of an event of this publisher.
    ///
    /// # Errors
    /// `permission_denied` for the field `source`, if the publisher is no service; `invalid_argument`
    /// for the field `headers`, if they are full.
    pub(super) fn of(
        self,
        publisher: &Identity,
        headers: Headers,
    ) -> Result<(Option<Arc<str>>, Headers)> {
        let own = publisher.user();
        let may_be_named = publisher.is_service() || own.is_some_and(|own| **own == *self.text());
        Ok(match self {
            Source::Own => (own.cloned(), headers),
            Source::Named(text) | Source::CloudEvent(text) if may_be_named => {
                (Some(Arc::from(text)), headers)
            }
            Source::Named(_) => {
                let text = "only services name a source: leave it out, or give your own name";
                return Err(Error::denied(text).about("source"));
            }
            Source::CloudEvent(text) => {
                let others = headers.iter().filter(|(name, _)| *name != CLAIMED_SOURCE);
                let others = others.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let claimed = (CLAIMED_SOURCE.to_owned(), text);
                (own.cloned(), Headers::new(others.chain([claimed]))?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: Source, publisher: &Identity) -> Result<(Option<Arc<str>>, Headers)> {
        source.of(publisher, Headers::default())
    }

    #[test]
    fn only_services_may_set_a_source() {
        let service = Identity::trusted("billing");
        let bank = || Source::from("bank".to_owned());
        assert_eq!(of(bank(), &service).unwrap().0.as_deref(), Some("bank"));
        let own = of(Source::Own, &service).unwrap().0;
        assert_eq!(own.as_deref(), Some("billing"));
        let anonymous = Identity::anonymous();
        let refused = of(bank(), &anonymous).unwrap_err();
        assert_eq!(refused.field_name(), Some("source"));
        assert_eq!(of(Source::from(String::new()), &anonymous).unwrap().0, None);
    }

    #[test]
    fn unprivileged_cloud_event_source_becomes_a_header() {
        let headers = [("a", "1"), (CLAIMED_SOURCE, "forged")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (source, headers) = Source::CloudEvent("/bank".to_owned())
            .of(&Identity::anonymous(), Headers::new(headers).unwrap())
            .unwrap();
        assert_eq!(source, None);
        let headers: Vec<_> = headers.iter().collect();
        assert_eq!(headers, [("a", "1"), (CLAIMED_SOURCE, "/bank")]);
    }
}
