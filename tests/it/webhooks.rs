//! Webhooks: what the application gets, in which order, and what happens when it does not answer.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{
    Config, Nats, Receiver, Reply, Server, Token, WEBHOOK_SECRET, Ws, eventually, within,
};

fn on_disk(config: Config) -> Config {
    config.set("history.storage", r#""disk""#)
}

async fn user(server: &Server, name: &str) -> Ws {
    server.ws().token(name, &[]).connect().await
}

fn id(ws: &Ws) -> String {
    ws.established["connection_id"].as_str().unwrap().to_owned()
}

async fn unsubscribe(ws: &mut Ws, channel: &str) {
    let reply = ws
        .ask(json!({"type": "unsubscribe", "channels": [channel]}))
        .await;
    assert_eq!(reply["type"], "unsubscribed");
}

/// Waits for a metric of webhooks.
async fn metric(server: &Server, series: &str, at_least: u64) -> u64 {
    let series = format!("tidings_webhooks_{series}");
    eventually(&series, async || {
        Some(server.metric(&series).await).filter(|value| *value >= at_least)
    })
    .await
}

#[tokio::test]
async fn application_is_told_of_connections_channels_and_presence() {
    let app = Receiver::start().await;
    let server = Server::start(Config::rooms().webhook(&app.address, "")).await;
    let mut ann = user(&server, "ann").await;
    let connection = id(&ann);
    ann.subscribe("room:1").await;
    app.event("presence.joined", "room:1").await;
    ann.close().await;
    let vacated = app.event("channel.vacated", "room:1").await;

    let reported = app.reported();
    let of = |subject: &str| -> Vec<String> {
        let reported = reported.iter().filter(|(_, about)| about == subject);
        reported.map(|(kind, _)| kind.clone()).collect()
    };
    assert_eq!(of(&connection), ["connection.opened", "connection.closed"]);
    let channel = of("room:1");
    assert_eq!(channel.len(), 4, "{channel:?}");
    assert_eq!(
        channel.iter().collect::<HashSet<_>>().len(),
        4,
        "{channel:?}"
    );
    assert_eq!(channel[3], "channel.vacated");

    let opened = app.event("connection.opened", &connection).await;
    assert_eq!(opened["specversion"], "1.0");
    assert_eq!(opened["datacontenttype"], "application/json");
    assert!(opened["source"].as_str().unwrap().starts_with("/tidings/"));
    assert_eq!(opened["data"]["connection_id"], *connection);
    assert_eq!(opened["data"]["user"], "ann");
    assert_eq!(opened["data"]["transport"], "websocket");
    let closed = app.event("connection.closed", &connection).await;
    let data = &closed["data"];
    assert_eq!(
        (&data["code"], &data["by"]),
        (&json!(1000), &json!("client"))
    );
    assert!(data["duration_ms"].is_u64() && data["bytes_in"].as_u64() > Some(0));
    assert_eq!(vacated["data"], json!({"channel": "room:1"}));
    let joined = app.event("presence.joined", "room:1").await;
    assert_eq!(joined["data"], json!({"channel": "room:1", "user": "ann"}));

    for request in app.requests() {
        assert!(request.is_signed());
        assert_eq!(
            request.header("content-type"),
            "application/cloudevents-batch+json"
        );
    }
    let url = format!("{{url=\"http://{}/tidings\"}}", app.address);
    metric(&server, &format!("delivered_total{url}"), 6).await;
    metric(&server, r#"sent_total{outcome="delivered"}"#, 1).await;
    assert!(!server.log().contains("hidden") && !server.log().contains(WEBHOOK_SECRET));
}

#[tokio::test]
async fn connection_is_told_once_it_has_authenticated() {
    let app = Receiver::start().await;
    let server = Server::start(Config::rooms().webhook(&app.address, "")).await;
    let silent = server.ws().connect().await;
    let mut late = server.ws().connect().await;
    let token = Token::new("late").sign();
    late.ask(json!({"type": "authenticate", "token": token}))
        .await;
    let opened = app.event("connection.opened", &id(&late)).await;
    assert_eq!(opened["data"]["user"], "late");
    let unknown = id(&silent);
    silent.close().await;
    late.close().await;
    app.event("connection.closed", &id_of(&opened)).await;
    assert!(
        app.reported()
            .iter()
            .all(|(_, subject)| *subject != unknown)
    );
}

fn id_of(event: &Value) -> String {
    event["subject"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn order_holds_through_failures_and_ids_stay_the_same() {
    let app = Receiver::start().await;
    let keys = "retry_pause = \"20ms\"\nbatch_events = 7";
    let server = Server::start(on_disk(Config::rooms().webhook(&app.address, keys))).await;
    let mut replies = Vec::new();
    for round in 0..8 {
        replies.extend([Reply::Status(500 + round), Reply::Status(204)]);
    }
    app.next(&replies);
    let mut connections = Vec::new();
    for round in 0..3 {
        for name in 0..6 {
            let mut ws = user(&server, &format!("user{name}")).await;
            ws.subscribe(&format!("room:{name}")).await;
            connections.push(id(&ws));
            if round < 2 {
                unsubscribe(&mut ws, &format!("room:{name}")).await;
            }
            ws.close().await;
        }
    }
    for connection in &connections {
        app.event("connection.closed", connection).await;
    }
    eventually("the last to leave", async || {
        let reported = app.reported();
        let left = reported.iter().filter(|(kind, _)| kind == "presence.left");
        (left.count() == 18).then_some(())
    })
    .await;
    let mut last: HashMap<(String, String), String> = HashMap::new();
    for (kind, subject) in app.reported() {
        let (group, _) = kind.split_once('.').unwrap();
        let before = last.insert((group.to_owned(), subject), kind.clone());
        assert_ne!(before, Some(kind), "opened and closed alternate");
    }
    // A request that failed is sent again unchanged, with the same ids.
    let requests = app.requests();
    let failed = requests
        .iter()
        .zip(&requests[1..])
        .filter(|(one, _)| matches!(one.reply, Reply::Status(500..)));
    let mut failures = 0;
    for (one, next) in failed {
        failures += 1;
        assert_eq!(one.body, next.body);
        assert_eq!(one.header("webhook-id"), next.header("webhook-id"));
        assert!(one.is_signed() && next.is_signed());
    }
    assert_eq!(failures, 8);
    let ids: Vec<Value> = app
        .events()
        .iter()
        .map(|event| event["id"].clone())
        .collect();
    let distinct: HashSet<String> = ids.iter().map(Value::to_string).collect();
    assert_eq!(ids.len(), distinct.len(), "each was accepted once");
}

#[tokio::test]
async fn queued_events_survive_kill_9() {
    let address = Receiver::later().await;
    let config = on_disk(Config::rooms()).webhook(&address, "retry_pause = \"100ms\"");
    let server = Server::start(config.clone()).await;
    let mut ann = user(&server, "ann").await;
    ann.subscribe("room:1").await;
    let mut bob = user(&server, "bob").await;
    bob.subscribe("room:2").await;
    let (ann, bob_id) = (id(&ann), id(&bob));
    bob.close().await;
    let queued = format!("queued{{url=\"http://{address}/tidings\"}}");
    // Three events of the server's own channels are among them.
    metric(&server, &queued, 13).await;
    let dir = server.kill().await;

    let app = Receiver::start_at(&address).await;
    let server = Server::start_in(dir, config).await;
    // Ann returns; her old connection has ended with the server.
    let mut again = user(&server, "ann").await;
    again.subscribe("room:1").await;
    for connection in [&ann, &bob_id] {
        app.event("connection.opened", connection).await;
    }
    assert_eq!(
        app.event("connection.closed", &bob_id).await["data"]["code"],
        1000
    );
    let ended = app.event("connection.closed", &ann).await;
    assert_eq!(ended["data"]["code"], 1006);
    assert_eq!(ended["data"]["user"], "ann");
    app.event("channel.vacated", "room:2").await;
    let opened = app.event("connection.opened", &id(&again)).await;
    assert_eq!(opened["data"]["user"], "ann");
    let room: Vec<String> = app
        .reported()
        .into_iter()
        .filter(|(_, subject)| subject == "room:1")
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(
        room.iter().collect::<HashSet<_>>().len(),
        room.len(),
        "{room:?}"
    );
    assert!(!room.iter().any(|kind| kind == "channel.vacated"));
}

#[tokio::test]
async fn channel_that_nobody_returns_to_after_a_restart_is_vacated() {
    let app = Receiver::start().await;
    let config = on_disk(Config::rooms()).webhook(&app.address, "");
    let server = Server::start(config.clone()).await;
    let mut ann = user(&server, "ann").await;
    ann.subscribe("room:1").await;
    app.event("presence.joined", "room:1").await;
    let dir = server.kill().await;
    let _server = Server::start_in(dir, config).await;
    let vacated = async {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            let reported = app.reported();
            let has = |kind: &str| reported.iter().any(|(reported, _)| reported == kind);
            if has("channel.vacated") && has("presence.left") {
                return;
            }
            pause.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), vacated)
        .await
        .expect("the channel is vacated after 15 s");
}

#[tokio::test]
async fn channel_occupied_again_within_a_second_is_not_told() {
    let app = Receiver::start().await;
    let server = Server::start(Config::rooms().webhook(&app.address, "")).await;
    let mut ann = user(&server, "ann").await;
    ann.subscribe("plain:1").await;
    for _ in 0..3 {
        unsubscribe(&mut ann, "plain:1").await;
        ann.subscribe("plain:1").await;
    }
    // A webhook has one queue, so a later event arrives later.
    ann.subscribe("plain:2").await;
    app.event("channel.occupied", "plain:2").await;
    unsubscribe(&mut ann, "plain:2").await;
    app.event("channel.vacated", "plain:2").await;
    let first: Vec<_> = app.reported();
    let of_first = first.iter().filter(|(_, subject)| subject == "plain:1");
    assert_eq!(of_first.count(), 1, "{first:?}");
    unsubscribe(&mut ann, "plain:1").await;
    app.event("channel.vacated", "plain:1").await;
}

#[tokio::test]
async fn huge_and_hanging_answers_are_failures_with_their_metric() {
    let app = Receiver::start().await;
    let keys = "timeout = \"300ms\"\nretry_pause = \"20ms\"";
    let server = Server::start(Config::rooms().webhook(&app.address, keys)).await;
    let replies = [
        Reply::Huge,
        Reply::Hang,
        Reply::Status(302),
        Reply::Status(400),
    ];
    app.next(&replies);
    let ann = user(&server, "ann").await;
    app.event("connection.opened", &id(&ann)).await;
    for (outcome, count) in [
        ("too_large", 1),
        ("timeout", 1),
        ("refused", 2),
        ("delivered", 1),
    ] {
        metric(
            &server,
            &format!("sent_total{{outcome=\"{outcome}\"}}"),
            count,
        )
        .await;
    }
    metric(&server, "seconds_count", 5).await;
    assert!(server.log().contains("a webhook works again"));
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let app = Receiver::start().await;
    let keys = "retry_pause = \"10ms\"";
    let server = Server::start(Config::rooms().webhook(&app.address, keys)).await;
    app.next(&[Reply::RetryAfter(503, 1)]);
    let ann = user(&server, "ann").await;
    app.event("connection.opened", &id(&ann)).await;
    let requests = app.requested(2).await;
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_millis(990), "{pause:?}");
}

#[tokio::test]
async fn full_queue_drops_events_and_reports_their_number() {
    let address = Receiver::later().await;
    let keys = "queue_bytes = 65536\nretry_pause = \"50ms\"";
    let server = Server::start(Config::rooms().webhook(&address, keys)).await;
    let url = format!("{{url=\"http://{address}/tidings\"}}");
    let mut ann = user(&server, "ann").await;
    for channel in 0..100 {
        ann.subscribe(&format!("room:{}{channel}", "x".repeat(200)))
            .await;
    }
    let dropped = metric(&server, &format!("dropped_total{url}"), 1).await;
    eventually("the log to name the full queue", async || {
        server
            .log()
            .contains("the queue of a webhook is full")
            .then_some(())
    })
    .await;
    let bytes = server
        .metric(&format!("tidings_webhooks_queued_bytes{url}"))
        .await;
    assert!(bytes <= 65_536, "{bytes}");
    let app = Receiver::start_at(&address).await;
    let report = app.event("webhook.dropped", "queue").await;
    let reported = report["data"]["count"].as_u64().unwrap();
    assert!(reported >= dropped, "{reported} < {dropped}");
    // New events are delivered again.
    let bob = user(&server, "bob").await;
    app.event("connection.opened", &id(&bob)).await;
    assert!(
        app.requests()
            .iter()
            .all(crate::harness::Received::is_signed)
    );
}

#[tokio::test]
async fn stop_sends_what_a_queue_in_memory_holds() {
    let app = Receiver::start().await;
    let server = Server::start(Config::rooms().webhook(&app.address, "")).await;
    let mut ann = user(&server, "ann").await;
    ann.subscribe("room:1").await;
    app.event("presence.joined", "room:1").await;
    let stopped = within("the stop", server.stop());
    tokio::join!(stopped, ann.expect_close(1012));
    let reported = app.reported();
    let kinds: HashSet<&str> = reported.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in ["connection.closed", "presence.left", "channel.vacated"] {
        assert!(kinds.contains(kind), "{kind}: {reported:?}");
    }
}

#[tokio::test]
async fn dead_letters_are_kept_shown_and_sent_again() {
    let app = Receiver::start().await;
    app.always(Reply::Status(500));
    let keys = "events = [\"connection.opened\"]\nretry_for = \"1s\"\nretry_pause = \"100ms\"";
    let config = on_disk(Config::rooms())
        .webhook(&app.address, keys)
        .set("audit.file", "\"audit.log\"");
    let server = Server::start(config.clone()).await;
    let ann = user(&server, "ann").await;
    let url = format!("http://{}/tidings", app.address);
    let dead = format!("dead_letters{{url=\"{url}\"}}");
    metric(&server, &dead, 1).await;
    metric(&server, &format!("dead_lettered_total{{url=\"{url}\"}}"), 1).await;
    assert!(server.log().contains("they are dead letters"));
    // They survive a crash.
    let server = Server::start_in(server.kill().await, config).await;
    metric(&server, &dead, 1).await;
    app.always(Reply::Status(200));
    assert!(app.events().is_empty());

    let listed = server
        .cli_as(
            &Token::new("admin").roles(&["viewer"]),
            &["webhooks", "--json"],
        )
        .run()
        .await
        .exits(0)
        .json();
    assert_eq!(listed["url"], *url);
    assert_eq!(listed["dead_letters"], 1);
    let shown = server
        .cli_as(&Token::new("admin").roles(&["admin"]), &["webhooks"])
        .run()
        .await
        .exits(0);
    assert!(shown.stdout.contains("DEAD LETTERS") && shown.stdout.contains(&url));
    server
        .cli_as(
            &Token::new("eve").roles(&["viewer"]),
            &["webhooks", "--resend"],
        )
        .run()
        .await
        .exits(1);
    let resent = server
        .cli_as(
            &Token::new("ops").roles(&["admin"]),
            &["webhooks", "--resend", "--url", &url],
        )
        .run()
        .await
        .exits(0);
    assert_eq!(resent.stdout, "1 event queued again\n");
    app.event("connection.opened", &id(&ann)).await;
    let audit = std::fs::read_to_string(server.path("audit.log")).unwrap();
    let audited = audit.lines().find(|line| line.contains("resend_webhooks"));
    assert!(
        audited.is_some_and(|line| line.contains("\"ops\"")),
        "{audit}"
    );
}

#[tokio::test]
async fn gone_stops_a_webhook_until_it_is_resent() {
    let app = Receiver::start().await;
    app.always(Reply::Status(410));
    let keys = "events = [\"connection.opened\"]";
    let server = Server::start(Config::rooms().webhook(&app.address, keys)).await;
    let ann = user(&server, "ann").await;
    let admin = Token::new("ops").roles(&["admin"]).sign();
    let bearer = format!("Bearer {admin}");
    let headers = [("authorization", bearer.as_str())];
    let webhook = eventually("the webhook to stop", async || {
        let answer = server
            .http(Method::GET, "/api/v1/webhooks", &headers, "")
            .await;
        let webhook = answer.json()["webhooks"][0].clone();
        (webhook["state"] == "stopped").then_some(webhook)
    })
    .await;
    assert_eq!(webhook["dead_letters"], 1);
    assert_eq!(webhook["last_error"], "the application answered 410");
    let bob = user(&server, "bob").await;
    let url = webhook["url"].as_str().unwrap().to_owned();
    metric(&server, &format!("dropped_total{{url=\"{url}\"}}"), 1).await;
    assert_eq!(app.requests().len(), 1);
    app.always(Reply::Status(204));
    let unknown = server
        .http(
            Method::POST,
            "/api/v1/webhooks/resend?url=http://other/",
            &headers,
            "",
        )
        .await;
    assert_eq!(unknown.status, 404);
    let resent = server
        .http(Method::POST, "/api/v1/webhooks/resend", &headers, "")
        .await;
    assert_eq!(resent.json(), json!({"resent": 1}));
    app.event("connection.opened", &id(&ann)).await;
    let bob = id(&bob);
    let eve = user(&server, "eve").await;
    app.event("connection.opened", &id(&eve)).await;
    assert!(app.reported().iter().all(|(_, subject)| *subject != bob));
}

#[tokio::test]
async fn invalid_webhook_refuses_the_start() {
    let config = Config::rooms()
        .dialects("[[webhook]]\nurl = \"http://127.0.0.1:1/\"\nsecret = \"hunter2-hunter2\"\n");
    let (status, says) = Server::refuses(config).await;
    assert!(!status.success());
    assert!(
        says.contains("webhook[0].secret") && !says.contains("hunter2"),
        "{says}"
    );
}

#[tokio::test]
async fn cluster_reports_a_channel_once() {
    let nats = Nats::start().await;
    let app = Receiver::start().await;
    let config = nats.join(Config::rooms().webhook(&app.address, ""));
    let one = Server::start(config.clone()).await;
    eventually("the first node to report", async || {
        one.log()
            .contains("this node reports channels")
            .then_some(())
    })
    .await;
    let two = Server::start(config).await;
    let mut ann = user(&one, "ann").await;
    ann.subscribe("plain:1").await;
    app.event("channel.occupied", "plain:1").await;
    let mut bob = user(&two, "bob").await;
    bob.subscribe("plain:1").await;
    bob.subscribe("room:2").await;
    // The first node learns from the second that this channel is occupied.
    app.event("channel.occupied", "room:2").await;
    app.event("presence.joined", "room:2").await;
    unsubscribe(&mut ann, "plain:1").await;
    unsubscribe(&mut bob, "room:2").await;
    app.event("channel.vacated", "room:2").await;
    let about = |subject: &str| -> Vec<String> {
        let reported = app.reported().into_iter();
        let reported = reported.filter(|(_, about)| about == subject);
        reported.map(|(kind, _)| kind).collect()
    };
    assert_eq!(about("plain:1"), ["channel.occupied"]);
    assert_eq!(about("room:2").len(), 4, "{:?}", about("room:2"));
    app.event("connection.opened", &id(&bob)).await;
    // The node that reports is killed: the other one reports what happens from then on.
    drop(one.kill().await);
    eventually("the second node to report", async || {
        two.log()
            .contains("this node reports channels")
            .then_some(())
    })
    .await;
    unsubscribe(&mut bob, "plain:1").await;
    app.event("channel.vacated", "plain:1").await;
}
