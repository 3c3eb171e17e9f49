//! Webhooks: how each is doing, and sending dead letters again.

use super::caller::Caller;
use super::query::Query;
use super::reply::{self, Answer};
use crate::api::refusals::{BadRequest, Guarded, NotFound};
use crate::api::webhooks::{Resent, Webhooks};

/// Lists the webhooks of the node
///
/// How each is doing: its queue, its failures and its dead letters.
#[utoipa::path(
    get,
    path = "/api/v1/webhooks",
    tag = "connections",
    operation_id = "listWebhooks",
    responses((status = 200, description = "Done.", body = Webhooks), Guarded),
)]
pub(super) async fn list(caller: Caller) -> Answer {
    let webhooks = caller.viewer()?.webhooks();
    reply::json(&Webhooks::from(webhooks))
}

/// Sends dead letters of webhooks again
///
/// They are queued behind everything else, and failing webhooks are tried at once.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/resend",
    tag = "connections",
    operation_id = "resendWebhooks",
    params(
        ("url" = Option<String>, Query,
            description = "The address of one webhook, as the list shows it; all if absent."),
    ),
    responses(
        (status = 200, description = "Done.", body = Resent),
        BadRequest, NotFound, Guarded,
    ),
)]
pub(super) async fn resend(caller: Caller, query: Query) -> Answer {
    let admin = caller.admin()?;
    let resent = admin.resend_webhooks(query.text("url")).await?;
    reply::json(&Resent { resent })
}
