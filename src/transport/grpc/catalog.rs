//! `tidings.v1.CatalogService`.

use prost::Message;
use tonic::{Request, Response, Status};

use super::rpc_context::{Call, Procedure, RpcContext};
use super::service::catalog_service_server::CatalogService;
use crate::admin::page_size_of;
use crate::catalog::{KnownType, Schema, Violation};
use crate::error::Result;
use crate::proto::{
    EventType, GetEventTypeRequest, GetEventTypeResponse, ListEventTypesRequest,
    ListEventTypesResponse, ValidateEventRequest, ValidateEventResponse, ValidationError,
};
use crate::session::MAX_ANSWER_BYTES;

/// Lists the declared event types.
pub(super) struct EventTypes {
    context: RpcContext,
}

impl EventTypes {
    pub(super) fn new(context: RpcContext) -> Self {
        EventTypes { context }
    }
}

const fn procedure(method: &'static str) -> Procedure {
    Procedure("tidings.v1.CatalogService", method)
}

#[tonic::async_trait]
impl CatalogService for EventTypes {
    async fn list_event_types(
        &self,
        request: Request<ListEventTypesRequest>,
    ) -> Result<Response<ListEventTypesResponse>, Status> {
        let list = |call| std::future::ready(list(&call));
        self.context
            .answer(procedure("ListEventTypes"), request, list)
            .await
    }

    async fn get_event_type(
        &self,
        request: Request<GetEventTypeRequest>,
    ) -> Result<Response<GetEventTypeResponse>, Status> {
        let get = |call| std::future::ready(get(&call));
        self.context
            .answer(procedure("GetEventType"), request, get)
            .await
    }

    async fn validate_event(
        &self,
        request: Request<ValidateEventRequest>,
    ) -> Result<Response<ValidateEventResponse>, Status> {
        let validate = |call| std::future::ready(validate(&call));
        self.context
            .answer(procedure("ValidateEvent"), request, validate)
            .await
    }
}

fn list(call: &Call<ListEventTypesRequest>) -> Result<ListEventTypesResponse> {
    call.session.check_reader()?;
    let size = page_size_of(call.message.page_size)?;
    let catalog = call.session.services().catalog.load();
    let mut types = catalog.after(&call.message.page_token).peekable();
    let (mut event_types, mut bytes) = (Vec::<EventType>::new(), 0_usize);
    while event_types.len() < size
        && let Some(known) = types.peek()
    {
        let shown = event_type(known);
        bytes += shown.encoded_len() + 8;
        if bytes > MAX_ANSWER_BYTES && !event_types.is_empty() {
            break;
        }
        event_types.push(shown);
        types.next();
    }
    let more = types.peek().is_some();
    let last = event_types
        .last()
        .filter(|_| more)
        .map(|last| last.name.clone());
    Ok(ListEventTypesResponse {
        event_types,
        next_page_token: last.unwrap_or_default(),
    })
}

fn get(call: &Call<GetEventTypeRequest>) -> Result<GetEventTypeResponse> {
    call.session.check_reader()?;
    let catalog = call.session.services().catalog.load();
    let known = catalog.known(&call.message.name)?;
    Ok(GetEventTypeResponse {
        event_type: Some(EventType {
            schema: text(known.schema.as_ref().map(Schema::text)),
            example: text(known.example.as_deref()),
            ..event_type(known)
        }),
    })
}

/// Validates a payload as a publish with a strict catalog would.
fn validate(call: &Call<ValidateEventRequest>) -> Result<ValidateEventResponse> {
    call.session.check_reader()?;
    let services = call.session.services();
    let ValidateEventRequest { r#type, data } = &call.message;
    let catalog = services.catalog.load();
    let limit = services.limits.load().event_bytes;
    let violations = if data.len() > limit {
        catalog.known(r#type)?;
        let expected = format!("expected at most {limit} bytes (limits.event_bytes)");
        vec![Violation::of_all(expected)]
    } else {
        catalog.validate(r#type, data)?
    };
    let errors = violations.into_iter().map(|violation| ValidationError {
        path: violation.path,
        message: violation.message,
    });
    let errors: Vec<ValidationError> = errors.collect();
    Ok(ValidateEventResponse {
        valid: errors.is_empty(),
        errors,
    })
}

/// An event type without its schema and example, which can be large: a page of them would not fit
/// into a message.
fn event_type(known: &KnownType) -> EventType {
    EventType {
        name: known.name.to_string(),
        namespace: known.namespace.clone(),
        description: known.description.clone(),
        roles: known.roles.iter().map(ToString::to_string).collect(),
        schema: String::new(),
        example: String::new(),
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
