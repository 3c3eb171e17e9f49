//! What operators are told about the configuration.

use std::time::Duration;

use super::Bound;
use crate::config::{Config, Durability, Engine, NamespaceConfig, Storage};
use crate::event::SlowConsumer;
use crate::session::{NamespaceFacts, ServerFacts, Setting};

/// What a server with this configuration was started with.
pub(super) fn facts(config: &Config, dev: bool, bound: Bound) -> ServerFacts {
    let (storage, durability, limit) = match (config.cluster.engine, config.history.storage) {
        (Engine::Nats, _) => ("nats", "", 0),
        (Engine::Redis, _) => ("redis", "", 0),
        (Engine::None, Storage::Disk) => {
            let durability = match config.history.durability {
                Durability::Fsync => "fsync",
                Durability::Async => "async",
            };
            ("disk", durability, config.history.disk_bytes)
        }
        (Engine::None, Storage::Memory | Storage::Nats) => {
            ("memory", "", count(config.history.most_memory()))
        }
    };
    let namespaces = config.all_namespaces(dev);
    let settings = config.provenance.0.iter().map(|value| Setting {
        key: value.key.clone(),
        value: value.value.clone(),
        source: value.source.clone(),
        secret: value.secret,
        reloads: value.reloads,
    });
    ServerFacts {
        dev,
        public: Some(bound.public),
        internal: Some(bound.internal),
        storage: storage.to_owned(),
        durability: durability.to_owned(),
        storage_limit: limit,
        settings: settings.collect(),
        limits: limits(config),
        namespaces: namespaces.iter().map(namespace).collect(),
    }
}

fn limits(config: &Config) -> Vec<(&'static str, u64)> {
    let limits = &config.limits;
    vec![
        ("limits.connections", count(limits.connections)),
        (
            "limits.connections_per_user",
            count(limits.connections_per_user),
        ),
        (
            "limits.connections_per_ip",
            count(limits.connections_per_ip),
        ),
        (
            "limits.subscriptions_per_connection",
            count(limits.subscriptions_per_connection),
        ),
        ("limits.channels", count(limits.channels)),
        (
            "limits.channels_per_minute",
            u64::from(limits.channels_per_minute),
        ),
        (
            "limits.messages_per_second",
            u64::from(limits.messages_per_second),
        ),
        (
            "limits.publishes_per_second",
            u64::from(limits.publishes_per_second),
        ),
        ("limits.message_bytes", count(limits.message_bytes)),
        ("limits.event_bytes", count(limits.event_bytes)),
        ("limits.outbox_bytes", count(limits.outbox_bytes)),
        ("limits.idempotency_keys", count(limits.idempotency_keys)),
        ("history.memory_bytes", count(config.history.most_memory())),
        ("auth.revocations", count(config.auth.revocations)),
    ]
}

fn namespace(config: &NamespaceConfig) -> NamespaceFacts {
    let settings = config.settings();
    let slow_consumer = match settings.slow_consumer {
        SlowConsumer::Disconnect => "disconnect",
        SlowConsumer::DropOldest => "drop_oldest",
        SlowConsumer::Conflate => "conflate",
        SlowConsumer::Resync => "resync",
    };
    NamespaceFacts {
        name: config.name.clone(),
        history_size: count(settings.history.size),
        history_ttl_ms: millis(settings.history.ttl),
        history_bytes: count(settings.history.bytes),
        presence: settings.presence,
        slow_consumer: slow_consumer.to_owned(),
        max_idle_ms: millis(settings.max_idle),
        subscribe: config.subscribe.clone().unwrap_or_default(),
        publish: config.publish.clone().unwrap_or_default(),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
