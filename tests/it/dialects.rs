//! Configured dialects: clients of another system work without code for them.

use serde_json::{Value, json};

use crate::harness::{Config, Server, Ws, WsBuilder, event};

/// The dialect of a museum guide's apps. The server has no code for it.
const GUIDE: &str = r#"
[[dialect]]
name = "guide"
paths = ["/guide", "/v2/guide"]

[dialect.event]
data = ""
members = ["type", "offset", "timestamp"]

[dialect.control]
data = "payload"
members = ["type", "timestamp"]
refusals = "error"

[dialect.control.names]
connection_established = ["hello", "welcome"]
subscribed = "entered"
unsubscribed = "left"
published = "told"
heartbeat = []
error = "oops"

[[dialect.command]]
name = "enter"
does = "subscribe"
channels = "room:{hall}"
members = { newest = "rewind" }
echo = ["hall"]

[[dialect.command]]
name = "leave"
does = "unsubscribe"
channels = "room:{hall}"

[[dialect.command]]
name = "tell"
does = "publish"
channels = "room:{hall}"
members = { about = "event_type", what = "data" }

[[dialect.command]]
name = "who"
does = "presence"
channels = "room:{hall}"

[[dialect.command]]
name = "back"
does = "history"
channels = "room:{hall}"

[[dialect.command]]
name = "seen"
does = "heartbeat_response"
"#;

fn guide() -> Config {
    Config::rooms().dialects(GUIDE)
}

fn at(server: &Server, path: &str, user: &str) -> WsBuilder {
    server.ws().token(user, &[]).path(path)
}

/// Connects to an endpoint with the guide's dialect, and reads the welcome messages.
async fn visit(server: &Server, user: &str) -> Ws {
    let mut ws = at(server, "/guide", user)
        .upgrade()
        .await
        .expect("an upgrade");
    let hello = ws.expect("hello").await;
    assert_eq!(hello["payload"]["user"], user, "{hello}");
    assert!(hello["timestamp"].is_string(), "{hello}");
    assert!(hello.get("user").is_none(), "{hello}");
    ws.expect("welcome").await;
    ws
}

async fn enter(ws: &mut Ws, hall: Value) -> Value {
    ws.ask(json!({"type": "enter", "hall": hall})).await
}

#[tokio::test]
async fn configured_dialect_uses_its_own_names() {
    let server = Server::start(guide()).await;
    let (mut ann, mut bob) = (visit(&server, "ann").await, visit(&server, "bob").await);
    let entered = enter(&mut ann, json!(["egypt", 7])).await;
    assert_eq!(entered["type"], "entered");
    assert_eq!(entered["payload"]["hall"], json!(["egypt", 7]), "{entered}");
    let channels = &entered["payload"]["channels"];
    assert_eq!(channels[0]["channel"], "room:egypt");
    assert_eq!(channels[1]["channel"], "room:7");

    let tell = json!({
        "type": "tell", "hall": "egypt", "about": "item.shown",
        "what": {"item": "sphinx", "type": "stone", "offset": "far"},
    });
    let notified = bob.ask(tell).await;
    assert_eq!(notified["type"], "told", "{notified}");
    let shown = ann.expect("item.shown").await;
    assert_eq!(shown["item"], "sphinx", "{shown}");
    assert_eq!(shown["offset"], "far", "the data's own: {shown}");
    assert!(shown["timestamp"].is_string(), "{shown}");
    for absent in ["id", "channel", "data"] {
        assert!(shown.get(absent).is_none(), "{shown}");
    }

    let back = ann
        .ask(json!({"type": "back", "data": {"hall": "egypt"}}))
        .await;
    assert_eq!(back["type"], "history");
    assert_eq!(
        back["payload"]["events"],
        json!([shown]),
        "as in live delivery"
    );
    let who = ann.ask(json!({"type": "who", "hall": "egypt"})).await;
    assert_eq!(who["payload"]["users"][0]["user"], "ann", "{who}");

    let left = ann.ask(json!({"type": "leave", "hall": "egypt"})).await;
    assert_eq!(left["payload"]["channels"], json!(["room:egypt"]), "{left}");
    // Unlisted names stay unchanged.
    assert_eq!(ann.ask(json!({"type": "ping"})).await["type"], "pong");
    ann.send(json!({"type": "seen"})).await;
    assert_eq!(ann.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn dialect_errors_use_client_names() {
    let server = Server::start(guide().namespace("closed", "subscribe = 'false'")).await;
    let mut ann = visit(&server, "ann").await;
    let refused = ann
        .ask(json!({"type": "subscribe", "channels": ["closed:1"]}))
        .await;
    assert_eq!(refused["type"], "oops", "{refused}");
    assert_eq!(refused["payload"]["channel"], "closed:1");
    assert_eq!(refused["payload"]["code"], "permission_denied");
    let missing = ann.ask(json!({"type": "enter"})).await;
    assert_eq!(missing["payload"]["details"]["field"], "hall", "{missing}");
    let wrong = ann
        .ask(json!({"type": "enter", "hall": "x", "newest": "all"}))
        .await;
    assert_eq!(wrong["payload"]["details"]["field"], "newest", "{wrong}");
    assert_eq!(wrong["payload"]["hall"], "x", "echoed: {wrong}");
    let unknown = ann.ask(json!({"type": "fly"})).await;
    assert_eq!(unknown["payload"]["code"], "invalid_argument", "{unknown}");
}

#[tokio::test]
async fn subprotocol_overrides_dialect_of_path() {
    let server = Server::start(guide()).await;
    let mut other = at(&server, "/v2/guide", "ann").upgrade().await.unwrap();
    other.expect("welcome").await;
    let named = at(&server, "/guide", "ann").protocol("tidings.v1.json");
    let mut named = named.connect().await;
    named.lives().await;
    server.ws().token("ann", &[]).connect().await.lives().await;
    assert_eq!(
        at(&server, "/elsewhere", "ann").upgrade().await.err(),
        Some(404)
    );
}

#[tokio::test]
async fn websocket_dialect_sets_default() {
    let config = guide().set("websocket.dialect", "\"guide\"");
    let server = Server::start(config).await;
    let mut ws = server.ws().token("ann", &[]).upgrade().await.unwrap();
    ws.expect("welcome").await;
    let named = server.ws().token("ann", &[]).protocol("tidings.v1.json");
    named.connect().await.lives().await;
}

#[tokio::test]
async fn each_client_gets_events_in_its_dialect() {
    let server = Server::start(guide()).await;
    let mut ann = visit(&server, "ann").await;
    let mut plain = server.ws().token("bob", &[]).connect().await;
    enter(&mut ann, json!("x")).await;
    plain.subscribe("room:x").await;
    let mut publisher = server.publisher("service").await;
    for n in 0..20 {
        publisher.publish("room:x", "a.b", json!({ "n": n })).await;
    }
    for n in 0..20 {
        let flat = ann.expect("a.b").await;
        assert_eq!(flat["n"], n, "{flat}");
        let nested = plain.expect("a.b").await;
        assert_eq!(nested["data"]["n"], n, "{nested}");
    }
}

#[tokio::test]
async fn reload_changes_dialect_of_new_connections_only() {
    let server = Server::start(guide()).await;
    let mut before = visit(&server, "ann").await;
    enter(&mut before, json!("x")).await;
    let mut publisher = server.publisher("service").await;
    publisher.publish("room:x", "a.b", json!({"n": 1})).await;
    assert_eq!(before.expect("a.b").await["n"], 1);

    let changed = GUIDE
        .replace("data = \"\"", "data = \"what\"")
        .replace("/v2/guide", "/v3/guide");
    server.reload(&Config::rooms().dialects(&changed));
    let mut after = loop {
        if let Ok(ws) = at(&server, "/v3/guide", "bob").upgrade().await {
            break ws;
        }
    };
    after.expect("welcome").await;
    let rewound = after
        .ask(json!({"type": "enter", "hall": "x", "newest": 1}))
        .await;
    assert_eq!(rewound["type"], "entered", "{rewound}");
    assert_eq!(
        after.expect("a.b").await["what"],
        json!({"n": 1}),
        "replayed"
    );
    publisher.publish("room:x", "a.b", json!({"n": 2})).await;
    assert_eq!(before.expect("a.b").await["n"], 2);
    assert_eq!(after.expect("a.b").await["what"], json!({"n": 2}));
    assert_eq!(
        at(&server, "/v2/guide", "ann").upgrade().await.err(),
        Some(404)
    );
}

#[tokio::test]
async fn invalid_dialect_is_refused_by_key() {
    let bad = GUIDE.replace("does = \"publish\"", "does = \"pubish\"");
    let (status, reported) = Server::refuses(Config::rooms().dialects(&bad)).await;
    assert!(!status.success());
    let expected = "dialect[0].command[2].does: no such command: expected authenticate,";
    assert!(reported.contains(expected), "{reported}");
}

#[tokio::test]
async fn history_uses_same_event_format_as_live() {
    let server = Server::start(Config::rooms()).await;
    let ws = server.ws().token("ann", &[]).protocol("cloudevents.json");
    let mut ws = ws.connect().await;
    ws.subscribe("room:x").await;
    server
        .publisher("service")
        .await
        .send(event("room:x", "a.b", json!(1)))
        .await;
    let live = ws.expect("a.b").await;
    assert_eq!(live["specversion"], "1.0");
    let page = ws
        .ask(json!({"type": "history", "channel": "room:x"}))
        .await;
    assert_eq!(page["events"], json!([live]));
}
