//! Durable subscriptions: a user resumes behind what it has acknowledged, on any device.

use serde_json::{Value, json};
use tidings::proto::{AckRequest, GetCursorsRequest, PurgeHistoryRequest};

use crate::harness::{Config, Publisher, Server, Token, Ws, eventually};

fn config() -> Config {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'";
    Config::new()
        .namespace("room", keys)
        .set("history.storage", r#""disk""#)
}

async fn phone(server: &Server) -> Ws {
    server.ws().token("ann", &[]).connect().await
}

async fn resume(ws: &mut Ws) -> Value {
    ws.subscribe_with("room:1", json!({"durable": "inbox"}))
        .await
}

async fn ack(ws: &mut Ws, offset: u64) {
    ws.send(json!({"type": "ack", "channel": "room:1", "durable": "inbox", "offset": offset}))
        .await;
    // It has no reply.
    ws.lives().await;
}

async fn cursors(service: &mut Publisher, request: GetCursorsRequest) -> Vec<(String, u64)> {
    let found = service
        .events
        .get_cursors(request)
        .await
        .unwrap()
        .into_inner();
    let offset = |position: Option<tidings::proto::Position>| position.unwrap().offset;
    let found = found.cursors.into_iter();
    found
        .map(|cursor| (cursor.user, offset(cursor.position)))
        .collect()
}

#[tokio::test]
async fn phone_resumes_behind_its_cursor_through_kill_9() {
    let server = Server::start(config()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=2).await;
    let mut ann = phone(&server).await;
    let first = resume(&mut ann).await;
    assert_eq!(
        (&first["cursor"], &first["replayed"]),
        (&json!(2), &json!(0))
    );
    service.count("room:1", "count.up", 3..=6).await;
    assert_eq!(ann.numbers("count.up", 4).await, [3, 4, 5, 6]);
    ack(&mut ann, 4).await;
    ann.close().await;
    service.count("room:1", "count.up", 7..=8).await;
    // The cursor is written with the event that is acknowledged after it.
    let dir = server.kill().await;

    let server = Server::start_in(dir, config()).await;
    let mut other = phone(&server).await;
    let back = resume(&mut other).await;
    assert_eq!(
        (&back["cursor"], &back["recovered"]),
        (&json!(4), &json!(true))
    );
    assert_eq!(other.numbers("count.up", 4).await, [5, 6, 7, 8]);
    ack(&mut other, 8).await;
    // An acknowledgement never moves a cursor back.
    ack(&mut other, 5).await;
    other.close().await;
    let mut again = phone(&server).await;
    let again = resume(&mut again).await;
    assert_eq!(
        (&again["cursor"], &again["replayed"]),
        (&json!(8), &json!(0))
    );
}

#[tokio::test]
async fn cursors_are_listed_and_purged_with_their_user() {
    let server = Server::start(config()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    for user in ["ann", "bob"] {
        let mut ws = server.ws().token(user, &[]).connect().await;
        resume(&mut ws).await;
    }
    let by_grpc = AckRequest {
        channel: "room:1".to_owned(),
        durable: "inbox".to_owned(),
        offset: 2,
        user: "zoe".to_owned(),
    };
    service.events.ack(by_grpc.clone()).await.unwrap();
    let all = GetCursorsRequest {
        channel: "room:1".to_owned(),
        ..GetCursorsRequest::default()
    };
    let of = |user: &str, offset| (user.to_owned(), offset);
    let found = cursors(&mut service, all.clone()).await;
    assert_eq!(found, [of("ann", 3), of("bob", 3), of("zoe", 2)]);
    let page = GetCursorsRequest {
        page_size: 2,
        ..all.clone()
    };
    let page = service.events.get_cursors(page).await.unwrap().into_inner();
    let rest = GetCursorsRequest {
        page_token: page.next_page_token,
        ..all.clone()
    };
    assert_eq!(cursors(&mut service, rest).await, [of("zoe", 2)]);
    assert_eq!(server.metric("tidings_cursors").await, 3);
    let beyond = AckRequest {
        offset: 9,
        ..by_grpc
    };
    let beyond = service.events.ack(beyond).await.unwrap_err();
    assert_eq!(beyond.code(), tonic::Code::OutOfRange, "{beyond}");
    let purge = PurgeHistoryRequest {
        channel: "room:1".to_owned(),
        user: "ann".to_owned(),
        ..PurgeHistoryRequest::default()
    };
    service.events.purge_history(purge).await.unwrap();
    let found = cursors(&mut service, all.clone()).await;
    assert_eq!(found, [of("bob", 3), of("zoe", 2)]);
    let mut eve = server.publisher_as(&Token::new("eve")).await;
    let denied = eve.events.get_cursors(all).await.unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn cursors_of_one_user_are_bounded() {
    let server = Server::start(config().set("limits.cursors_per_user", "2")).await;
    let mut ann = phone(&server).await;
    let all = json!({"type": "subscribe", "channels": ["room:1", "room:2", "room:3"],
                     "durable": "inbox"});
    let reply = ann.ask(all).await;
    assert_eq!(reply["channels"].as_array().unwrap().len(), 2, "{reply}");
    assert_eq!(reply["errors"][0]["code"], "resource_exhausted", "{reply}");
}

#[tokio::test]
async fn cursor_lives_as_long_as_history_in_memory() {
    let server = Server::start(config().set("history.storage", r#""memory""#)).await;
    let mut service = server.publisher("service").await;
    let mut ann = phone(&server).await;
    resume(&mut ann).await;
    service.count("room:1", "count.up", 1..=3).await;
    assert_eq!(ann.numbers("count.up", 3).await, [1, 2, 3]);
    ack(&mut ann, 2).await;
    ann.close().await;
    let mut other = phone(&server).await;
    let back = resume(&mut other).await;
    assert_eq!(
        (&back["cursor"], &back["recovered"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(other.numbers("count.up", 1).await, [3]);
}

#[tokio::test]
async fn acknowledgement_needs_the_durable_subscription() {
    let server = Server::start(config()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    // The refusal does not tell where the channel stands, and creates nothing.
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let channels = server.metric("tidings_channels").await;
    for channel in ["room:1", "room:2"] {
        let unknown =
            json!({"type": "ack", "id": 7, "channel": channel, "durable": "inbox", "offset": 99});
        let error = eve.refused(unknown, "failed_precondition").await;
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("inbox") && !text.contains('3'), "{text}");
    }
    assert_eq!(server.metric("tidings_channels").await, channels);
    assert_eq!(server.metric("tidings_cursors").await, 0);
}

#[tokio::test]
async fn wrong_durable_subscriptions_are_refused() {
    let server = Server::start(config()).await;
    let mut ann = phone(&server).await;
    let wrong = json!({"type": "subscribe", "channels": ["room:1"], "durable": "in box"});
    ann.refused(wrong, "invalid_argument").await;
    let pattern = json!({"type": "subscribe", "channels": ["room:*"], "durable": "inbox"});
    let reply = ann.ask(pattern).await;
    assert_eq!(reply["channels"], json!([]), "{reply}");
    resume(&mut ann).await;
    let beyond =
        json!({"type": "ack", "id": 7, "channel": "room:1", "durable": "inbox", "offset": 9});
    ann.refused(beyond, "out_of_range").await;
}

#[tokio::test]
async fn unused_cursor_ends_with_its_ttl() {
    let server = Server::start(config().set("history.cursor_ttl", r#""1s""#)).await;
    let mut ann = phone(&server).await;
    resume(&mut ann).await;
    assert_eq!(server.metric("tidings_cursors").await, 1);
    eventually("the cursor to be swept", async || {
        (server.metric("tidings_cursors").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn lost_cursor_is_not_reported_as_recovered() {
    let server = Server::start(config()).await;
    let mut service = server.publisher("service").await;
    let mut ann = phone(&server).await;
    let first = resume(&mut ann).await;
    assert_eq!(
        first["recovered"], false,
        "nothing is known of the time before"
    );
    service.count("room:1", "count.up", 1..=3).await;
    assert_eq!(ann.numbers("count.up", 3).await, [1, 2, 3]);
    ann.close().await;
    let purge = PurgeHistoryRequest {
        channel: "room:1".to_owned(),
        user: "ann".to_owned(),
        ..PurgeHistoryRequest::default()
    };
    service.events.purge_history(purge).await.unwrap();
    let mut ann = phone(&server).await;
    let back = resume(&mut ann).await;
    assert_eq!(
        (&back["recovered"], &back["cursor"]),
        (&json!(false), &json!(3))
    );
}
