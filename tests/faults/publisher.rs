//! Publishers. Each event has an idempotency key, and is retried until it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use tidings::proto::event_service_client::EventServiceClient;
use tidings::proto::{PublishBatchRequest, PublishRequest, PublishResponse};
use tonic::transport::Channel;

use crate::book::ChannelPosition;
use crate::client::EVENT_TYPE;
use crate::ledger::Number;
use crate::options::channel_name;
use crate::stream::{TIMEOUT, channel, signed};
use crate::world::World;

/// A publisher with its own number.
pub struct Publisher {
    world: Arc<World>,
    /// A client of each node.
    nodes: Vec<EventServiceClient<Channel>>,
    /// The node that it publishes on. Each retry goes to a random one.
    node: usize,
    number: u32,
    count: u32,
    rng: Rng,
}

impl Publisher {
    pub fn new(world: &Arc<World>, number: u32, seed: u64) -> Self {
        let nodes = 0..world.nodes.len();
        Publisher {
            node: usize::try_from(number).unwrap() % nodes.len(),
            nodes: nodes
                .map(|node| EventServiceClient::new(channel(world, node)))
                .collect(),
            world: Arc::clone(world),
            number,
            count: 0,
            rng: Rng::with_seed(seed),
        }
    }

    fn event(&mut self, channel: usize, bytes: usize) -> (Number, PublishRequest) {
        self.count += 1;
        let number = Number {
            publisher: self.number,
            count: self.count,
        };
        let pad = "x".repeat(bytes);
        let request = PublishRequest {
            channels: vec![channel_name(channel)],
            r#type: EVENT_TYPE.to_owned(),
            data: Bytes::from(format!(r#"{{"n":{},"pad":"{pad}"}}"#, number.to_data())),
            key: self.rng.u8(..5).to_string(),
            idempotency_key: format!("{}-{}", number.publisher, number.count),
            ..PublishRequest::default()
        };
        (number, request)
    }

    /// Publishes to random channels, one event after the other, until the run ends.
    pub async fn run(mut self, pause: Duration) {
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.world.enough.is_cancelled() {
            ticks.tick().await;
            let channel = self.rng.usize(..self.world.options.channels());
            let bytes = self.rng.usize(50..1500);
            self.publish(channel, bytes).await;
        }
    }

    /// Publishes until it is acknowledged. Returns the position.
    pub async fn publish(&mut self, channel: usize, bytes: usize) -> ChannelPosition {
        let (number, request) = self.event(channel, bytes);
        loop {
            let wipes = self.world.wipes.get();
            if let Some(answer) = self.call(request.clone()).await
                && let Some(position) = self.acknowledged(channel, number, &answer, wipes)
            {
                return position;
            }
            self.pause().await;
        }
    }

    /// Publishes to random channels without idempotency keys, until the run ends. An event that is
    /// not acknowledged is not repeated: it may appear once.
    pub async fn run_without_keys(mut self, pause: Duration) {
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.world.enough.is_cancelled() {
            ticks.tick().await;
            let channel = self.rng.usize(..self.world.options.channels());
            let bytes = self.rng.usize(50..1500);
            let (number, mut request) = self.event(channel, bytes);
            request.idempotency_key.clear();
            let wipes = self.world.wipes.get();
            let answer = self.call(request).await;
            let position =
                answer.and_then(|answer| self.acknowledged(channel, number, &answer, wipes));
            if position.is_none() {
                self.world.totals.unknown.add(1);
                self.pause().await;
            }
        }
    }

    async fn call(&mut self, request: PublishRequest) -> Option<PublishResponse> {
        let call = signed(request, "backend", "service", 60);
        let answer = tokio::time::timeout(TIMEOUT, self.nodes[self.node].publish(call)).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    /// Publishes this many large events to one channel at once.
    pub async fn burst(&mut self, channel: usize, events: usize) {
        let mut left: Vec<_> = (0..events).map(|_| self.event(channel, 2000)).collect();
        while !left.is_empty() {
            let requests = left.iter().map(|(_, request)| request.clone()).collect();
            let call = signed(PublishBatchRequest { requests }, "backend", "service", 60);
            let wipes = self.world.wipes.get();
            let events = &mut self.nodes[self.node];
            let answer = tokio::time::timeout(TIMEOUT, events.publish_batch(call)).await;
            if let Ok(Ok(answer)) = answer {
                let responses = answer.into_inner().responses;
                let answered = left.into_iter().zip(&responses);
                left = answered
                    .filter(|((number, _), response)| {
                        self.acknowledged(channel, *number, response, wipes)
                            .is_none()
                    })
                    .map(|(event, _)| event)
                    .collect();
            }
            if !left.is_empty() {
                self.pause().await;
            }
        }
    }

    async fn pause(&mut self) {
        self.world.totals.retries.add(1);
        self.node = self.rng.usize(..self.nodes.len());
        tokio::time::sleep(Duration::from_millis(self.rng.u64(20..300))).await;
    }

    fn acknowledged(
        &self,
        channel: usize,
        number: Number,
        response: &PublishResponse,
        wipes: u64,
    ) -> Option<ChannelPosition> {
        if response.error.is_some() {
            return None;
        }
        let result = response.results.first()?;
        let position = result.position.clone()?;
        let position = ChannelPosition {
            epoch: position.epoch,
            offset: position.offset,
        };
        let totals = &self.world.totals;
        totals.acknowledged.add(1);
        totals.duplicates.add(u64::from(result.duplicate));
        let ledger = &self.world.ledger;
        if let Err(why) = ledger.acknowledged(channel, &position, number, wipes) {
            self.world.wrong("a publisher", why);
        }
        Some(position)
    }
}
