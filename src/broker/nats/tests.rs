//! Several nodes on one server, where one of them does not receive everything.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::fixture::{NatsServer, settings};
use super::{Nats, NatsSettings};
use crate::broker::contract::{Recorder, draft, namespaces};
use crate::broker::{Bounds, Broker as _, Range, Sink};
use crate::event::{ChannelName, ChannelPattern, Payload};
use crate::telemetry::Metrics;

struct Node {
    nats: Nats,
    /// The broker holds it weakly.
    _sink: Arc<dyn Sink>,
}

impl Node {
    async fn start(server: &NatsServer) -> Self {
        Self::taking(server, 256 * 1024).await
    }

    /// A node that takes events of so many bytes.
    async fn taking(server: &NatsServer, event_bytes: usize) -> Self {
        let sink: Arc<dyn Sink> = Arc::new(Recorder::default());
        let weak: Weak<dyn Sink> = Arc::downgrade(&sink);
        let settings = NatsSettings {
            event_bytes,
            ..settings(server.url(), Bounds::default())
        };
        let nats = Nats::connect(settings, namespaces(), weak, Metrics::new("test"));
        Node {
            nats: nats.await.unwrap(),
            _sink: sink,
        }
    }

    async fn publish(&self, channel: &str) -> u64 {
        let receipt = self.nats.publish(draft(channel, 1, None)).await.unwrap();
        receipt.position.unwrap().offset
    }

    /// Waits until nothing is counted as waiting.
    async fn drained(&self) {
        let queued = &self.nats.shared.queued;
        let drained = async {
            while queued.events.load(Ordering::Acquire) + queued.bytes.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let drained = tokio::time::timeout(Duration::from_secs(10), drained).await;
        assert!(
            drained.is_ok(),
            "{} bytes",
            queued.bytes.load(Ordering::Acquire)
        );
    }

    async fn top(&self, channel: &ChannelName, after: u64) -> u64 {
        let range = Range {
            after,
            ..Range::all(10)
        };
        let page = self.nats.read(channel, range).await.unwrap();
        page.unwrap().top.offset
    }
}

/// A client that comes from another node may know more than this node has received. It must not be
/// told that it has not recovered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_behind_reads_up_to_what_a_reader_knows() {
    let server = NatsServer::start();
    let (behind, other) = (Node::start(&server).await, Node::start(&server).await);
    let channel = ChannelName::new("kept:1").unwrap();
    let exact = ChannelPattern::Exact(channel.clone());
    behind.nats.set_interest(&exact, true);
    assert_eq!(behind.top(&channel, 0).await, 0);
    // Live messages no longer arrive.
    behind.nats.shared.interest.close();
    let known = loop {
        let offset = other.publish("kept:1").await;
        if behind.top(&channel, 0).await < offset {
            break offset;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(behind.top(&channel, known).await, known);
}

/// Events that gather while an append is under way form one batch, which must not be larger than a
/// message of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_events_fits_into_batches_where_events_must_be_small() {
    let server = NatsServer::start();
    let node = Node::taking(&server, 4 * 1024).await;
    let publishing = (0..250).map(|n| {
        let mut event = draft("kept:1", n, None);
        let data = format!("\"{}\"", "x".repeat(3000));
        event.payload = Payload::new(Bytes::from(data), "").unwrap();
        node.nats.publish(event)
    });
    let publishing: Vec<_> = publishing.collect();
    for published in publishing {
        published.await.unwrap();
    }
    node.drained().await;
}

/// What waits is counted in bytes, with its key. All of it leaves the count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_event_leaves_the_queue_with_all_its_bytes() {
    let server = NatsServer::start();
    let node = Node::start(&server).await;
    for key in ["one", "two", "one"] {
        let event = draft("kept:1", 1, Some(key));
        node.nats.publish(event).await.unwrap();
    }
    node.drained().await;
}
