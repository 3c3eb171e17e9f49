//! Whether the services serve, as load balancers ask (`grpc.health.v1`).

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as Told;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

/// The service that publishes.
const EVENTS: &str = "tidings.v1.EventService";

/// The names under which health is asked for; the empty one is the whole server.
const NAMES: [&str; 5] = [
    "",
    EVENTS,
    "tidings.v1.ConnectionService",
    "tidings.v1.StoreService",
    "tidings.v1.CatalogService",
];

/// Says whether the services serve, and ends what would never end by itself.
#[derive(Clone)]
pub struct HealthHandle {
    reporter: HealthReporter,
    /// Balancers have been told to send nobody here any more: that is the last word.
    retiring: CancellationToken,
    stopping: CancellationToken,
}

impl HealthHandle {
    /// Not serving yet, with the service that answers.
    pub(super) fn new() -> (Self, HealthServer<Services>) {
        let reporter = HealthReporter::new();
        let known = HealthService::from_health_reporter(reporter.clone());
        let service = HealthServer::new(Services(known));
        (
            HealthHandle {
                reporter,
                retiring: CancellationToken::new(),
                stopping: CancellationToken::new(),
            },
            service,
        )
    }

    /// Says whether the server and each of its services serve.
    pub async fn set_serving(&self, serving: bool) {
        for name in NAMES {
            self.set(name, serving).await;
        }
    }

    /// Says whether events can be published and kept: the rest of the server serves all the same.
    pub async fn set_publishing(&self, publishing: bool) {
        // A drain that comes between has the last word.
        let serves = || publishing && !self.retiring.is_cancelled();
        self.set(EVENTS, serves()).await;
        if publishing && !serves() {
            self.set(EVENTS, false).await;
        }
    }

    async fn set(&self, name: &str, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.reporter.set_service_status(name, status).await;
    }

    /// Says that nothing serves any more, although everything does: clients are to go elsewhere
    /// while that is still without haste.
    pub async fn not_ready(&self) {
        self.retiring.cancel();
        self.set_serving(false).await;
    }

    /// Says that nothing serves any more, and ends the streams of publishers and of watched
    /// statistics with `unavailable`, once each has answered what it has taken. Followed channels
    /// end with the bus's own drain.
    pub async fn drain(&self) {
        self.not_ready().await;
        self.stopping.cancel();
    }

    /// Rings when everything must end.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}

/// The services whose health is known, and all others.
pub(super) struct Services(HealthService);

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Services {
    type WatchStream = Watched;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    /// Whoever watches a service that there is not is told that it is unknown, and goes on watching:
    /// an end would be taken for a failure, and tried again (`grpc/health/v1/health.proto`).
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        match self.0.watch(request).await {
            Ok(known) => Ok(known.map(|stream| -> Watched { Box::pin(stream) })),
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: Told::ServiceUnknown.into(),
                };
                let once = tokio_stream::once(Ok(unknown));
                // No service comes into being later.
                Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
            }
            Err(status) => Err(status),
        }
    }
}
