//! Socket.IO clients that violate the protocol or disappear.

use std::fs;

use crate::harness::socketio::connect_packet;
use crate::harness::{Config, Server, Token, eventually, raw_request, within};

const CONNECTIONS: &str = r#"tidings_connections{transport="socketio"}"#;
const SESSIONS: &str = "tidings_polling_sessions";

/// Waits until the server holds no state of any client.
async fn all_gone(server: &Server) {
    eventually("nothing is left", async || {
        let left = server.metric(CONNECTIONS).await + server.metric(SESSIONS).await;
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn concurrent_second_poll_ends_connection() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    let second = eventually("one poll to find the other", async || {
        // The order of the two is not defined. Each gets a response.
        let (one, other) = tokio::join!(client.get(), client.get());
        let mut answers = [one, other];
        answers.sort_by_key(|answer| answer.status);
        let [one, other] = answers;
        (other.status == 400).then_some((one, other))
    })
    .await;
    let (first, second) = second;
    assert_eq!((first.status, first.text()), (200, "1"));
    assert_eq!(second.json()["code"], 3);
    assert_eq!(client.get().await.status, 400);
    all_gone(&server).await;
}

#[tokio::test]
async fn invalid_payload_ends_connection() {
    let server = Server::start(Config::socketio()).await;
    for wrong in ["abc", "", "4\u{1e}", "0{}", "\u{1e}2", "9"] {
        let client = server.polling().await;
        client.connect(&Token::new("ada")).await;
        let answer = client.post(wrong).await;
        assert_eq!(answer.status, 400, "{wrong:?}");
        let poll = client.get().await;
        let over = poll.status == 400 || poll.text() == "1";
        assert!(over, "{wrong:?}: {poll:?}");
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn malformed_packets_end_connection() {
    let server = Server::start(Config::socketio()).await;
    for wrong in [
        "4", "49", "42{}", "42[]", "42[7]", "42[\"a\"", "451[]", "x", "",
    ] {
        let mut client = server.socketio(&Token::new("ada")).await;
        client.send(wrong).await;
        assert_eq!(client.closed().await.0, Some(1002), "{wrong:?}");
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn binary_data_is_refused_and_connection_stays() {
    let server = Server::start(Config::socketio()).await;
    let mut client = server.socketio(&Token::new("ada")).await;
    client
        .send(r#"451-7["publish",{"_placeholder":true,"num":0}]"#)
        .await;
    client.send_binary(&[1, 2, 3]).await;
    let refusal = client.text().await;
    assert!(refusal.starts_with("437[{"), "{refusal}");
    assert!(refusal.contains("binary"), "{refusal}");
    let polling = server.polling().await;
    polling.connect(&Token::new("ada")).await;
    let packets = [r#"451-["publish",{"_placeholder":true,"num":0}]"#, "bAQID"];
    polling.send(&packets).await;
    let reported = polling.until("42[\"error\"").await;
    assert!(reported.contains("invalid_argument"), "{reported}");
    client.send(r#"428["ping"]"#).await;
    client.until("438[").await;
}

#[tokio::test]
async fn oversized_payload_is_refused() {
    let config = Config::socketio().set("limits.message_bytes", "1000");
    let server = Server::start(config).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    let long = format!(r#"420["ping",{{"x":"{}"}}]"#, "x".repeat(1000));
    assert_eq!(client.post(&long).await.status, 413);
    let mut direct = server.socketio(&Token::new("ada")).await;
    direct.send(&long).await;
    assert_eq!(direct.closed().await.0, Some(1009));
    all_gone(&server).await;
}

#[tokio::test]
async fn concurrent_second_post_ends_connection() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    let slow = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: {}\r\n\
         Content-Length: 9\r\nConnection: close\r\n\r\n3",
        client.sid, server.public
    );
    // Its body never arrives completely.
    let held = raw_request(&server.public, &slow);
    let other = eventually("the other to be refused", async || {
        let answer = client.post("3").await;
        (answer.status == 400).then_some(answer)
    });
    // The second one is refused, whichever it is.
    tokio::select! {
        answer = held => assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}"),
        answer = other => assert_eq!(answer.json()["code"], 3),
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn flood_ends_with_final_disconnect() {
    let config = Config::socketio()
        .set("limits.messages_per_second", "10")
        .set("limits.messages_burst", "10");
    let server = Server::start(config).await;
    let mut client = server.socketio(&Token::new("ada")).await;
    for _ in 0..40 {
        client.send(r#"42["ping"]"#).await;
    }
    assert_eq!(client.closed().await, (Some(4429), "41".to_owned()));
    let polling = server.polling().await;
    polling.connect(&Token::new("ada")).await;
    let flood = vec![r#"42["ping"]"#; 40].join("\u{1e}");
    polling.post(&flood).await;
    let mut reported = Vec::new();
    while reported.last().is_none_or(|last| last != "41") {
        reported.extend(polling.packets().await);
    }
    assert!(
        reported
            .iter()
            .any(|packet| packet.contains("resource_exhausted")),
        "{reported:?}"
    );
    assert_eq!(polling.packets().await, ["1"]);
    // Before joining a namespace, too.
    let mut stranger = server.engine_ws("", &[]).await.unwrap();
    for _ in 0..40 {
        stranger.send(r#"40{"token":"x"}"#).await;
    }
    assert_eq!(stranger.closed().await.0, Some(4429));
    all_gone(&server).await;
}

#[tokio::test]
async fn thousand_abandoned_handshakes_are_freed() {
    let config = Config::socketio().set("auth.deadline", r#""1s""#);
    let server = Server::start(config).await;
    for _ in 0..10 {
        let hundred = (0..100).map(|_| server.polling());
        let clients = futures_util::future::join_all(hundred).await;
        assert_eq!(clients.len(), 100);
    }
    all_gone(&server).await;
}

#[tokio::test]
async fn client_that_stops_polling_is_closed() {
    let config = Config::socketio()
        .set("heartbeat.interval", r#""500ms""#)
        .set("heartbeat.timeout", r#""1s""#);
    let server = Server::start(config).await;
    let gone = server.polling().await;
    gone.connect(&Token::new("ada")).await;
    // A client that polls but never answers pings is closed as well.
    let silent = server.polling().await;
    silent.connect(&Token::new("eve")).await;
    silent.until("2").await;
    let end = within("its end", async {
        loop {
            let answer = silent.get().await;
            if answer.status != 200 || answer.text() == "1" {
                return answer;
            }
        }
    })
    .await;
    assert!(end.status == 400 || end.text() == "1", "{end:?}");
    all_gone(&server).await;
    let closes = r#"tidings_closes_total{code="4408"}"#;
    assert_eq!(server.metric(closes).await, 2);
}

#[tokio::test]
async fn session_ids_and_tokens_are_not_logged() {
    let config = Config::socketio()
        .set("audit.file", r#""audit.jsonl""#)
        .env("RUST_LOG", "trace");
    let server = Server::start(config).await;
    let client = server.polling().await;
    let token = Token::new("ada");
    client.connect(&token).await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    socket.text().await;
    socket.send("5").await;
    socket.send(&connect_packet(&token)).await;
    socket.until("40{").await;
    let audit = eventually("the audit log", async || {
        let text = fs::read_to_string(server.path("audit.jsonl")).unwrap_or_default();
        text.contains("\"socketio\"").then_some(text)
    })
    .await;
    assert!(audit.contains("\"ada\""), "{audit}");
    for secret in [client.sid.clone(), token.sign()] {
        assert!(!audit.contains(&secret), "{audit}");
        let log = server.log();
        assert!(!log.contains(&secret), "{log}");
    }
}
