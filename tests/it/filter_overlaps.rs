//! Filters of one connection, and what they may say of the events of others, of its other
//! subscriptions to the same channel, and of what its shard has to do for others.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Publisher, Server, event};

/// Takes more steps than one evaluation has.
const COSTLY: &str = "data.list.exists(x, x > 8)";

fn one_shard() -> Config {
    Config::rooms().set("server.shards", "1")
}

async fn publish_to(service: &mut Publisher, user: &str, channel: &str, data: Value) {
    let audience = Audience {
        users: vec![user.to_owned()],
        ..Audience::default()
    };
    let request = PublishRequest {
        audience: Some(audience),
        ..event(channel, "secret.told", data)
    };
    service.send(request).await;
}

#[tokio::test]
async fn a_filter_is_not_asked_about_events_for_others() {
    let config = one_shard()
        .event_type("ops.only", "roles = ['ops']")
        .set("limits.filter_steps", "2000")
        .set("limits.outbox_bytes", "50000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let channels = ["room:1", "plain:1"];
    for channel in channels {
        eve.subscribe_with(channel, json!({ "filter": COSTLY })).await;
        // Large enough to be deferred, costly enough to be told, and too many to be held.
        for kib in [1, 40, 80, 80] {
            let data = json!({ "list": vec![7; kib * 512] });
            publish_to(&mut service, "bob", channel, data.clone()).await;
            service.publish(channel, "ops.only", data).await;
        }
    }
    eve.lives().await;
    let (steps, deferred) = (
        "tidings_filter_steps_total",
        "tidings_filters_deferred_total",
    );
    assert_eq!(server.metric(steps).await, 0);
    assert_eq!(server.metric(deferred).await, 0);
    for channel in channels {
        let data = json!({ "list": [9] });
        publish_to(&mut service, "eve", channel, data).await;
        eve.expect_event("secret.told").await;
    }
    assert!(server.metric(steps).await > 0);
    assert_eq!(eve.unread().count(), 0, "nothing is told of the others");
}
