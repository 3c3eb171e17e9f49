//! `POST /api/v1/rpc`: a client calls a method of the application, without a connection.

use axum::body::Body;
use axum::extract::State;

use super::Shared;
use super::body;
use super::caller::Caller;
use super::reply::{self, Answer};
use crate::api::refusals::{BadRequest, Guarded, NotFound, ResourceExhausted, TooLarge};
use crate::api::rpc::{RpcRequest, RpcResult};
use crate::error::Error;
use crate::event::{Payload, strict_json};

/// What a body may have besides the arguments, in bytes.
const ENVELOPE: usize = 1024;

/// Calls a method of the application
///
/// Where hooks ask it `rpc`. The errors are the application's own, 503 if it did not answer, or 400 if it
/// takes no calls.
#[utoipa::path(
    post,
    path = "/api/v1/rpc",
    tag = "events",
    operation_id = "callApplication",
    request_body = RpcRequest,
    responses(
        (status = 200, description = "Done.", body = RpcResult),
        BadRequest, NotFound, TooLarge, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn call(State(shared): State<Shared>, caller: Caller, body: Body) -> Answer {
    let session = caller.session();
    let most = shared.services.limits.load().event_bytes;
    let body = body::read(body, most.saturating_add(ENVELOPE), &session).await?;
    strict_json::check_names_once(&body).map_err(|flaw| Error::invalid(flaw.to_string()))?;
    let call: RpcRequest = serde_json::from_slice(strict_json::without_bom(&body))
        .map_err(|_| Error::invalid("expected an object with method and, if needed, data"))?;
    let data = call.data.as_deref().map(Payload::from_json).transpose()?;
    let result = session.rpc(&call.method, data).await?;
    let data = serde_json::from_slice(result.data()).ok();
    reply::json(&RpcResult { data })
}
