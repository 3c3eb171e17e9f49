//! Who may see an event: the same rule live, in replay and in history.

use std::sync::Arc;

use crate::auth::Identity;
use crate::event::{ConnectionId, Event};

/// True if the event is for this identity: it has one of the roles that the event's type asks
/// for (services see every type), and is in the audience. Without a connection, what is meant for
/// or kept from single connections counts as kept back.
#[must_use]
pub fn may_see(
    event: &Event,
    type_roles: Option<&[Arc<str>]>,
    identity: Option<&Identity>,
    connection: Option<ConnectionId>,
) -> bool {
    if let Some(wanted) = type_roles {
        let holds = |identity: &Identity| {
            identity.is_service() || identity.roles().iter().any(|role| wanted.contains(role))
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
