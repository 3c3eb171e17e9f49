//! gRPC clients.

use bytes::Bytes;
use serde_json::Value;
use tidings::proto::catalog_service_client::CatalogServiceClient;
use tidings::proto::connection_service_client::ConnectionServiceClient;
use tidings::proto::event_service_client::EventServiceClient;
use tidings::proto::{
    Event, PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse, Subscribed,
    Subscription, subscribe_response,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Server, Token, within};

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Bearer>;

impl Server {
    /// A connection to the internal listener.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.internal)).unwrap();
        within("gRPC", endpoint.connect()).await.unwrap()
    }

    async fn client(&self, token: Option<&Token>) -> Client {
        let bearer = token.map(|t| format!("Bearer {}", t.sign()).parse().unwrap());
        InterceptedService::new(self.channel().await, Bearer(bearer))
    }

    /// Publishes and subscribes with this role.
    pub async fn publisher(&self, role: &str) -> Publisher {
        self.publisher_as(&Token::new("backend").roles(&[role]))
            .await
    }

    /// Publishes and subscribes with this token.
    pub async fn publisher_as(&self, token: &Token) -> Publisher {
        Publisher {
            events: self.events(Some(token)).await,
        }
    }

    /// The generated `EventService` client.
    pub async fn events(&self, token: Option<&Token>) -> EventServiceClient<Client> {
        EventServiceClient::new(self.client(token).await)
    }

    /// The `ConnectionService` client of an admin.
    pub async fn admin(&self) -> ConnectionServiceClient<Client> {
        self.connections_as(Some(&Token::new("root").roles(&["admin"])))
            .await
    }

    /// The `ConnectionService` client.
    pub async fn connections_as(&self, token: Option<&Token>) -> ConnectionServiceClient<Client> {
        ConnectionServiceClient::new(self.client(token).await)
    }

    /// The `CatalogService` client.
    pub async fn catalog(&self, token: Option<&Token>) -> CatalogServiceClient<Client> {
        CatalogServiceClient::new(self.client(token).await)
    }
}

/// An event with this payload for this channel. An empty name means no channel.
pub fn event(channel: &str, event_type: &str, data: Value) -> PublishRequest {
    let channels = if channel.is_empty() {
        vec![]
    } else {
        vec![channel.to_owned()]
    };
    PublishRequest {
        channels,
        r#type: event_type.to_owned(),
        data: Bytes::from(data.to_string()),
        ..PublishRequest::default()
    }
}

/// The fields in the `google.rpc.BadRequest` of a refusal.
pub fn refused_fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request();
    let violations = details.map(|d| d.field_violations).unwrap_or_default();
    violations.into_iter().map(|v| v.field).collect()
}

/// A back-end service that publishes and subscribes.
#[derive(Clone)]
pub struct Publisher {
    pub events: EventServiceClient<Client>,
}

impl Publisher {
    /// Publishes, which must succeed.
    pub async fn publish(&mut self, channel: &str, kind: &str, data: Value) -> PublishResponse {
        self.send(event(channel, kind, data)).await
    }

    /// Publishes any request, which must succeed.
    pub async fn send(&mut self, request: PublishRequest) -> PublishResponse {
        self.try_send(request).await.expect("published")
    }

    /// Publishes any request.
    pub async fn try_send(&mut self, request: PublishRequest) -> Result<PublishResponse, Status> {
        let answer = within("the answer to a publish", self.events.publish(request)).await?;
        Ok(answer.into_inner())
    }

    /// Publishes `{"n": first}` to `{"n": last}`, one call after the other.
    pub async fn count(
        &mut self,
        channel: &str,
        kind: &str,
        numbers: std::ops::RangeInclusive<u64>,
    ) {
        for n in numbers {
            self.publish(channel, kind, serde_json::json!({ "n": n }))
                .await;
        }
    }

    /// Subscribes to channels, and reads `subscribed`.
    pub async fn follow(&mut self, channels: &[&str]) -> EventStream {
        let subscriptions = channels
            .iter()
            .map(|c| Subscription {
                channel: (*c).to_owned(),
                ..Subscription::default()
            })
            .collect();
        self.subscribe(SubscribeRequest {
            subscriptions,
            ..SubscribeRequest::default()
        })
        .await
    }

    /// Subscribes with any request, and reads `subscribed`.
    pub async fn subscribe(&mut self, request: SubscribeRequest) -> EventStream {
        let answer = within("the stream", self.events.subscribe(request))
            .await
            .unwrap();
        let mut stream = answer.into_inner();
        let first = within("subscribed", stream.message())
            .await
            .unwrap()
            .expect("a message");
        let Some(subscribe_response::Message::Subscribed(subscribed)) = first.message else {
            panic!("{first:?} arrived before subscribed");
        };
        EventStream { stream, subscribed }
    }
}

/// A subscription stream.
pub struct EventStream {
    pub stream: Streaming<SubscribeResponse>,
    pub subscribed: Subscribed,
}

impl EventStream {
    /// The next event, past heartbeats.
    pub async fn event(&mut self) -> Event {
        loop {
            let next = within("an event", self.stream.message())
                .await
                .unwrap()
                .expect("an event");
            match next.message {
                Some(subscribe_response::Message::Event(event)) => return event,
                Some(subscribe_response::Message::Heartbeat(_)) => {}
                other => panic!("{other:?} instead of an event"),
            }
        }
    }

    /// The next message, which must be a heartbeat.
    pub async fn heartbeat(&mut self) {
        let next = within("a heartbeat", self.stream.message()).await.unwrap();
        let message = next.expect("a heartbeat").message;
        let Some(subscribe_response::Message::Heartbeat(time)) = message else {
            panic!("{message:?} instead of a heartbeat");
        };
        assert!(time.seconds > 0, "{time:?}");
    }

    /// The numbers in the next `count` events.
    pub async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            let event = self.event().await;
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            numbers.push(data["n"].as_u64().unwrap());
        }
        numbers
    }

    /// Waits for the end of the stream. Returns its status.
    pub async fn ended(&mut self) -> Result<(), Status> {
        within("the end of the stream", async {
            while self.stream.message().await?.is_some() {}
            Ok(())
        })
        .await
    }
}
