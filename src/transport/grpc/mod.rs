//! gRPC: back-end services publish and subscribe, and operators administer.
//!
//! No decision is made here. A call is decoded, passed to a [`Session`](crate::session::Session) or
//! an [`Admin`](crate::admin::Admin), and its result encoded.

mod catalog;
mod codec;
mod connections;
mod events;
#[cfg(test)]
mod fixture;
mod gate;
mod health;
mod inbound;
mod inflate;
mod messages;
mod publish;
mod refusals;
mod reports;
mod rpc_context;
mod shared;
mod status;
mod store;
mod subscribe;
#[cfg(test)]
mod tests;

/// The generated servers of `proto/tidings/v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub
)]
pub mod service {
    include!(concat!(env!("OUT_DIR"), "/server/tidings.v1.rs"));
}

use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;

use crate::auth::Identity;
use crate::net::timeout_io::Activity;
use crate::proto;
use crate::session::{ConnectionBodies, Services};

pub use codec::Codec;
pub use health::HealthHandle;
#[cfg(feature = "fuzzing")]
pub use messages::read_all as read_publish;
pub use shared::SharedResponse;

use gate::Gate;
use rpc_context::RpcContext;
use service::catalog_service_server::CatalogServiceServer;
use service::connection_service_server::ConnectionServiceServer;
use service::event_service_server::EventServiceServer;
use service::store_service_server::StoreServiceServer;

/// The size of a message besides its payload: headers, names, keys.
const ENVELOPE: usize = 64 * 1024;
/// The user of every caller if no token is required.
const TRUSTED: &str = "internal";
/// The largest batch of events, in bytes.
const BATCH: usize = 16 * 1024 * 1024;

/// How callers of the internal listener authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcAuth {
    /// By a token in the metadata `authorization: Bearer …` (RFC 6750 §2.1).
    Jwt,
    /// They do not: the listener is on loopback, or requires a client certificate.
    Trusted,
}

/// The peer of a call. The listener puts it into each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// The caller's identity by its client certificate, for listeners that accept one in place of a
/// token. The listener puts it into each request's extensions.
#[derive(Debug, Clone)]
pub struct PeerIdentity(pub Arc<Identity>);

/// The connection of a call. The listener puts the same value into the
/// extensions of each of its requests.
#[derive(Debug, Clone, Default)]
pub struct PeerConnection {
    bodies: ConnectionBodies,
    activity: Arc<Activity>,
}

impl PeerConnection {
    /// A connection with these requests in progress.
    #[must_use]
    pub fn new(activity: Arc<Activity>) -> Self {
        PeerConnection {
            bodies: ConnectionBodies::default(),
            activity,
        }
    }

    /// The bytes of its calls' bodies.
    fn bodies(&self) -> &ConnectionBodies {
        &self.bodies
    }

    /// Records that a call on it was authenticated.
    pub fn prove(&self) {
        self.activity.prove();
    }
}

impl PeerIdentity {
    /// For a client whose verified certificate has this name.
    #[must_use]
    pub fn certified(name: Arc<str>) -> Self {
        PeerIdentity(Arc::new(Identity::certified(TRUSTED, name)))
    }
}

/// All services, with health (`grpc.health.v1`), reflection (v1 and v1alpha) and gRPC-Web, and the
/// handle that sets their health. Health and reflection need no token.
///
/// A message may contain a payload of `event_bytes` (`limits.event_bytes` at the start) with its
/// envelope, or a batch of 16 MiB; larger ones are answered `out_of_range`.
///
/// # Panics
///
/// If the compiled-in schema is invalid.
#[expect(
    clippy::expect_used,
    reason = "a build without its schema must not start"
)]
pub fn routes(
    services: &Arc<Services>,
    auth: GrpcAuth,
    event_bytes: usize,
) -> (axum::Router, HealthHandle) {
    let (health, health_service) = HealthHandle::new();
    let context = RpcContext::new(services, auth, health.stopping());
    let one = event_bytes.saturating_add(ENVELOPE);
    let gate = Gate::new(context.clone(), one);
    let events = EventServiceServer::new(events::Events::new(context.clone()))
        .max_decoding_message_size(one.max(BATCH))
        .max_encoding_message_size(one.max(BATCH));
    let connections = ConnectionServiceServer::new(connections::Connections::new(context.clone()))
        .max_decoding_message_size(ENVELOPE);
    let store = StoreServiceServer::new(store::Stores::new(context.clone()))
        .max_decoding_message_size(ENVELOPE);
    let catalog =
        CatalogServiceServer::new(catalog::EventTypes::new(context)).max_decoding_message_size(one);
    let routes = Routes::new(events)
        .add_service(connections)
        .add_service(catalog)
        .add_service(store)
        .add_service(health_service)
        .add_service(
            reflection()
                .build_v1()
                .expect("the schema was compiled by build.rs"),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("the schema was compiled by build.rs"),
        );
    let routes = routes
        .into_axum_router()
        .layer(from_fn_with_state(gate, gate::pass))
        .layer(GrpcWebLayer::new());
    (routes, health)
}

/// The dialect of `Subscribe`, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn dialect() -> Arc<dyn crate::hub::Protocol> {
    Arc::new(subscribe::SubscribeProtocol)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
