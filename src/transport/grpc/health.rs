//! The health of the services, for load balancers (`grpc.health.v1`).

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as WatchStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

/// The service that publishes.
const EVENTS: &str = "tidings.v1.EventService";

/// The names of the services; the empty one is the whole server.
const NAMES: [&str; 5] = [
    "",
    EVENTS,
    "tidings.v1.ConnectionService",
    "tidings.v1.StoreService",
    "tidings.v1.CatalogService",
];

/// Sets the health of the services, and ends streams that would never end by themselves.
#[derive(Clone)]
pub struct HealthHandle {
    reporter: HealthReporter,
    /// The server reports that it is not ready: this is final.
    retiring: CancellationToken,
    stopping: CancellationToken,
}

impl HealthHandle {
    /// Not serving yet, with the service that reports it.
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

    /// Sets whether the server and each of its services serve.
    pub async fn set_serving(&self, serving: bool) {
        for name in NAMES {
            self.set(name, serving).await;
        }
    }

    /// Sets whether events can be published and stored: the rest of the server serves in either
    /// case.
    pub async fn set_publishing(&self, publishing: bool) {
        // A drain that begins meanwhile takes precedence.
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

    /// Reports that nothing serves any more although everything still does, so that clients move to
    /// other servers without haste.
    pub async fn not_ready(&self) {
        self.retiring.cancel();
        self.set_serving(false).await;
    }

    /// Reports that nothing serves any more, and ends the streams of publishers and of watched
    /// statistics with `unavailable`, once each has answered the requests that it has read.
    /// Subscriptions end with the hub's own drain.
    pub async fn drain(&self) {
        self.not_ready().await;
        self.stopping.cancel();
    }

    /// Cancelled when all streams must end.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}

/// The services whose health is known, and unknown ones.
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

    /// A client that watches an unknown service gets `SERVICE_UNKNOWN`, and the stream stays open:
    /// ending it would count as a failure, and be retried (`grpc/health/v1/health.proto`).
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        match self.0.watch(request).await {
            Ok(known) => Ok(known.map(|stream| -> Watched { Box::pin(stream) })),
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: WatchStatus::ServiceUnknown.into(),
                };
                let once = tokio_stream::once(Ok(unknown));
                // No service is added later.
                Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
            }
            Err(status) => Err(status),
        }
    }
}
