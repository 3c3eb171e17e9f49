//! Visibility of events: one rule for live delivery, replay and history.

use std::sync::Arc;

use crate::auth::Identity;
use crate::event::{ConnectionId, Event};

/// True if this identity may see the event: it has one of the roles that the event type requires
/// (services and viewers see every type), and the audience includes it. Without a connection, events addressed
/// to or excluding single connections are withheld.
#[must_use]
pub fn may_see(
    event: &Event,
    type_roles: Option<&[Arc<str>]>,
    identity: Option<&Identity>,
    connection: Option<ConnectionId>,
) -> bool {
    if let Some(wanted) = type_roles {
        let holds = |identity: &Identity| {
            identity.sees_all() || identity.roles().iter().any(|role| wanted.contains(role))
        };
        if !identity.is_some_and(holds) {
            return false;
        }
    }
    let Some(audience) = &event.audience else {
        return true;
    };
    let user = identity.and_then(Identity::user).map(|user| &**user);
    let roles = identity.map_or(&[][..], Identity::roles);
    let nobody = ConnectionId::new(u16::MAX, u32::MAX, 0);
    audience.includes(connection.unwrap_or(nobody), user, roles)
}
