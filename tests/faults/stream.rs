//! gRPC subscriptions, which resume like WebSocket clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tidings::proto::event_service_client::EventServiceClient;
use tidings::proto::subscribe_response::Message;
use tidings::proto::{Position, SubscribeRequest, Subscription};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::book::ChannelPosition;
use crate::client::token;
use crate::ledger::Number;
use crate::options::channel_name;
use crate::subscriber::{Event, Subscriber};
use crate::world::World;

/// The timeout of a call's response.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A lazy connection to a node's internal listener.
pub fn channel(world: &World, node: usize) -> Channel {
    let address = world.nodes[node].internal.address;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_timeout(TIMEOUT).connect_lazy()
}

/// A request with a token that is valid for this many seconds.
pub fn signed<T>(message: T, user: &str, role: &str, seconds: u64) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token(user, role, seconds));
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().unwrap());
    request
}

fn position(position: Option<Position>) -> ChannelPosition {
    let position = position.unwrap_or_default();
    ChannelPosition {
        epoch: position.epoch,
        offset: position.offset,
    }
}

/// Resubscribes until the run ends.
pub async fn run(world: Arc<World>, subscriber: Arc<Subscriber>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let names: HashMap<String, usize> = subscriber
        .channels
        .iter()
        .map(|channel| (channel_name(*channel), *channel))
        .collect();
    // Its own connections, so that it freezes and breaks independently.
    let nodes = (0..world.nodes.len()).map(|node| EventServiceClient::new(channel(&world, node)));
    let mut nodes: Vec<_> = nodes.collect();
    loop {
        let subscriptions = subscriber.resume().into_iter();
        let subscriptions = subscriptions.map(|(channel, position)| Subscription {
            channel: channel_name(channel),
            since: position.map(|ChannelPosition { epoch, offset }| Position { epoch, offset }),
            rewind: 0,
        });
        let request = SubscribeRequest {
            subscriptions: subscriptions.collect(),
            ..SubscribeRequest::default()
        };
        let request = signed(request, &subscriber.name, "member", rng.u64(2..20));
        let events = &mut nodes[subscriber.choose_node(&mut rng)];
        let answer = tokio::time::timeout(TIMEOUT, events.subscribe(request)).await;
        if let Ok(Ok(answer)) = answer {
            world.totals.connects.add(1);
            let mut stream = answer.into_inner();
            let end = loop {
                match stream.message().await {
                    Ok(Some(message)) => {
                        if !handle(&world, &subscriber, &names, message.message) {
                            break "left".to_owned();
                        }
                    }
                    Ok(None) => break "grpc ok".to_owned(),
                    Err(status) => break format!("grpc {:?}", status.code()),
                }
            };
            world.totals.closed(&end);
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(20..400))).await;
    }
}

/// Handles one message. Returns false if the stream should be reopened.
fn handle(
    world: &World,
    subscriber: &Subscriber,
    names: &HashMap<String, usize>,
    message: Option<Message>,
) -> bool {
    match message {
        Some(Message::Subscribed(subscribed)) => {
            for joined in subscribed.channels {
                let to = position(joined.position);
                subscriber.subscribed(
                    names[&joined.channel],
                    to,
                    joined.recovered,
                    joined.replayed,
                );
            }
            subscribed.errors.is_empty()
        }
        Some(Message::Event(event)) => {
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            let at = position(event.position);
            subscriber.event(Event {
                channel: names[&event.channel],
                epoch: Some(at.epoch),
                offset: at.offset,
                number: Number::from_data(data["n"].as_u64().unwrap()),
            });
            true
        }
        Some(Message::Gap(gap)) => {
            subscriber.gap(names[&gap.channel], gap.from, gap.to, &gap.reason);
            true
        }
        Some(Message::Heartbeat(_)) => true,
        None => {
            world.wrong(&subscriber.name, "an empty message".into());
            true
        }
    }
}
