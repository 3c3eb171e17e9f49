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
    events: EventServiceClient<Channel>,
    number: u32,
    count: u32,
    rng: Rng,
}

impl Publisher {
    pub fn new(world: &Arc<World>, number: u32, seed: u64) -> Self {
        Publisher {
            events: EventServiceClient::new(channel(world)),
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
            let call = signed(request.clone(), "backend", "service", 60);
            let answer = tokio::time::timeout(TIMEOUT, self.events.publish(call)).await;
            if let Ok(Ok(answer)) = answer
                && let Some(position) = self.acknowledged(channel, number, &answer.into_inner())
            {
                return position;
            }
            self.pause().await;
        }
    }

    /// Publishes this many large events to one channel at once.
    pub async fn burst(&mut self, channel: usize, events: usize) {
        let mut left: Vec<_> = (0..events).map(|_| self.event(channel, 2000)).collect();
        while !left.is_empty() {
            let requests = left.iter().map(|(_, request)| request.clone()).collect();
            let call = signed(PublishBatchRequest { requests }, "backend", "service", 60);
            let answer = tokio::time::timeout(TIMEOUT, self.events.publish_batch(call)).await;
            if let Ok(Ok(answer)) = answer {
                let responses = answer.into_inner().responses;
                let answered = left.into_iter().zip(&responses);
                left = answered
                    .filter(|((number, _), response)| {
                        self.acknowledged(channel, *number, response).is_none()
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
        tokio::time::sleep(Duration::from_millis(self.rng.u64(20..300))).await;
    }

    fn acknowledged(
        &self,
        channel: usize,
        number: Number,
        response: &PublishResponse,
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
        if let Err(why) = self.world.ledger.acknowledged(channel, &position, number) {
            self.world.wrong("a publisher", why);
        }
        Some(position)
    }
}
