//! The connections of all transports, for operators.

use http::Uri;

use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::{ConnectionsRequest, Target, parse_order};
use crate::api::refusals::{BadRequest, Guarded, NotFound, ResourceExhausted};
use crate::api::{self, ConnectionsParams, EndParams};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ConnectionId};
use crate::hub::{ConnectionFilter, ConnectionOrder};
use crate::telemetry::Transport;

/// The path of one connection, before its id.
const ONE: &str = "/api/v1/connections/";

/// Lists connections
#[utoipa::path(
    get,
    path = "/api/v1/connections",
    tag = "connections",
    operation_id = "listConnections",
    params(ConnectionsParams),
    responses(
        (status = 200, description = "Done.", body = api::ConnectionPage),
        BadRequest, NotFound, Guarded,
    ),
)]
pub(super) async fn list(caller: Caller, query: Query) -> Answer {
    let viewer = caller.viewer()?;
    let page = viewer.connections(&request(&query)?).await?;
    reply::json(&api::ConnectionPage {
        connections: page.connections.iter().map(Into::into).collect(),
        next_page_token: page.next_page_token,
        unreachable: page.unreachable,
    })
}

/// Which page of which connections a query asks for.
pub(super) fn request(query: &Query) -> Result<ConnectionsRequest> {
    let orders = ConnectionOrder::ALL.map(|order| (order.as_str(), order));
    Ok(ConnectionsRequest {
        filter: filter(query)?,
        order: parse_order(query.text("order_by"), query.flag("desc")?, orders)?,
        page_size: query.number("page_size")?.unwrap_or_default(),
        page_token: query.text("page_token").to_owned(),
        node: query.text("node").to_owned(),
    })
}

fn filter(query: &Query) -> Result<ConnectionFilter> {
    let text = |name| query.all(name).next();
    let transport = text("transport");
    if transport.is_some_and(|asked| Transport::ALL.iter().all(|known| known.as_str() != asked)) {
        return Err(Error::field("transport", Transport::expected()));
    }
    Ok(ConnectionFilter {
        user: text("user").map(Into::into),
        role: text("role").map(Into::into),
        channel: text("channel").map(ChannelName::new).transpose()?,
        transport: transport.map(Into::into),
        client_type: text("client_type").map(Into::into),
        address: text("address").map(str::parse).transpose()?,
    })
}

/// Shows a connection
#[utoipa::path(
    get,
    path = "/api/v1/connections/{id}",
    tag = "connections",
    operation_id = "getConnection",
    params(("id" = String, Path, description = "The connection's id.")),
    responses((status = 200, description = "Done.", body = api::Connection), NotFound, Guarded),
)]
pub(super) async fn show(caller: Caller, uri: Uri) -> Answer {
    let viewer = caller.viewer()?;
    let connection = viewer.connection(id_in(&uri, ONE)?).await?;
    reply::json(&api::Connection::from(&connection))
}

/// Closes a connection (close code 4410)
#[utoipa::path(
    delete,
    path = "/api/v1/connections/{id}",
    tag = "connections",
    operation_id = "disconnect",
    params(("id" = String, Path, description = "The connection's id."), EndParams),
    responses(
        (status = 204, description = "Closed."),
        BadRequest, NotFound, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn end(caller: Caller, uri: Uri, query: Query) -> Answer {
    let admin = caller.admin()?;
    let target = Target::Connection(id_in(&uri, ONE)?);
    let (reason, revoke) = (query.text("reason"), query.flag("revoke")?);
    admin.disconnect(target, reason, revoke).await?;
    Ok(reply::nothing())
}

/// Closes all connections of a user (close code 4410)
///
/// The user is required, so that a forgotten parameter can't close everybody's connections.
#[utoipa::path(
    delete,
    path = "/api/v1/connections",
    tag = "connections",
    operation_id = "disconnectUser",
    params(
        (
            "user" = String, Query, min_length = 1, max_length = 255,
            pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
            description = "Whose connections: 1 to 255 bytes without control characters.",
        ),
        EndParams,
    ),
    responses(
        (status = 200, description = "Done.", body = api::Disconnected),
        BadRequest, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn end_all(caller: Caller, query: Query) -> Answer {
    let admin = caller.admin()?;
    let user = query.text("user");
    if user.is_empty() {
        return Err(Error::field("user", "expected a user's name").into());
    }
    let (reason, revoke) = (query.text("reason"), query.flag("revoke")?);
    let target = Target::User(user.to_owned());
    let disconnected = admin.disconnect(target, reason, revoke).await?;
    reply::json(&api::Disconnected { disconnected })
}

/// The connection whose id ends a path; a malformed id matches no connection.
pub(super) fn id_in(uri: &Uri, before: &str) -> Result<ConnectionId> {
    let name = name_in_path(uri, before, "")?;
    name.parse()
        .map_err(|_| Error::not_found("no such connection"))
}
