//! Whether the services serve, as load balancers ask (`grpc.health.v1`).

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
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
    stopping: CancellationToken,
}

impl HealthHandle {
    /// Not serving yet, with the service that answers.
    pub(super) fn new() -> (Self, HealthServer<HealthService>) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        (
            HealthHandle {
                reporter,
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
        let serves = || publishing && !self.stopping.is_cancelled();
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

    /// Says that nothing serves any more, and ends the streams of publishers and of watched
    /// statistics with `unavailable`, once each has answered what it has taken. Followed channels
    /// end with the bus's own drain.
    pub async fn drain(&self) {
        self.stopping.cancel();
        self.set_serving(false).await;
    }

    /// Rings when everything must end.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }
}
