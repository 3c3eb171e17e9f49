//! Whether somebody may do something, and by which rule.

use super::viewer::Viewer;
use crate::auth::{Action, Explanation, Identity};
use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType};

/// A question to the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExplainRequest {
    /// The user; empty for an anonymous client, or where the claims name it.
    pub user: String,
    /// The claims of a token, as a JSON object; empty for none but user and roles.
    pub claims: String,
    /// Roles besides those of the claims.
    pub roles: Vec<String>,
    /// `subscribe`, `publish`, `presence` or `history`.
    pub action: String,
    /// The channel.
    pub channel: String,
    /// With `publish` and `subscribe`: the event type; empty for any.
    pub event_type: String,
}

impl Viewer {
    /// Asks the rules, as if a client with these claims would do this now. Nothing is done.
    ///
    /// # Errors
    /// `invalid_argument` naming the field.
    pub fn explain(&self, request: &ExplainRequest) -> Result<Explanation> {
        if !request.user.is_empty() && !request.claims.is_empty() {
            return Err(Error::field("claims", "expected either user or claims"));
        }
        let action = Action::named(&request.action).ok_or_else(|| {
            let names = Action::ALL.map(Action::as_str).join(", ");
            Error::field("action", format!("expected one of {names}"))
        })?;
        let channel = ChannelName::new(&request.channel)?;
        let event_type = match request.event_type.as_str() {
            "" => None,
            name => Some(
                EventType::new(name)
                    .map_err(|error| Error::field("event_type", error.description().to_owned()))?,
            ),
        };
        let verifier = &self.services.verifier;
        let identity = verifier.suppose(&request.user, &request.claims, &request.roles)?;
        let explained = self
            .services
            .policy
            .load()
            .explain(&identity, action, &channel);
        if !explained.allowed {
            return Ok(explained);
        }
        Ok(self.beyond_rules(explained, &identity, action, &channel, event_type.as_ref()))
    }

    /// What refuses an action that the rules allow: the namespace's settings and the catalog.
    fn beyond_rules(
        &self,
        explained: Explanation,
        identity: &Identity,
        action: Action,
        channel: &ChannelName,
        event_type: Option<&EventType>,
    ) -> Explanation {
        let services = &self.services;
        let namespaces = services.hub.namespaces();
        let namespace = namespaces.of(channel);
        let settings = format!("settings of namespace {}", namespace.name);
        match action {
            Action::Presence if !namespace.presence => {
                explained.refused(&settings, "the namespace keeps no presence")
            }
            Action::History if namespace.history.size == 0 => {
                explained.refused(&settings, "the namespace keeps no history")
            }
            Action::Publish => {
                let catalog = services.catalog.load();
                match event_type.map(|kind| catalog.check(kind, Some(channel))) {
                    Some(Err(error)) => explained.refused("catalog", error.message()),
                    Some(Ok(())) | None => explained,
                }
            }
            Action::Subscribe => {
                let wanted = event_type.and_then(|kind| services.hub.type_roles(kind));
                let holds = |wanted: &[std::sync::Arc<str>]| {
                    identity.sees_all() || identity.roles().iter().any(|role| wanted.contains(role))
                };
                match wanted {
                    Some(wanted) if !holds(&wanted) => {
                        let reason = format!(
                            "may subscribe, but events of this type reach only roles {}",
                            wanted.join(", ")
                        );
                        explained.refused("catalog", reason)
                    }
                    Some(_) | None => explained,
                }
            }
            Action::Presence | Action::History => explained,
        }
    }
}
