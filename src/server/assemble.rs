//! Builds the running parts from a configuration.

use std::sync::Arc;

use super::StartError;
use super::described::{asyncapi_settings, catalog};
use super::observer::LoggingObserver;
use super::stores::{self, Stores};
use super::webhooks;
use crate::audit::Audit;
use crate::auth::{AuthEvent, NamespaceRules, Policy, Revocations, Verifier};
use crate::cluster::{Cluster, ClusterPresence, Link, Local, Me, Remote, Shared};
use crate::config::{
    Config, DialectConfig, DialectProtocol, Documents, Engine, ForwardedHeader, InternalAuth,
    OtlpProtocol,
};
use crate::event::NodeId;
use crate::filter::FilterLimits;
use crate::hooks::Hooks;
use crate::hub::{Hub, HubParts, LocalPresence, PresenceStore, Settings};
use crate::lifecycle::Lifecycle;
use crate::net::forwarded::Trust;
use crate::net::origin;
use crate::session::{BodyLimits, RequestLimits, ServiceParts, Services, revalidator};
use crate::sources::Sources;
use crate::telemetry::{Metrics, Tracing, TracingSettings};
use crate::transport::grpc::{GrpcAuth, HealthHandle};
use crate::transport::http::AsyncApiSettings;
use crate::transport::socketio::{Endpoint as SocketIo, SocketIoDialect, SocketIoSettings};
use crate::transport::ws::{Declared, Endpoint, WsSettings};
use crate::webhooks::{Edges, WebhooksParts};
use arc_swap::{ArcSwap, ArcSwapOption};

/// The parts of a running server.
pub struct Assembled {
    pub(crate) services: Arc<Services>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) socketio: Arc<SocketIo>,
    pub(super) grpc: axum::Router,
    pub(super) allowed_origins: Arc<ArcSwap<Vec<String>>>,
    /// The proxies that are trusted on the public listener.
    pub(super) trust: Arc<ArcSwap<Trust>>,
    /// The codecs of each endpoint, for the AsyncAPI document.
    pub(super) asyncapi: Arc<ArcSwap<AsyncApiSettings>>,
    /// Origins whose pages may call gRPC-Web.
    pub(super) internal_origins: Arc<ArcSwap<Vec<String>>>,
    /// Host names that the internal listener accepts.
    pub(super) internal_hosts: Arc<ArcSwap<Vec<String>>>,
    health: HealthHandle,
    dev: bool,
    /// The largest event that the engine takes, if there is one.
    most_event_bytes: Option<usize>,
    /// The other nodes, if there is an engine.
    remote: Option<Arc<Remote>>,
    /// The sources, which run once the server accepts requests.
    sources: Sources,
    /// Observes connections for webhooks, if there are any.
    observed: Option<Arc<Edges>>,
}

/// Builds the parts.
pub(super) async fn assemble(
    config: &Config,
    dev: bool,
    lifecycle: Arc<Lifecycle>,
) -> Result<Assembled, StartError> {
    let metrics = Metrics::new(node_name(config));
    let tracing = Tracing::init(&tracing_settings(config), &metrics).map_err(StartError::new)?;
    let tracing = Arc::new(tracing);
    let namespaces = Arc::new(ArcSwap::from_pointee(config.namespaces(dev)));
    let shards = match config.server.shards {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        shards => shards,
    };
    let builder = Hub::builder(
        shards,
        bus_settings(config),
        Arc::clone(&namespaces),
        Arc::clone(&metrics),
        Arc::clone(&tracing),
    )
    .map_err(StartError::at("server.shards"))?;
    let Stores {
        broker,
        revocations,
        cursors,
        most_event_bytes,
        link,
    } = stores::open(config, namespaces, builder.sink(), &metrics, &tracing).await?;
    let lowered = lowered(config, most_event_bytes);
    let config = lowered.as_ref().unwrap_or(config);
    let audit = match &config.audit.file {
        None => Audit::off(&metrics),
        Some(path) => Audit::open(path, &metrics).map_err(StartError::at("audit.file"))?,
    };
    let verifier = verifier(config, revocations, &metrics)?;
    let (observed, observing) = webhooks::observe(config, &metrics).unzip();
    let joining = link.is_some().then(|| Shared {
        presence: ClusterPresence::new(),
        occupancy: observed.as_ref().map(webhooks::occupancy),
    });
    let presence: Box<dyn PresenceStore> = match &joining {
        Some(shared) => Box::new(Arc::clone(&shared.presence.0)),
        None => Box::new(LocalPresence::new()),
    };
    let hooks = Arc::new(ArcSwapOption::empty());
    hooks.store(open_hooks(config, None, &metrics, &tracing)?);
    let occupancy = joining
        .as_ref()
        .and_then(|shared| shared.occupancy.as_ref());
    let occupancy = occupancy.map(|(occupancy, _)| Arc::clone(occupancy));
    let parts = HubParts {
        broker: Arc::clone(&broker),
        observer: Arc::new(LoggingObserver {
            tracing,
            audit: Arc::clone(&audit),
            hooks: Arc::clone(&hooks),
            webhooks: observed.clone(),
        }),
        revalidator: revalidator(&verifier),
        presence,
        node: link.as_ref().map_or(NodeId::ALONE, |(_, number)| *number),
    };
    let hub = builder
        .start(parts)
        .map_err(StartError::at("server.shards"))?;
    let (cluster, remote) = join(&hub, link.zip(joining)).await?;
    let parts = observing.map(|edges| WebhooksParts {
        hub: Arc::clone(&hub),
        cluster: Arc::clone(&cluster),
        occupancy,
        edges,
    });
    let webhooks = parts
        .map(|parts| webhooks::start(config, parts))
        .transpose()?;
    let services = Services::new(ServiceParts {
        cluster,
        hub,
        broker,
        cursors,
        webhooks,
        verifier,
        policy: policy(config, dev)?,
        catalog: catalog(config)?,
        limits: request_limits(config),
        hooks,
        audit,
        lifecycle,
    });
    let sources = Sources::new(&services);
    let endpoint = Arc::new(Endpoint::new(
        Arc::clone(&services),
        ws_settings(config, dev),
    ));
    let allowed_origins = Arc::new(ArcSwap::from_pointee(allowed_origins(config, dev)));
    let socketio = Arc::new(SocketIo::new(
        Arc::clone(&services),
        socketio_settings(config),
        Arc::clone(&allowed_origins),
    ));
    let auth = match config.internal.auth {
        InternalAuth::Jwt => GrpcAuth::Jwt,
        InternalAuth::Mtls | InternalAuth::None => GrpcAuth::Trusted,
    };
    let (grpc, health) = crate::transport::grpc::routes(&services, auth, config.limits.event_bytes);
    Ok(Assembled {
        services,
        endpoint,
        socketio,
        grpc,
        allowed_origins,
        trust: Arc::new(ArcSwap::from_pointee(trust(config))),
        asyncapi: Arc::new(ArcSwap::from_pointee(asyncapi_settings(config))),
        internal_origins: Arc::new(ArcSwap::from_pointee(internal_origins(config))),
        internal_hosts: Arc::new(ArcSwap::from_pointee(config.internal.allowed_hosts.clone())),
        health,
        dev,
        most_event_bytes,
        remote,
        sources,
        observed,
    })
}

/// What joins this node with others: the link, its number, and what nodes exchange.
type Joining = ((Arc<dyn Link>, NodeId), Shared);

/// The cluster: this node alone, or with those that the engine joins it with.
async fn join(
    hub: &Arc<Hub>,
    joining: Option<Joining>,
) -> Result<(Arc<dyn Cluster>, Option<Arc<Remote>>), StartError> {
    let Some(((link, number), shared)) = joining else {
        return Ok((Arc::new(Local::new(Arc::clone(hub))), None));
    };
    let metrics = Arc::clone(hub.metrics());
    let me = Me {
        process: fastrand::u64(1..),
        number,
        name: metrics.node().to_string(),
    };
    let joined = Remote::join(Arc::clone(hub), link, me, metrics, shared);
    let remote = joined.await.map_err(StartError::new)?;
    Ok((Arc::new(Arc::clone(&remote)), Some(remote)))
}

fn verifier(
    config: &Config,
    revocations: Arc<dyn Revocations>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Verifier>, StartError> {
    let metrics = Arc::clone(metrics);
    let observe = move |event| match event {
        AuthEvent::Refused(failure) => metrics.auth_failure(failure.as_str()),
        AuthEvent::NotJudged => metrics.token_not_judged(),
        AuthEvent::Fetched(succeeded) => metrics.keys_fetched(succeeded),
    };
    Verifier::new(&config.auth.verifier(), revocations, observe).map_err(StartError::new)
}

/// The node's name for operators.
fn node_name(config: &Config) -> String {
    if config.cluster.engine == Engine::None {
        return config.server.node.clone();
    }
    let random = || format!("{}-{:04x}", config.server.node, fastrand::u16(..));
    config.cluster.node.clone().unwrap_or_else(random)
}

impl Assembled {
    /// Whether the server runs with `--dev`.
    pub(super) fn is_dev(&self) -> bool {
        self.dev
    }

    /// Reports to gRPC's health service that the server accepts requests.
    pub(super) async fn serve(&self) {
        self.health.set_serving(true).await;
    }

    /// Reports to it whether events can be published.
    pub(super) async fn publishes(&self, available: bool) {
        self.health.set_publishing(available).await;
    }

    /// Reports to it that load balancers should send no more clients here. Requests are still
    /// served.
    pub(super) async fn not_ready(&self) {
        self.health.not_ready().await;
    }

    /// Runs the sources of a configuration from now on.
    pub(super) fn run_sources(&self, config: &Config) {
        let lowered = lowered(config, self.most_event_bytes);
        self.sources
            .apply(lowered.as_ref().unwrap_or(config).sources());
    }

    /// Finishes what the sources have read, and ends them.
    pub(super) async fn stop_sources(&self) {
        self.sources.stop().await;
    }

    /// Ends gRPC's long-lived streams.
    pub(super) async fn drain(&self) {
        self.health.drain().await;
    }

    /// Tells the other nodes that this one stops.
    pub(super) async fn leave(&self) {
        if let Some(remote) = &self.remote {
            remote.leave().await;
        }
    }

    /// Applies the settings that can change while connections stay open.
    pub(super) fn reload(&self, config: &Config) -> Result<(), StartError> {
        let lowered = lowered(config, self.most_event_bytes);
        let config = lowered.as_ref().unwrap_or(config);
        // Everything that can fail comes first, so that an invalid file changes nothing.
        let policy = policy(config, self.dev)?;
        let catalog = catalog(config)?;
        let services = &self.services;
        let before = services.hooks.load_full();
        let hooks = open_hooks(config, before, &services.metrics, &services.tracing)?;
        self.services
            .verifier
            .reload(&config.auth.verifier())
            .map_err(StartError::new)?;
        self.services.hooks.store(hooks);
        self.services
            .hub
            .set_namespaces(config.namespaces(self.dev));
        self.services.hub.set_settings(bus_settings(config));
        if let Some(observed) = &self.observed {
            observed.set_anonymous(!config.auth.required);
        }
        self.services
            .reload(policy, catalog, request_limits(config));
        self.endpoint.reload(ws_settings(config, self.dev));
        self.socketio.reload(socketio_settings(config));
        self.allowed_origins
            .store(Arc::new(allowed_origins(config, self.dev)));
        self.trust.store(Arc::new(trust(config)));
        self.asyncapi.store(Arc::new(asyncapi_settings(config)));
        self.internal_origins
            .store(Arc::new(internal_origins(config)));
        self.internal_hosts
            .store(Arc::new(config.internal.allowed_hosts.clone()));
        Ok(())
    }
}

/// The hooks of a configuration. Those from before stay, with their cache, if nothing has changed.
fn open_hooks(
    config: &Config,
    before: Option<Arc<Hooks>>,
    metrics: &Arc<Metrics>,
    tracing: &Arc<Tracing>,
) -> Result<Option<Arc<Hooks>>, StartError> {
    let Some(settings) = config.hooks.settings() else {
        return Ok(None);
    };
    if let Some(before) = before.filter(|before| *before.settings() == settings) {
        return Ok(Some(before));
    }
    let hooks = Hooks::new(settings, metrics, tracing).map_err(StartError::new)?;
    Ok(Some(hooks))
}

/// The configuration with `limits.event_bytes` lowered to the engine's limit; `None` if it is not
/// above that limit.
fn lowered(config: &Config, most: Option<usize>) -> Option<Config> {
    let most = most.filter(|most| config.limits.event_bytes > *most)?;
    let mut lowered = config.clone();
    lowered.limits.event_bytes = most;
    Some(lowered)
}

pub(super) fn policy(config: &Config, dev: bool) -> Result<Policy, StartError> {
    let rules = config.namespace.iter().map(|namespace| NamespaceRules {
        name: namespace.name.clone(),
        subscribe: namespace.subscribe.clone(),
        publish: namespace.publish.clone(),
    });
    Policy::new(rules, dev).map_err(StartError::new)
}

fn bus_settings(config: &Config) -> Settings {
    let limits = &config.limits;
    Settings {
        connections: limits.connections,
        connections_per_user: limits.connections_per_user,
        connections_per_ip: limits.connections_per_ip,
        subscriptions_per_connection: limits.subscriptions_per_connection,
        outbox_bytes: limits.outbox_bytes,
        filters: FilterLimits {
            steps: limits.filter_steps,
            steps_per_second: limits.filter_steps_per_second,
            bytes: limits.filter_bytes,
            bytes_per_connection: limits.filter_bytes_per_connection,
            memory: limits.filter_memory,
        },
        messages_per_second: limits.messages_per_second,
        messages_burst: limits.messages_burst,
        heartbeat_interval: config.heartbeat.interval,
        heartbeat_timeout: config.heartbeat.timeout,
        auth_deadline: config.auth.deadline,
        confirmations: config.telemetry.confirmations,
        connections_per_event: config.telemetry.connections_per_event,
        io_uring: config.server.io_uring,
    }
}

fn request_limits(config: &Config) -> RequestLimits {
    RequestLimits {
        event_bytes: config.limits.event_bytes,
        publishes_per_second: config.limits.publishes_per_second,
        publishes_burst: config.limits.publishes_burst,
        auto_subscribe: config.auto_subscribe.clone(),
        auth_required: config.auth.required,
        channels_per_minute: config.limits.channels_per_minute,
        open_documents: config.public.documents == Documents::Open,
        audit_publishes: config.audit.publishes,
        bodies: BodyLimits {
            all: config.limits.body_bytes,
            per_user: config.limits.body_bytes_per_user,
            per_connection: config.limits.body_bytes_per_connection,
        },
    }
}

/// The origins whose pages may use the server. In development mode without a list, all.
fn allowed_origins(config: &Config, dev: bool) -> Vec<String> {
    let mut allowed = normal(&config.public.allowed_origins);
    if dev && allowed.is_empty() {
        allowed.push("*".to_owned());
    }
    allowed
}

/// The origins whose pages may call gRPC-Web.
fn internal_origins(config: &Config) -> Vec<String> {
    normal(&config.internal.allowed_origins)
}

/// Origins in the form that browsers send. Invalid ones were refused when the configuration was
/// read.
fn normal(origins: &[String]) -> Vec<String> {
    let normal = origins.iter().map(|text| origin::normal(text));
    normal.flatten().collect()
}

fn trust(config: &Config) -> Trust {
    // Invalid networks were refused when the configuration was read.
    let proxies = config.public.trusted_proxies.iter();
    Trust {
        proxies: proxies.filter_map(|text| text.parse().ok()).collect(),
        standard: config.public.forwarded_header == ForwardedHeader::Forwarded,
    }
}

fn ws_settings(config: &Config, dev: bool) -> WsSettings {
    let declared = config.dialect.iter();
    let declared = declared.filter(|own| own.protocol == DialectProtocol::WebSocket);
    let declare = |own: &DialectConfig| Declared {
        name: own.name.clone(),
        paths: own.paths.clone(),
        definition: Arc::new(own.definition()),
    };
    WsSettings {
        allowed_origins: allowed_origins(config, dev),
        compression: config.websocket.compression,
        message_bytes: config.limits.message_bytes,
        dialect: config.websocket.dialect.clone(),
        dialects: declared.map(declare).collect(),
    }
}

/// The dialects available over Socket.IO.
fn socketio_settings(config: &Config) -> SocketIoSettings {
    let declared = config.dialect.iter();
    let declared = declared.filter(|own| own.protocol == DialectProtocol::SocketIo);
    let declare = |own: &DialectConfig| SocketIoDialect {
        definition: Arc::new(own.definition()),
        paths: own.paths.clone(),
        namespaces: own.namespaces.clone(),
    };
    SocketIoSettings {
        dialects: declared.map(declare).collect(),
        compression: config.websocket.compression,
        message_bytes: config.limits.message_bytes,
    }
}

fn tracing_settings(config: &Config) -> TracingSettings {
    let telemetry = &config.telemetry;
    TracingSettings {
        otlp_endpoint: telemetry.otlp_endpoint.clone().unwrap_or_default(),
        otlp_protocol: match telemetry.otlp_protocol {
            OtlpProtocol::Grpc => "grpc",
            OtlpProtocol::HttpProtobuf => "http/protobuf",
        }
        .to_owned(),
        service_name: telemetry.service_name.clone(),
        sample_ratio: telemetry.sample_ratio,
        delivery_spans: telemetry.delivery_spans,
    }
}
