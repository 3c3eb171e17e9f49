//! Starts webhooks from the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::StartError;
use crate::cluster::{ClusterOccupancy, OccupancyChange};
use crate::config::{Config, Durability, Engine, Secret, Storage, WebhookConfig};
use crate::event::ChannelName;
use crate::telemetry::Metrics;
use crate::webhooks::{
    Edges, EdgesReceiver, EventKind, WebhookSettings, Webhooks, WebhooksParts, WebhooksSettings,
    channel,
};

/// The observer of connections and channels, if webhooks are configured.
pub(super) fn observe(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Option<(Arc<Edges>, EdgesReceiver)> {
    if config.webhook.is_empty() {
        return None;
    }
    let kinds = config.webhook.iter().flat_map(WebhookConfig::kinds);
    let kinds: Vec<EventKind> = kinds.collect();
    let (edges, receiver) = channel(&kinds, metrics);
    edges.set_anonymous(!config.auth.required);
    Some((edges, receiver))
}

/// The exchange of occupied channels between nodes.
pub(super) fn occupancy(edges: &Arc<Edges>) -> (Arc<ClusterOccupancy>, Receiver<OccupancyChange>) {
    let edges = Arc::clone(edges);
    ClusterOccupancy::new(Box::new(move |channel: &ChannelName, occupied| {
        edges.occupancy_elsewhere(channel, occupied);
    }))
}

/// Starts them.
pub(super) fn start(config: &Config, parts: WebhooksParts) -> Result<Arc<Webhooks>, StartError> {
    let webhooks = config.webhook.iter().map(|webhook| WebhookSettings {
        url: webhook.url.clone(),
        secret: webhook
            .secret
            .as_ref()
            .map(Secret::expose)
            .map(str::to_owned),
        events: webhook.kinds(),
        queue_bytes: webhook.queue_bytes,
        dead_letter_bytes: webhook.dead_letter_bytes,
        batch_events: webhook.batch_events,
        timeout: webhook.timeout,
        retry_for: webhook.retry_for,
        retry_pause: webhook.retry_pause,
    });
    let settings = WebhooksSettings {
        webhooks: webhooks.collect(),
        path: directory(config),
        synced: config.history.durability == Durability::Fsync,
        node: parts.hub.metrics().node().to_string(),
    };
    Webhooks::start(&settings, parts).map_err(StartError::new)
}

/// The directory of the queue; `None`: it is in memory.
fn directory(config: &Config) -> Option<PathBuf> {
    if let Some(path) = &config.webhooks.path {
        return Some(path.clone());
    }
    let is_on_disk =
        config.cluster.engine == Engine::None && config.history.storage == Storage::Disk;
    is_on_disk.then(|| config.history.path.join("webhooks"))
}
