//! Opens the store or the engine that the configuration selects.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::StartError;
use crate::auth::{LocalRevocations, Revocations};
use crate::broker::{
    Bounds, Broker, CursorBounds, CursorStore, Disk, DiskSettings, Durability, Memory,
    MemoryCursors, Nats, NatsSettings, OnDamage, Redis, RedisBus, RedisCursors, RedisRevocations,
    RedisSettings, Sink, set_aside,
};
use crate::cluster::{self, Link, NatsCursors, NatsLink, RedisLink};
use crate::config::{self, Config, Engine, Limits, Secret, Storage};
use crate::event::{Namespaces, NodeId};
use crate::telemetry::{Metrics, Tracing};

/// The opened store or engine, and its companions.
pub(super) struct Stores {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) revocations: Arc<dyn Revocations>,
    /// The cursors of durable subscriptions.
    pub(super) cursors: Arc<dyn CursorStore>,
    /// The largest event that the engine takes, if there is one.
    pub(super) most_event_bytes: Option<usize>,
    /// What carries messages between nodes, with this node's number.
    pub(super) link: Option<(Arc<dyn Link>, NodeId)>,
}

impl Stores {
    fn local(
        broker: Arc<dyn Broker>,
        revocations: Arc<dyn Revocations>,
        cursors: Arc<dyn CursorStore>,
    ) -> Self {
        Stores {
            broker,
            revocations,
            cursors,
            most_event_bytes: None,
            link: None,
        }
    }
}

/// Opens the store, or connects to the engine.
pub(super) async fn open(
    config: &Config,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: &Arc<Metrics>,
    tracing: &Arc<Tracing>,
) -> Result<Stores, StartError> {
    let bounds = Bounds {
        channels: config.limits.channels,
        memory_bytes: config.history.most_memory(),
        keys: config.limits.idempotency_keys,
        keys_per_publisher: config.limits.idempotency_keys_per_publisher,
    };
    match config.cluster.engine {
        Engine::None => local(config, namespaces, sink, metrics, tracing, bounds),
        Engine::Nats => nats(config, namespaces, sink, metrics, bounds).await,
        Engine::Redis => redis(config, namespaces, sink, metrics, bounds).await,
    }
}

fn local(
    config: &Config,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: &Arc<Metrics>,
    tracing: &Arc<Tracing>,
    bounds: Bounds,
) -> Result<Stores, StartError> {
    let metrics = Arc::clone(metrics);
    Ok(match config.history.storage {
        // `nats` is refused when the configuration is checked.
        Storage::Memory | Storage::Nats => {
            set_store_aside(config);
            let cursors = MemoryCursors::new(cursor_bounds(config), Arc::clone(&metrics));
            let memory = Memory::new(namespaces, sink, metrics, bounds);
            let revocations = Arc::new(LocalRevocations);
            Stores::local(Arc::new(memory), revocations, Arc::new(cursors))
        }
        Storage::Disk => {
            let settings = DiskSettings {
                path: config.history.path.clone(),
                durability: match config.history.durability {
                    config::Durability::Fsync => Durability::Fsync,
                    config::Durability::Async => Durability::Async,
                },
                on_damage: match config.history.on_damage {
                    config::OnDamage::Refuse => OnDamage::Refuse,
                    config::OnDamage::NewEpoch => OnDamage::NewEpoch,
                },
                cache_bytes: config.history.cache_bytes,
                disk_bytes: config.history.disk_bytes,
                bounds,
                cursors: cursor_bounds(config),
            };
            let disk = Disk::open(namespaces, sink, metrics, Arc::clone(tracing), settings);
            let disk = Arc::new(disk.map_err(StartError::new)?);
            let broker: Arc<dyn Broker> = Arc::<Disk>::clone(&disk);
            let cursors: Arc<dyn CursorStore> = Arc::<Disk>::clone(&disk);
            Stores::local(broker, disk, cursors)
        }
    })
}

fn cursor_bounds(config: &Config) -> CursorBounds {
    CursorBounds {
        per_user: config.limits.cursors_per_user,
        total: config.limits.cursors,
        ttl: config.history.cursor_ttl,
    }
}

async fn nats(
    config: &Config,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: &Arc<Metrics>,
    bounds: Bounds,
) -> Result<Stores, StartError> {
    let nats = &config.cluster.nats;
    let settings = NatsSettings {
        prefix: config.cluster.name.clone(),
        urls: nats.urls.clone(),
        user: nats.user.clone().zip(nats.password.clone()),
        token: nats.token.clone(),
        credentials_file: nats.credentials_file.clone(),
        nkey_file: nats.nkey_file.clone(),
        ca: nats.ca.clone(),
        identity: nats.cert.clone().zip(nats.key.clone()),
        replicas: nats.replicas,
        max_bytes: nats.max_bytes,
        publish_timeout: nats.publish_timeout,
        sweep: nats.sweep,
        event_bytes: config.limits.event_bytes,
        event_bytes_is_set: config.limits.event_bytes != Limits::default().event_bytes,
        cache_bytes: config.history.cache_bytes,
        bounds,
    };
    let nats = Nats::connect(settings, namespaces, sink, Arc::clone(metrics));
    let nats = nats.await.map_err(StartError::new)?;
    let cluster = &config.cluster;
    let link = NatsLink::open(nats.client(), cluster.name.clone(), cluster.nats.replicas);
    let link = link.await.map_err(StartError::new)?;
    let cursors = NatsCursors::open(
        Arc::clone(&link),
        cluster.nats.replicas,
        cursor_bounds(config),
        Arc::clone(metrics),
    );
    let cursors = cursors.await.map_err(StartError::new)?;
    let number = cluster::claim(&link).await.map_err(StartError::new)?;
    Ok(Stores {
        most_event_bytes: Some(nats.event_bytes()),
        broker: Arc::new(nats),
        cursors: Arc::new(cursors),
        revocations: Arc::new(Arc::clone(&link)),
        link: Some((Arc::new(link), number)),
    })
}

async fn redis(
    config: &Config,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: &Arc<Metrics>,
    bounds: Bounds,
) -> Result<Stores, StartError> {
    let (name, redis) = (&config.cluster.name, &config.cluster.redis);
    let wait_replicas = usize::try_from(redis.wait_replicas).unwrap_or(usize::MAX);
    let urls: Vec<&str> = redis.urls.iter().map(Secret::expose).collect();
    let bus = RedisBus::open(&urls, name, wait_replicas).await;
    let bus = bus.map_err(StartError::new)?;
    let settings = RedisSettings {
        urls: urls.into_iter().map(str::to_owned).collect(),
        name: name.clone(),
        wait_replicas,
        publish_timeout: redis.publish_timeout,
        sweep: redis.sweep,
        bounds,
    };
    let metrics = Arc::clone(metrics);
    let broker = Redis::open(namespaces, sink, Arc::clone(&metrics), settings);
    let broker = broker.await.map_err(StartError::new)?;
    let link = RedisLink::new(Arc::clone(&bus));
    let number = cluster::claim(&link).await.map_err(StartError::new)?;
    Ok(Stores {
        broker: Arc::new(broker),
        cursors: Arc::new(RedisCursors::new(
            Arc::clone(&bus),
            cursor_bounds(config),
            metrics,
        )),
        revocations: Arc::new(RedisRevocations::new(bus)),
        // A string in Redis may have 512 MB.
        most_event_bytes: None,
        link: Some((Arc::new(link), number)),
    })
}

/// A store on disk that exists but is not used misses all events from now on, so it is marked.
fn set_store_aside(config: &Config) {
    let path = &config.history.path;
    match set_aside(path) {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            path = %path.display(),
            "history.path holds a store that is not used: its channels will have new epochs"
        ),
        Err(error) => tracing::warn!(
            path = %path.display(),
            %error,
            "history.path holds a store that is not used, and can't be marked: remove it"
        ),
    }
}
