//! Audiences: events reach only the receivers that they are addressed to.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Publisher, Server, Ws, event};

struct Scene {
    alice: Ws,
    bob: Ws,
    carol: Ws,
    service: Publisher,
    _server: Server,
}

/// Alice and Bob are in `room:1`, Carol is not. Bob and Carol are editors.
async fn scene() -> Scene {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &["editor"]).connect().await;
    let carol = server.ws().token("carol", &["editor"]).connect().await;
    alice.subscribe("room:1").await;
    bob.subscribe("room:1").await;
    Scene {
        alice,
        bob,
        carol,
        service: server.publisher("service").await,
        _server: server,
    }
}

fn users(names: &[&str]) -> Audience {
    Audience {
        users: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Audience::default()
    }
}

fn roles(names: &[&str]) -> Audience {
    Audience {
        roles: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Audience::default()
    }
}

impl Scene {
    /// Publishes to the channel for the audience. Returns whether Alice, Bob and Carol receive it.
    async fn reaches(&mut self, channel: &str, audience: Audience) -> [bool; 3] {
        let request = PublishRequest {
            audience: Some(audience),
            ..event(channel, "for.some", json!({"secret": true}))
        };
        self.service.send(request).await;
        // A fence event takes the same route, but to everyone.
        if channel.is_empty() {
            let everyone = PublishRequest {
                audience: Some(users(&["alice", "bob", "carol"])),
                ..event("", "fence", json!({}))
            };
            self.service.send(everyone).await;
        } else {
            self.service.publish(channel, "fence", json!({})).await;
            self.service.publish("user:carol", "fence", json!({})).await;
        }
        let mut reached = [false; 3];
        for (at, ws) in [&mut self.alice, &mut self.bob, &mut self.carol]
            .into_iter()
            .enumerate()
        {
            let before: Vec<Value> = ws.until("fence").await;
            reached[at] = before.iter().any(|m| m["type"] == "for.some");
        }
        reached
    }
}

#[tokio::test]
async fn event_without_channel_goes_to_its_audience() {
    let mut scene = scene().await;
    assert_eq!(
        scene.reaches("", users(&["alice"])).await,
        [true, false, false]
    );
    assert_eq!(
        scene.reaches("", users(&["alice", "carol"])).await,
        [true, false, true]
    );
    assert_eq!(
        scene.reaches("", users(&["nobody"])).await,
        [false, false, false]
    );
    assert_eq!(
        scene.reaches("", roles(&["editor"])).await,
        [false, true, true]
    );
    let bob = Audience {
        connections: vec![scene.bob.id()],
        ..Audience::default()
    };
    assert_eq!(scene.reaches("", bob).await, [false, true, false]);
    let any = Audience {
        roles: vec!["editor".into()],
        ..users(&["alice"])
    };
    assert_eq!(
        scene.reaches("", any).await,
        [true, true, true],
        "any match addresses"
    );
}

#[tokio::test]
async fn audience_narrows_subscribers_of_channel() {
    let mut scene = scene().await;
    assert_eq!(
        scene.reaches("room:1", users(&["alice"])).await,
        [true, false, false]
    );
    assert_eq!(
        scene.reaches("room:1", users(&["alice", "carol"])).await,
        [true, false, false]
    );
    assert_eq!(
        scene.reaches("room:1", roles(&["editor"])).await,
        [false, true, false]
    );
    let carol = Audience {
        connections: vec![scene.carol.id()],
        ..Audience::default()
    };
    assert_eq!(scene.reaches("room:1", carol).await, [false, false, false]);
    assert_eq!(
        scene.reaches("room:1", Audience::default()).await,
        [true, true, false]
    );
}

#[tokio::test]
async fn sender_can_be_excluded() {
    let mut scene = scene().await;
    let except = vec![scene.alice.id()];
    let others = Audience {
        except_connections: except.clone(),
        ..Audience::default()
    };
    assert_eq!(scene.reaches("room:1", others).await, [false, true, false]);
    let both = Audience {
        except_connections: except,
        ..users(&["alice", "bob"])
    };
    assert_eq!(
        scene.reaches("room:1", both.clone()).await,
        [false, true, false]
    );
    assert_eq!(scene.reaches("", both).await, [false, true, false]);
}

#[tokio::test]
async fn event_to_users_has_no_channel() {
    let mut scene = scene().await;
    let request = PublishRequest {
        audience: Some(users(&["alice"])),
        ..event("", "direct", json!({"n": 1}))
    };
    let answer = scene.service.send(request).await;
    assert_eq!(answer.results.len(), 1);
    assert_eq!(answer.results[0].channel, "");
    let got = scene.alice.expect_event("direct").await;
    assert!(got["channel"].is_null() || got["channel"] == "", "{got}");
    assert!(got["offset"].is_null(), "{got}");
    assert_eq!(got["data"], json!({"n": 1}));
}

#[tokio::test]
async fn audience_applies_to_replay_and_history() {
    let mut scene = scene().await;
    let secret = PublishRequest {
        audience: Some(users(&["alice"])),
        ..event("room:1", "secret", json!({}))
    };
    scene.service.send(secret).await;
    scene.service.publish("room:1", "open", json!({})).await;

    let history = json!({"type": "history", "channel": "room:1", "limit": 10});
    let types = |reply: &Value| -> Vec<String> {
        let events = reply["events"].as_array().unwrap();
        events
            .iter()
            .map(|e| e["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(types(&scene.bob.ask(history.clone()).await), ["open"]);
    assert_eq!(types(&scene.alice.ask(history).await), ["secret", "open"]);

    scene
        .carol
        .subscribe_with("room:1", json!({"rewind": 10}))
        .await;
    let open = scene.carol.expect_event("open").await;
    assert_eq!(open["offset"], 2, "offsets jump over what one may not see");
    assert!(
        scene
            .carol
            .unread()
            .all(|m| m["type"] != "secret" && m["type"] != "gap")
    );
}

#[tokio::test]
async fn event_type_roles_limit_receivers() {
    let config = Config::rooms().event_type("audit.entry", r#"roles = ["auditor"]"#);
    let server = Server::start(config).await;
    let mut auditor = server.ws().token("ann", &["auditor"]).connect().await;
    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    auditor.subscribe("room:1").await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "audit.entry", json!({})).await;
    service.publish("room:1", "fence", json!({})).await;
    auditor.expect_event("audit.entry").await;
    let before = alice.until("fence").await;
    assert!(before.is_empty(), "{before:?}");

    let history = json!({"type": "history", "channel": "room:1", "limit": 10});
    let reply = alice.ask(history).await;
    assert!(!reply.to_string().contains("audit.entry"), "{reply}");
    let mut late = server.ws().token("late", &[]).connect().await;
    late.subscribe_with("room:1", json!({"rewind": 10})).await;
    let before = late.until("fence").await;
    assert!(
        before.iter().all(|m| m["type"] != "audit.entry"),
        "{before:?}"
    );
}
