//! A server of the gRPC services in the test's own process, with a memory broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::{GrpcAuth, HealthHandle, routes};
use crate::audit::Audit;
use crate::auth::{
    LocalRevocations, NamespaceRules, Policy, Secret, TokenMint, TokenRequest, Verifier,
    VerifierSettings,
};
use crate::broker::{Bounds, Broker, CursorBounds, Memory, MemoryCursors};
use crate::catalog::{Catalog, Mode};
use crate::cluster::Local;
use crate::event::{HistoryPolicy, Namespace, Namespaces};
use crate::hub::{Hub, HubParts, Settings};
use crate::lifecycle::Lifecycle;
use crate::proto::connection_service_client::ConnectionServiceClient;
use crate::proto::event_service_client::EventServiceClient;
use crate::proto::subscribe_response::Message as Step;
use crate::proto::{PublishRequest, SubscribeRequest, SubscribeResponse, Subscribed, Subscription};
use crate::session::{BodyLimits, RequestLimits, ServiceParts, Services, revalidator};
use crate::telemetry::{Metrics, Tracing};

/// How long a test waits for an expected message.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running services; they stop when it is dropped.
pub(super) struct Fixture {
    pub(super) services: Arc<Services>,
    pub(super) health: HealthHandle,
    address: SocketAddr,
    mint: TokenMint,
    _tasks: TaskTracker,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.services.hub.stop();
    }
}

impl Fixture {
    /// Services that require no token.
    pub(super) async fn trusting() -> Self {
        Self::start(GrpcAuth::Trusted, Settings::sample()).await
    }

    /// Services on a free port. `room` keeps 5,000 events; `plain` keeps none.
    pub(super) async fn start(auth: GrpcAuth, settings: Settings) -> Self {
        let verifying = VerifierSettings {
            hs256_secret: Some(Secret::new("a secret of the tests, and of nobody else")),
            ..VerifierSettings::default()
        };
        let services = services(settings, &verifying);
        let (router, health) = routes(&services, auth, 1 << 20);
        health.set_serving(true).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await });
        let mint = TokenMint::new(&verifying).unwrap();
        Fixture {
            services,
            health,
            address,
            mint,
            _tasks: tasks,
        }
    }

    /// A separate connection.
    pub(super) async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(super) async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.connect().await)
    }

    pub(super) async fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.connect().await)
    }

    /// A request with a token of this user.
    pub(super) fn signed<T>(&self, user: &str, roles: &[&str], message: T) -> Request<T> {
        let token = self.mint.mint(&TokenRequest {
            user: user.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            channels: Vec::new(),
            ttl: Duration::from_hours(1),
        });
        let value = format!("Bearer {}", token.unwrap());
        let mut request = Request::new(message);
        let value: MetadataValue<_> = value.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }

    /// Subscribes to a channel, and reads its first message.
    pub(super) async fn subscribe(
        &self,
        channel: &str,
    ) -> (Streaming<SubscribeResponse>, Subscribed) {
        let response = self
            .events()
            .await
            .subscribe(subscribe_request(channel))
            .await;
        let mut stream = response.unwrap().into_inner();
        match next(&mut stream).await {
            Step::Subscribed(subscribed) => (stream, subscribed),
            other @ (Step::Event(_) | Step::Gap(_) | Step::Heartbeat(_)) => {
                panic!("expected subscribed, not {other:?}")
            }
        }
    }
}

fn services(settings: Settings, verifying: &VerifierSettings) -> Arc<Services> {
    let room = Namespace {
        history: HistoryPolicy {
            size: 5_000,
            ttl: Duration::from_hours(1),
            bytes: usize::MAX,
        },
        ..Namespace::named("room")
    };
    let namespaces = Arc::new(ArcSwap::from_pointee(Namespaces::new([room])));
    let (metrics, tracing) = (Metrics::new("test"), Arc::new(Tracing::off()));
    let builder = Hub::builder(
        2,
        settings,
        Arc::clone(&namespaces),
        Arc::clone(&metrics),
        tracing,
    )
    .unwrap();
    let sink = builder.sink();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new(
        namespaces,
        sink,
        Arc::clone(&metrics),
        Bounds::default(),
    ));
    let verifier = Verifier::new(verifying, Arc::new(LocalRevocations), |_| {}).unwrap();
    let parts = HubParts {
        revalidator: revalidator(&verifier),
        ..HubParts::new(Arc::clone(&broker))
    };
    let hub = builder.start(parts).unwrap();
    let rules = NamespaceRules {
        name: "room".to_owned(),
        subscribe: Some("id == 'open'".to_owned()),
        publish: None,
    };
    let cursors = MemoryCursors::new(CursorBounds::default(), Arc::clone(&metrics));
    let cursors = Arc::new(cursors);
    Services::new(ServiceParts {
        hooks: std::sync::Arc::default(),
        cluster: Arc::new(Local::new(Arc::clone(&hub))),
        hub,
        broker,
        webhooks: None,
        cursors,
        verifier,
        policy: Policy::new([rules], false).unwrap(),
        catalog: Catalog::new(Mode::Open, []),
        limits: RequestLimits {
            event_bytes: 1 << 20,
            publishes_per_second: 0,
            publishes_burst: 0,
            auto_subscribe: Vec::new(),
            auth_required: true,
            channels_per_minute: 0,
            open_documents: true,
            audit_publishes: false,
            bodies: BodyLimits::default(),
        },
        audit: Audit::off(&metrics),
        lifecycle: Arc::new(Lifecycle::default()),
    })
}

/// A request to subscribe to one channel.
pub(super) fn subscribe_request(channel: &str) -> SubscribeRequest {
    let channel = channel.to_owned();
    SubscribeRequest {
        subscriptions: vec![Subscription {
            channel,
            ..Subscription::default()
        }],
        ..SubscribeRequest::default()
    }
}

/// An event with a number as its payload.
pub(super) fn numbered(channel: &str, number: usize) -> PublishRequest {
    PublishRequest {
        channels: vec![channel.to_owned()],
        r#type: "counted".to_owned(),
        data: Bytes::from(number.to_string()),
        ..PublishRequest::default()
    }
}

/// The next message of a stream, which must arrive in time.
pub(super) async fn soon<T>(stream: &mut Streaming<T>) -> Result<Option<T>, tonic::Status> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("nothing came")
}

/// The next step of a subscription's stream.
pub(super) async fn next(stream: &mut Streaming<SubscribeResponse>) -> Step {
    let response = soon(stream).await.unwrap();
    response.expect("the stream goes on").message.unwrap()
}

/// The next event of a subscription's stream.
pub(super) async fn next_event(stream: &mut Streaming<SubscribeResponse>) -> crate::proto::Event {
    match next(stream).await {
        Step::Event(event) => event,
        other @ (Step::Subscribed(_) | Step::Gap(_) | Step::Heartbeat(_)) => {
            panic!("expected an event, not {other:?}")
        }
    }
}
