//! Events that the application publishes in its own transactions, through a real PostgreSQL.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{Config, Nats, Postgres, Redis, Server, Token, eventually, within};

const PUBLISH: &str = "SELECT tidings_publish($1, 'count.up', jsonb_build_object('n', $2::bigint))";
const EVENTS: &str = "tidings_source_events_total{source=\"orders\"}";
const DUPLICATES: &str = "tidings_source_duplicates_total{source=\"orders\"}";
const CONNECTED: &str = "tidings_source_connected{source=\"orders\"}";
const FAILURES: &str = "tidings_source_failures_total{source=\"orders\"}";

async fn emptied(client: &Client) {
    eventually("the acknowledged rows to go", async || {
        (Postgres::rows(client).await == 0).then_some(())
    })
    .await;
}

async fn connected(server: &Server) {
    eventually("the source to be connected", async || {
        (server.metric(CONNECTED).await == 1).then_some(())
    })
    .await;
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test]
async fn concurrent_transactions_are_delivered_in_commit_order() {
    const WRITERS: i64 = 4;
    const EACH: i64 = 30;
    let postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let admin = postgres.client().await;
    admin
        .batch_execute("CREATE TABLE log (n bigint)")
        .await
        .unwrap();
    let writer = async |writer: i64| {
        let mut client = postgres.client().await;
        for turn in 0..EACH {
            let n = writer * EACH + turn;
            let transaction = client.transaction().await.unwrap();
            // Other channels, and sequence numbers, are not taken in the order of the commits.
            let other = format!("plain:{writer}");
            transaction.query_one(PUBLISH, &[&other, &n]).await.unwrap();
            transaction
                .query_one(PUBLISH, &[&"room:1", &n])
                .await
                .unwrap();
            transaction
                .execute("INSERT INTO log VALUES ($1)", &[&n])
                .await
                .unwrap();
            let pause = format!("SELECT pg_sleep(0.001 * {})", (n * 7) % 5);
            transaction.batch_execute(&pause).await.unwrap();
            if turn % 5 == 4 {
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
            }
        }
    };
    tokio::join!(writer(0), writer(1), writer(2), writer(3));
    let rows = admin
        .query(
            "SELECT n FROM log ORDER BY pg_xact_commit_timestamp(xmin)",
            &[],
        )
        .await
        .unwrap();
    let committed: Vec<u64> = rows
        .iter()
        .map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap())
        .collect();
    let expected = usize::try_from(WRITERS * EACH * 4 / 5).unwrap();
    assert_eq!(committed.len(), expected);
    assert_eq!(ws.numbers("count.up", expected).await, committed);
    emptied(&admin).await;
    // Of both channels, and nothing of what was rolled back.
    assert_eq!(
        server.metric(EVENTS).await,
        2 * u64::try_from(expected).unwrap()
    );
}

#[tokio::test]
async fn rolled_back_event_is_never_seen() {
    let postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut client = postgres.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction
        .query_one(PUBLISH, &[&"room:1", &1_i64])
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .query_one(PUBLISH, &[&"room:1", &2_i64])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let event = ws.expect_event("count.up").await;
    assert_eq!(
        (&event["data"]["n"], &event["offset"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        event["source"],
        Value::Null,
        "only with a dialect that shows it"
    );
}

#[tokio::test]
async fn sleeping_source_is_woken_by_the_commit() {
    let postgres = Postgres::start().await;
    let keys = format!(
        "kind = \"postgres\"\npoll = \"1h\"\nurl = {:?}",
        postgres.url()
    );
    let server = Server::start(Config::rooms().source("orders", &keys)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    connected(&server).await;
    let mut client = postgres.client().await;
    within("twenty events without a poll", async {
        for n in 1..=20 {
            Postgres::count(&client, "room:1", n..=n).await;
            let n = u64::try_from(n).unwrap();
            assert_eq!(ws.numbers("count.up", 1).await, [n]);
        }
    })
    .await;
    // A transaction that stays open holds up neither other channels nor the reader.
    let other = postgres.client().await;
    let open = client.transaction().await.unwrap();
    open.query_one(PUBLISH, &[&"room:9", &1_i64]).await.unwrap();
    for n in 21..=30 {
        Postgres::count(&other, "room:1", n..=n).await;
        let n = u64::try_from(n).unwrap();
        assert_eq!(ws.numbers("count.up", 1).await, [n]);
    }
    ws.subscribe("room:9").await;
    open.commit().await.unwrap();
    assert_eq!(ws.expect_event("count.up").await["channel"], "room:9");
}

#[tokio::test]
async fn kill_between_publish_and_acknowledgement_repeats_nothing() {
    let postgres = Postgres::start().await;
    let config = || {
        postgres
            .source(Config::rooms())
            .set("history.storage", r#""disk""#)
            .set("history.path", r#""store""#)
    };
    let (mut holder, client) = (postgres.client().await, postgres.client().await);
    Postgres::count(&client, "room:1", 1..=50).await;
    // Rows can be read and not deleted.
    let lock = holder.transaction().await.unwrap();
    let rows = "SELECT FROM tidings_outbox FOR UPDATE";
    assert_eq!(lock.query(rows, &[]).await.unwrap().len(), 50);
    let server = Server::start(config()).await;
    eventually("all events to be published", async || {
        (server.metric(EVENTS).await == 50).then_some(())
    })
    .await;
    let dir = server.kill().await;
    // The server process of the connection still waits to delete: it must not go on.
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'tidings'";
    client.query(ended, &[]).await.unwrap();
    lock.commit().await.unwrap();
    assert_eq!(Postgres::rows(&client).await, 50);
    let server = Server::start_in(dir, config()).await;
    emptied(&client).await;
    assert_eq!(server.metric(DUPLICATES).await, 50);
    Postgres::count(&client, "room:1", 51..=51).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 100})).await;
    assert_eq!(ws.numbers("count.up", 51).await, numbers(1..=51));
}

#[tokio::test]
async fn killed_database_loses_and_repeats_nothing() {
    let mut postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 1..=40).await;
    postgres.kill().await;
    postgres.launch().await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 41..=80).await;
    assert_eq!(ws.numbers("count.up", 80).await, numbers(1..=80));
    emptied(&client).await;
    assert!(server.metric(FAILURES).await >= 1);
    assert_eq!(server.get_as(&Token::new("a"), "/readyz").await.status, 200);
}

#[tokio::test]
async fn cut_connection_is_made_again() {
    let postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    connected(&server).await;
    let client = postgres.client().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'tidings'";
    assert_eq!(client.query(cut, &[]).await.unwrap().len(), 1);
    Postgres::count(&client, "room:1", 1..=5).await;
    assert_eq!(ws.numbers("count.up", 5).await, numbers(1..=5));
    assert_eq!(server.metric(FAILURES).await, 1);
}

#[tokio::test]
async fn two_nodes_share_the_rows_and_keep_each_channels_order() {
    let postgres = Postgres::start().await;
    let nodes = [
        Server::start(postgres.source(Config::rooms())).await,
        Server::start(postgres.source(Config::rooms())).await,
    ];
    let client = postgres.client().await;
    let mut written: i64 = 0;
    // Until the channels are shared out.
    eventually("both nodes to read", async || {
        written += 1;
        for room in 0..40 {
            Postgres::count(&client, &format!("room:{room}"), written..=written).await;
        }
        let [a, b] = &nodes;
        (a.metric(EVENTS).await >= 100 && b.metric(EVENTS).await >= 100).then_some(())
    })
    .await;
    emptied(&client).await;
    let [a, b] = &nodes;
    let published = a.metric(EVENTS).await + b.metric(EVENTS).await;
    assert_eq!(published, u64::try_from(40 * written).unwrap());
    // Each node has a part of a channel's events, in order, and no event is on both.
    let mut parts = Vec::new();
    for node in &nodes {
        let path = "/api/v1/channels/room:7/history?limit=1000";
        let page = node
            .get_as(&Token::new("s").roles(&["service"]), path)
            .await
            .json();
        let events = page["events"].as_array().unwrap().clone();
        let part: Vec<u64> = events
            .iter()
            .map(|e| e["data"]["n"].as_u64().unwrap())
            .collect();
        assert!(part.is_sorted(), "{part:?}");
        parts.extend(part);
    }
    parts.sort_unstable();
    assert_eq!(parts, numbers(1..=u64::try_from(written).unwrap()));
}

#[tokio::test]
async fn bad_rows_become_dead_letters_and_hold_up_nothing() {
    let postgres = Postgres::start().await;
    let config = postgres
        .source(Config::rooms())
        .set("limits.event_bytes", "1000")
        .set("catalog.mode", r#""known""#)
        .event_type("order.paid", "namespace = \"plain\"");
    let server = Server::start(config).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 1..=1).await;
    for bad in [
        "'a channel', 'a.b', '1'",
        "'room:1', '9', '1'",
        "'room:1', 'a.b', to_jsonb(repeat('x', 1001))",
        "'room:1', 'a.b', '1', headers => '{\"a\": 1}'",
        "'room:1', 'a.b', '1', repeat('k', 300)",
        "'room:1', 'order.paid', '1'",
        "repeat('x', 100000), 'a.b', '1'",
    ] {
        let sql = format!("SELECT tidings_publish({bad})");
        client.query_one(&sql, &[]).await.unwrap();
    }
    Postgres::count(&client, "room:1", 2..=2).await;
    assert_eq!(ws.numbers("count.up", 2).await, [1, 2]);
    emptied(&client).await;
    let sql = "SELECT reason FROM tidings_dead_letters ORDER BY id";
    let rows = client.query(sql, &[]).await.unwrap();
    let reasons: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let fields = [
        "channel",
        "type",
        "data",
        "headers",
        "idempotency_key",
        "type",
        "channel",
    ];
    assert_eq!(reasons.len(), fields.len(), "{reasons:?}");
    for (reason, field) in reasons.iter().zip(fields) {
        assert!(reason.starts_with(field), "{field}: {reasons:?}");
    }
    // The same for operators, over each interface.
    let viewer = Token::new("vera").roles(&["viewer"]);
    let answer = server.get_as(&viewer, "/api/v1/sources").await.json();
    let source = &answer["sources"][0];
    assert_eq!(
        (&source["name"], &source["kind"], &source["connected"]),
        (&json!("orders"), &json!("postgres"), &json!(true))
    );
    assert_eq!(
        (&source["events"], &source["dead_letters"]),
        (&json!(2), &json!(7))
    );
    let letters = source["recent_dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 7);
    assert_eq!(letters[6]["channel"], "a channel");
    assert!(
        !source["server"].as_str().unwrap().contains('@'),
        "{source}"
    );
    let mut admin = server.admin().await;
    let listed = within(
        "the sources",
        admin.list_sources(tidings::proto::ListSourcesRequest {}),
    );
    let listed = listed.await.unwrap().into_inner();
    assert_eq!(listed.sources[0].dead_letters, 7);
    let shown = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    let document = std::fs::read_to_string("docs/reference/metrics.md").unwrap();
    let rows = document.lines();
    let rows = rows.filter(|line| line.starts_with("| `tidings_source_"));
    let names: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in names {
        assert!(shown.text().contains(&format!("\n{name}")), "{name}");
    }
    let service = Token::new("s").roles(&["service"]);
    server
        .get_as(&service, "/api/v1/sources")
        .await
        .assert_problem(403);
}

#[tokio::test]
async fn idempotency_key_of_the_application_drops_its_repeat() {
    let postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let client = postgres.client().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for _ in 0..2 {
        let headers = json!({"a": "b", "traceparent": trace}).to_string();
        let sql = "SELECT tidings_publish('room:1', 'count.up', '{\"n\": 1}', 'order-7', $1::text::jsonb)";
        client.query_one(sql, &[&headers]).await.unwrap();
    }
    Postgres::count(&client, "room:1", 2..=2).await;
    let event = ws.expect_event("count.up").await;
    assert_eq!(
        (&event["data"]["n"], &event["headers"]),
        (&json!(1), &json!({"a": "b"}))
    );
    assert!(
        event["traceparent"]
            .as_str()
            .unwrap()
            .contains("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(ws.numbers("count.up", 1).await, [2]);
    assert_eq!(server.metric(DUPLICATES).await, 1);
}

#[tokio::test]
async fn server_starts_without_its_database_and_connects_later() {
    let mut postgres = Postgres::start().await;
    Postgres::count(&postgres.client().await, "room:1", 1..=3).await;
    postgres.kill().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    eventually("a failed attempt", async || {
        (server.metric(FAILURES).await >= 1).then_some(())
    })
    .await;
    assert_eq!(server.get_as(&Token::new("a"), "/readyz").await.status, 200);
    assert_eq!(server.metric(CONNECTED).await, 0);
    postgres.launch().await;
    assert_eq!(ws.numbers("count.up", 3).await, [1, 2, 3]);
    connected(&server).await;
}

#[tokio::test]
async fn missing_migration_is_named() {
    let postgres = Postgres::start().await;
    let client = postgres.client().await;
    client
        .batch_execute("DROP TABLE tidings_outbox")
        .await
        .unwrap();
    let server = Server::start(postgres.source(Config::rooms())).await;
    eventually("the log to say what is missing", async || {
        server
            .log()
            .contains("tidings source sql postgres")
            .then_some(())
    })
    .await;
    assert!(!server.log().contains("postgres@"), "{}", server.log());
}

#[tokio::test]
async fn reload_starts_and_ends_sources() {
    let postgres = Postgres::start().await;
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 1..=2).await;
    let ports = |config: Config| {
        config
            .set("public.listen", &format!("{:?}", server.public))
            .set("internal.listen", &format!("{:?}", server.internal))
    };
    server.reload(&ports(postgres.source(Config::rooms())));
    assert_eq!(ws.numbers("count.up", 2).await, [1, 2]);
    emptied(&client).await;
    server.reload(&ports(Config::rooms()));
    eventually("the source to end", async || {
        let sql = "SELECT FROM pg_stat_activity WHERE application_name = 'tidings'";
        client
            .query(sql, &[])
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    let answer = server.http(Method::GET, "/api/v1/sources", &[], "").await;
    answer.assert_problem(401);
}

#[tokio::test]
async fn stop_acknowledges_what_was_published() {
    let postgres = Postgres::start().await;
    let server = Server::start(postgres.source(Config::rooms())).await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 1..=20).await;
    eventually("the events", async || {
        (server.metric(EVENTS).await == 20).then_some(())
    })
    .await;
    let stopping = tokio::time::timeout(Duration::from_secs(9), server.stop());
    drop(stopping.await.expect("a clean stop"));
    assert_eq!(Postgres::rows(&client).await, 0);
}

#[tokio::test]
async fn rows_wait_while_the_engine_is_away() {
    let (postgres, mut nats) = tokio::join!(Postgres::start(), Nats::start());
    let server = Server::start(nats.join(postgres.source(Config::rooms()))).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let client = postgres.client().await;
    Postgres::count(&client, "room:1", 1..=10).await;
    assert_eq!(ws.numbers("count.up", 10).await, numbers(1..=10));
    nats.kill();
    Postgres::count(&client, "room:1", 11..=40).await;
    eventually("a refused publish", async || {
        (server.metric(FAILURES).await >= 1).then_some(())
    })
    .await;
    nats.restart().await;
    assert_eq!(ws.numbers("count.up", 30).await, numbers(11..=40));
    emptied(&client).await;
    // The outcome of a publish may have been unknown: its repeat was dropped, and none is a dead letter.
    let dead = "tidings_source_dead_letters_total{source=\"orders\"}";
    assert_eq!(server.metric(dead).await, 0);
}

#[tokio::test]
async fn other_node_takes_over_from_a_killed_one() {
    let (postgres, redis) = tokio::join!(Postgres::start(), Redis::start());
    let config = || {
        postgres
            .source(Config::rooms())
            .set("cluster.engine", r#""redis""#)
            .set("cluster.redis.urls", &format!("[{:?}]", redis.url()))
    };
    let (a, b) = tokio::join!(Server::start(config()), Server::start(config()));
    let mut ws = b.ws().token("alice", &[]).connect().await;
    for room in 0..8 {
        ws.subscribe(&format!("room:{room}")).await;
    }
    let client = postgres.client().await;
    for n in 1..=30 {
        for room in 0..8 {
            Postgres::count(&client, &format!("room:{room}"), n..=n).await;
        }
        if n == 15 {
            a.signal("KILL");
        }
    }
    let mut seen = vec![Vec::new(); 8];
    for _ in 0..8 * 30 {
        let event = ws.expect_event("count.up").await;
        let room = event["channel"]
            .as_str()
            .unwrap()
            .trim_start_matches("room:");
        let room: usize = room.parse().unwrap();
        seen[room].push(event["data"]["n"].as_u64().unwrap());
    }
    for events in seen {
        assert_eq!(events, numbers(1..=30));
    }
    emptied(&client).await;
}
