//! Tests of the services through their clients.

use std::sync::Arc;

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use super::GrpcAuth;
use super::fixture::{Fixture, next, next_event, numbered, soon, subscribe_request};
use super::rpc_context::Call;
use super::subscribe::{self, SubscribeProtocol};
use crate::auth::Identity;
use crate::hub::Settings;
use crate::lifecycle::Departure;
use crate::proto::disconnect_request::Target;
use crate::proto::subscribe_response::Message as Step;
use crate::proto::{
    DisconnectRequest, GetHistoryRequest, PublishBatchRequest, PublishRequest,
    PublishStreamRequest, SubscribeRequest, WatchStatsRequest,
};
use crate::session::Session;

#[tokio::test]
async fn published_event_arrives_with_all_fields() {
    let fixture = Fixture::trusting().await;
    let (mut stream, subscribed) = fixture.subscribe("room:1").await;
    assert_eq!(subscribed.channels[0].channel, "room:1");
    let request = PublishRequest {
        headers: [("k".to_owned(), "v".to_owned())].into(),
        time: Some(prost_types::Timestamp {
            seconds: 5,
            nanos: 7_000,
        }),
        ..numbered("room:1", 42)
    };
    let mut request = tonic::Request::new(request);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", parent.parse().unwrap());
    let mut client = fixture.events().await;
    let published = client.publish(request).await.unwrap().into_inner();
    let event = next_event(&mut stream).await;
    assert_eq!(event.id, published.id);
    assert_eq!((&*event.r#type, &*event.channel), ("counted", "room:1"));
    assert_eq!((&*event.data, &*event.source), (&b"42"[..], "internal"));
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.headers.get("k").map(String::as_str), Some("v"));
    assert_eq!(event.time.unwrap().nanos, 7_000);
    assert_eq!(event.traceparent, parent);
    assert_eq!(event.position, published.results[0].position);
    assert_eq!(published.results[0].subscribers, 1);
}

#[tokio::test]
async fn invalid_request_in_batch_is_refused_alone() {
    let fixture = Fixture::trusting().await;
    let wrong = PublishRequest {
        r#type: "1".into(),
        ..numbered("room:1", 2)
    };
    let requests = vec![numbered("room:1", 1), wrong, numbered("room:1", 3)];
    let batch = PublishBatchRequest { requests };
    let answer = fixture.events().await.publish_batch(batch).await.unwrap();
    let responses = answer.into_inner().responses;
    let offset = |at: usize| responses[at].results[0].position.as_ref().unwrap().offset;
    assert_eq!((offset(0), offset(2)), (1, 2));
    let error = responses[1].error.as_ref().unwrap();
    assert_eq!(error.code, 3);
    let refused = error.message.starts_with("requests[1].type:");
    assert!(refused, "{}", error.message);
}

#[tokio::test]
async fn publish_stream_keeps_order_and_ends_cleanly() {
    let fixture = Fixture::trusting().await;
    let (mut subscription, _) = fixture.subscribe("room:*").await;
    let requests = tokio_stream::iter((1..=2_000).map(|number| PublishStreamRequest {
        request: (number != 1_000).then(|| numbered("room:1", number)),
    }));
    let mut client = fixture.events().await;
    let mut answers = client.publish_stream(requests).await.unwrap().into_inner();
    let mut offset = 0;
    for number in 1..=2_000 {
        let response = soon(&mut answers).await.unwrap().unwrap().response.unwrap();
        if number == 1_000 {
            assert_eq!(response.error.unwrap().code, 3);
            continue;
        }
        offset += 1;
        assert_eq!(
            response.results[0].position.as_ref().unwrap().offset,
            offset
        );
        let data = next_event(&mut subscription).await.data;
        assert_eq!(data, Bytes::from(number.to_string()));
    }
    assert_eq!(soon(&mut answers).await.unwrap(), None);
}

#[tokio::test]
async fn single_refused_subscription_fails_the_call() {
    let fixture = Fixture::start(GrpcAuth::Jwt, Settings::sample()).await;
    let mut client = fixture.events().await;
    let request = fixture.signed("alice", &[], subscribe_request("room:1"));
    let status = client.subscribe(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("permission_denied", "tidings")
    );
    let open = fixture.signed("alice", &[], subscribe_request("room:open"));
    assert!(client.subscribe(open).await.is_ok());
    let wrong = fixture.signed("alice", &[], subscribe_request("not a name"));
    let status = client.subscribe(wrong).await.unwrap_err();
    let details = status.get_details_bad_request().unwrap();
    assert_eq!(
        details.field_violations[0].field,
        "subscriptions[0].channel"
    );
}

#[tokio::test]
async fn refused_subscriptions_are_listed() {
    let fixture = Fixture::start(GrpcAuth::Jwt, Settings::sample()).await;
    let mut both = subscribe_request("room:open");
    both.subscriptions
        .extend(subscribe_request("room:1").subscriptions);
    let request = fixture.signed("alice", &[], both);
    let response = fixture.events().await.subscribe(request).await.unwrap();
    let mut stream = response.into_inner();
    let Step::Subscribed(subscribed) = next(&mut stream).await else {
        panic!("expected subscribed");
    };
    assert_eq!(subscribed.channels[0].channel, "room:open");
    let refused = &subscribed.errors[0];
    assert_eq!(
        (&*refused.channel, &*refused.code),
        ("room:1", "permission_denied")
    );
}

#[tokio::test]
async fn only_health_and_reflection_need_no_token() {
    let fixture = Fixture::start(GrpcAuth::Jwt, Settings::sample()).await;
    let denied = fixture.events().await.publish(numbered("room:1", 1)).await;
    assert_eq!(denied.unwrap_err().code(), Code::Unauthenticated);
    let mut health = tonic_health::pb::health_client::HealthClient::new(fixture.connect().await);
    let request = tonic_health::pb::HealthCheckRequest {
        service: "tidings.v1.EventService".to_owned(),
    };
    let answer = health.check(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::ServingStatus::Serving.into());
    fixture.health.drain().await;
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(
        answer.status(),
        tonic_health::ServingStatus::NotServing.into()
    );
    let services = reflected(&fixture).await;
    for name in [
        "tidings.v1.EventService",
        "tidings.v1.CatalogService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            services.iter().any(|service| service == name),
            "{services:?}"
        );
    }
}

async fn reflected(fixture: &Fixture) -> Vec<String> {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(fixture.connect().await);
    let requests = tokio_stream::iter([request]);
    let answer = client.server_reflection_info(requests).await.unwrap();
    let answer = soon(&mut answer.into_inner()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("expected a list of services");
    };
    list.service
        .into_iter()
        .map(|service| service.name)
        .collect()
}

#[tokio::test]
async fn slow_reader_is_closed_alone() {
    let settings = Settings {
        outbox_bytes: 64 * 1024,
        ..Settings::sample()
    };
    let fixture = Fixture::start(GrpcAuth::Trusted, settings).await;
    let (mut slow, _) = fixture.subscribe("room:1").await;
    let (mut fast, _) = fixture.subscribe("room:1").await;
    let mut client = fixture.events().await;
    for number in 1..=600_usize {
        let data = Bytes::from(format!("\"{number:08192}\""));
        let request = PublishRequest {
            data: data.clone(),
            ..numbered("room:1", 0)
        };
        client.publish(request).await.unwrap();
        assert_eq!(next_event(&mut fast).await.data, data);
    }
    let mut came = 0;
    let status = loop {
        match soon(&mut slow).await {
            Ok(Some(_)) => came += 1,
            Ok(None) => panic!("the stream ended as if nothing were missing"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(came < 600);
}

#[tokio::test]
async fn operator_closes_a_stream() {
    let fixture = Fixture::trusting().await;
    let (mut stream, subscribed) = fixture.subscribe("room:1").await;
    let mut operator = fixture.connections().await;
    let request = DisconnectRequest {
        target: Some(Target::ConnectionId(subscribed.connection_id)),
        reason: "enough".to_owned(),
        revoke: false,
    };
    let ended = operator.disconnect(request.clone()).await.unwrap();
    assert_eq!(ended.into_inner().disconnected, 1);
    let status = soon(&mut stream).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "enough")
    );
    let gone = operator.disconnect(request).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn history_is_paged_both_ways() {
    let fixture = Fixture::trusting().await;
    let mut client = fixture.events().await;
    for number in 1..=5 {
        client.publish(numbered("room:1", number)).await.unwrap();
    }
    for (reverse, expected) in [(false, [1, 2, 3, 4, 5]), (true, [5, 4, 3, 2, 1])] {
        let mut request = GetHistoryRequest {
            channel: "room:1".to_owned(),
            page_size: 2,
            reverse,
            ..GetHistoryRequest::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = client
                .get_history(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert_eq!(page.position.unwrap().offset, 5);
            seen.extend(
                page.events
                    .into_iter()
                    .map(|event| event.position.unwrap().offset),
            );
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn page_of_large_events_fits_one_message() {
    let fixture = Fixture::trusting().await;
    let mut client = fixture.events().await;
    for number in 1..=8 {
        let data = Bytes::from(format!("\"{}\"", "x".repeat(1_000_000)));
        let request = PublishRequest {
            data,
            ..numbered("room:1", number)
        };
        client.publish(request).await.unwrap();
    }
    let mut request = GetHistoryRequest {
        channel: "room:1".to_owned(),
        ..GetHistoryRequest::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = client
            .get_history(request.clone())
            .await
            .unwrap()
            .into_inner();
        seen.extend(
            page.events
                .iter()
                .map(|event| event.position.as_ref().unwrap().offset),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn event_is_encoded_once_for_all_subscribers() {
    let fixture = Fixture::trusting().await;
    let identity = Arc::new(Identity::trusted("internal"));
    let session = Session::new(Arc::clone(&fixture.services), identity, None);
    let protocol: Arc<dyn crate::hub::Protocol> = Arc::new(SubscribeProtocol);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let call = Call {
            session: session.clone(),
            message: subscribe_request("room:1"),
            address: "127.0.0.1:1".parse().unwrap(),
            trace: None,
            headers: http::HeaderMap::new(),
        };
        let mut stream = subscribe::open(call, Arc::clone(&protocol)).await.unwrap();
        assert!(
            stream
                .next()
                .await
                .is_some_and(|subscribed| subscribed.is_ok())
        );
        streams.push(stream);
    }
    fixture
        .events()
        .await
        .publish(numbered("room:1", 1))
        .await
        .unwrap();
    let mut addresses = Vec::new();
    for stream in &mut streams {
        addresses.push(stream.next().await.unwrap().unwrap().as_bytes().as_ptr());
    }
    assert!(addresses.iter().all(|address| *address == addresses[0]));
}

#[tokio::test]
async fn dropped_stream_closes_its_connection() {
    let fixture = Fixture::trusting().await;
    let (stream, _) = fixture.subscribe("room:1").await;
    assert_eq!(fixture.services.metrics.snapshot().connections.now, 1);
    drop(stream);
    let gone = async {
        while fixture.services.metrics.snapshot().connections.now > 0 {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(patience, gone).await.is_ok());
}

#[tokio::test]
async fn drain_ends_streams_with_unavailable() {
    let fixture = Fixture::trusting().await;
    let (mut subscription, _) = fixture.subscribe("room:1").await;
    let mut operator = fixture.connections().await;
    let watching = operator.watch_stats(WatchStatsRequest::default());
    let mut watched = watching.await.unwrap().into_inner();
    assert!(soon(&mut watched).await.unwrap().is_some());
    let mut client = fixture.events().await;
    let endless = tokio_stream::iter([PublishStreamRequest {
        request: Some(numbered("room:1", 1)),
    }]);
    let endless = endless.chain(tokio_stream::pending());
    let mut answers = client.publish_stream(endless).await.unwrap().into_inner();
    assert!(soon(&mut answers).await.unwrap().is_some());
    next_event(&mut subscription).await;

    fixture.health.drain().await;
    let window = std::time::Duration::from_secs(5);
    fixture
        .services
        .hub
        .drain(Departure::begin(1, window, false), window)
        .await;
    for status in [
        soon(&mut subscription).await.unwrap_err(),
        soon(&mut watched).await.unwrap_err(),
        soon(&mut answers).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}

#[tokio::test]
async fn excess_stream_of_user_is_refused() {
    let settings = Settings {
        connections_per_user: 1,
        ..Settings::sample()
    };
    let fixture = Fixture::start(GrpcAuth::Trusted, settings).await;
    let (_first, _) = fixture.subscribe("room:1").await;
    let second = fixture
        .events()
        .await
        .subscribe(SubscribeRequest::default())
        .await;
    assert_eq!(second.unwrap_err().code(), Code::ResourceExhausted);
}
