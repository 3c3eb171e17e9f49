//! Checks a call before its body is read: the caller's identity, and the size limits.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use http::header::HeaderName;
use tonic::Status;

use super::inbound::{Inbound, Shape};
use super::rpc_context::{Procedure, RpcContext, address_in};
use super::{BATCH, ENVELOPE, PeerConnection};
use crate::session::{BodySender, ConnectionBodies};

/// The compression of a call's messages.
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The supported compressions.
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip");
/// The longest message of a call that needs no token, in bytes: such messages only contain a name.
const OPEN: usize = 4 * 1024;

const EVENTS: &str = "tidings.v1.EventService";
const CONNECTIONS: &str = "tidings.v1.ConnectionService";
const CATALOG: &str = "tidings.v1.CatalogService";
const STORE: &str = "tidings.v1.StoreService";
/// The procedures that need a token.
const CLOSED: [Procedure; 28] = [
    Procedure(EVENTS, "Publish"),
    Procedure(EVENTS, "PublishBatch"),
    Procedure(EVENTS, "PublishStream"),
    Procedure(EVENTS, "Subscribe"),
    Procedure(EVENTS, "GetHistory"),
    Procedure(EVENTS, "Ack"),
    Procedure(EVENTS, "GetCursors"),
    Procedure(EVENTS, "PurgeHistory"),
    Procedure(EVENTS, "SubscribeUser"),
    Procedure(EVENTS, "UnsubscribeUser"),
    Procedure(CONNECTIONS, "GetStats"),
    Procedure(CONNECTIONS, "WatchStats"),
    Procedure(CONNECTIONS, "ListConnections"),
    Procedure(CONNECTIONS, "GetConnection"),
    Procedure(CONNECTIONS, "Disconnect"),
    Procedure(CONNECTIONS, "ListChannels"),
    Procedure(CONNECTIONS, "GetPresence"),
    Procedure(CONNECTIONS, "GetServerInfo"),
    Procedure(CONNECTIONS, "GetStatsHistory"),
    Procedure(CONNECTIONS, "Explain"),
    Procedure(CONNECTIONS, "WatchRefusals"),
    Procedure(CONNECTIONS, "ListSources"),
    Procedure(CONNECTIONS, "ListWebhooks"),
    Procedure(CONNECTIONS, "ResendWebhooks"),
    Procedure(CATALOG, "ListEventTypes"),
    Procedure(CATALOG, "GetEventType"),
    Procedure(CATALOG, "ValidateEvent"),
    Procedure(STORE, "Backup"),
];

/// Checks the head of each call.
#[derive(Clone)]
pub(super) struct Gate {
    context: RpcContext,
    /// The longest message with one event, in bytes.
    one: usize,
}

impl Gate {
    pub(super) fn new(context: RpcContext, one: usize) -> Self {
        Gate { context, one }
    }

    /// The longest message of a service, in bytes.
    pub(super) fn limit(&self, service: &str) -> usize {
        match service {
            EVENTS => self.one.max(BATCH),
            CONNECTIONS => ENVELOPE,
            CATALOG => self.one,
            _ => OPEN,
        }
    }
}

/// Admits a call whose caller is known, with limits on its body. A call of an unknown procedure
/// gets that status, and its body is not read.
pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (service, method) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .unwrap_or_default();
    let known = CLOSED
        .into_iter()
        .find(|procedure| (procedure.0, procedure.1) == (service, method));
    let limit = gate.limit(service);
    let sender = match known {
        Some(procedure) => {
            let admitted = gate
                .context
                .admit(procedure, request.headers(), request.extensions())
                .await;
            let (admission, identity) = match admitted {
                Ok(admitted) => admitted,
                Err(refused) => return answer(&refused),
            };
            if let Some(connection) = request.extensions().get::<PeerConnection>() {
                connection.prove();
            }
            request.extensions_mut().insert(admission);
            BodySender::of(&identity)
        }
        None => BodySender::at(address_in(request.extensions()).ip()),
    };
    let connection: Option<ConnectionBodies> = request
        .extensions()
        .get::<PeerConnection>()
        .map(|connection| connection.bodies().clone());
    let gzip = request
        .headers()
        .get(GRPC_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    if gzip {
        // It is inflated while it is read.
        request.headers_mut().remove(GRPC_ENCODING);
    }
    let shape = Shape {
        limit,
        streaming: matches!(
            method_of(&request),
            "PublishStream" | "ServerReflectionInfo"
        ),
        gzip,
    };
    let reservation = gate.context.services().bodies.reserve(sender, connection);
    let reservation = Arc::new(Mutex::new(reservation));
    let until_answered = Arc::clone(&reservation);
    let request = request.map(|body| Body::new(Inbound::new(body, shape, reservation)));
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(GRPC_ACCEPT_ENCODING, ENCODINGS);
    drop(until_answered);
    response
}

fn method_of(request: &Request) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

/// The response to a rejected call. The rest of its body is not read.
fn answer(refused: &Status) -> Response {
    let mut response: Response = refused.clone().into_http();
    response
        .headers_mut()
        .insert(GRPC_ACCEPT_ENCODING, ENCODINGS);
    response
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::proto;

    #[test]
    fn every_procedure_needs_a_token() {
        let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut declared = Vec::new();
        for file in files.file.iter().filter(|f| f.package() == "tidings.v1") {
            for service in &file.service {
                let of = format!("tidings.v1.{}", service.name());
                let methods = service.method.iter();
                declared.extend(methods.map(|method| format!("{of}/{}", method.name())));
            }
        }
        let mut closed: Vec<String> = CLOSED.iter().map(|p| format!("{}/{}", p.0, p.1)).collect();
        declared.sort();
        closed.sort();
        assert_eq!(declared, closed);
    }
}
