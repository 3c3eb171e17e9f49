//! Several nodes on one server, where one of them does not receive everything.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Nats;
use super::fixture::{NatsServer, settings};
use crate::broker::contract::{Recorder, draft, namespaces};
use crate::broker::{Bounds, Broker as _, Range, Sink};
use crate::event::{ChannelName, ChannelPattern};
use crate::telemetry::Metrics;

struct Node {
    nats: Nats,
    /// The broker holds it weakly.
    _sink: Arc<dyn Sink>,
}

impl Node {
    async fn start(server: &NatsServer) -> Self {
        let sink: Arc<dyn Sink> = Arc::new(Recorder::default());
        let weak: Weak<dyn Sink> = Arc::downgrade(&sink);
        let settings = settings(server.url(), Bounds::default());
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
