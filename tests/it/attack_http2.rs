//! Attacks with invalid or abusive HTTP/2 frames on the gRPC listener.

use crate::harness::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, call, fields, frame,
};
use crate::harness::{Config, Http2, Server, Token};

/// Error codes for protocol violations: `PROTOCOL_ERROR`, `FLOW_CONTROL_ERROR`, `STREAM_CLOSED`,
/// `FRAME_SIZE_ERROR`, `COMPRESSION_ERROR` and `ENHANCE_YOUR_CALM` (RFC 9113 §7).
const REFUSALS: [u32; 6] = [1, 3, 5, 6, 9, 11];

async fn is_well(server: &Server) {
    server.serves_promptly().await;
    let mut service = server.publisher("service").await;
    service
        .publish("room:1", "still.here", serde_json::json!({}))
        .await;
}

/// The stream id of a client's n-th request.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

#[tokio::test]
async fn rapid_reset_closes_connection() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let headers = call("EventService/Publish", &[]);
    let burst = |round: u32| {
        let mut burst = Vec::new();
        for n in round * 500..(round + 1) * 500 {
            burst.extend(frame(HEADERS, END_HEADERS, stream(n), &headers));
            burst.extend(frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes()));
        }
        burst
    };
    for _ in 0..3 {
        let eve = Http2::connect(&server.internal).await;
        let (outcome, ()) = tokio::join!(eve.flood(burst, 100), is_well(&server));
        // ENHANCE_YOUR_CALM, if the GOAWAY could still be delivered.
        let calmed = matches!(outcome, Outcome::Ended(None | Some(11)));
        assert!(calmed, "50,000 streams were reset: {outcome:?}");
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn endless_continuation_closes_connection() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let endless = |round: u32| {
        let piece = fields(&[("x", &"a".repeat(1000))]).repeat(16);
        if round == 0 {
            frame(HEADERS, 0, 1, &call("EventService/Publish", &[]))
        } else {
            frame(CONTINUATION, 0, 1, &piece[..16_000])
        }
    };
    let empty = |round: u32| {
        let kind = if round == 0 { HEADERS } else { CONTINUATION };
        frame(kind, 0, 1, &[])
    };
    let eve = Http2::connect(&server.internal).await;
    let (outcome, ()) = tokio::join!(eve.flood(endless, 4000), is_well(&server));
    assert!(matches!(outcome, Outcome::Ended(_)), "64 MB of headers");
    let eve = Http2::connect(&server.internal).await;
    let (outcome, ()) = tokio::join!(eve.flood(empty, 100_000), is_well(&server));
    assert!(matches!(outcome, Outcome::Ended(_)), "headers of nothing");
    calm.comes_back().await;
}

#[tokio::test]
async fn header_count_and_size_are_limited() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let long = "a".repeat(14_000);
    let many = call("EventService/Publish", &vec![("x", "y"); 1500]);
    let large = call("EventService/Publish", &[("x", &long)]);
    // Three further blocks of the same size after the head of a call.
    let larger = fields(&[("y", &long)]);
    for (head, more) in [(&many, None), (&large, Some(&larger))] {
        let mut eve = Http2::connect(&server.internal).await;
        let flags = if more.is_none() { END_HEADERS } else { 0 };
        eve.send(&frame(HEADERS, flags | END_STREAM, 1, head)).await;
        for n in 0..3 {
            let flags = if n == 2 { END_HEADERS } else { 0 };
            if let Some(more) = more {
                eve.send(&frame(CONTINUATION, flags, 1, more)).await;
            }
        }
        let kind = eve.end_of(1).await;
        assert!(matches!(kind, HEADERS | RST_STREAM), "{kind}");
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn control_frame_floods_block_nobody() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let floods = [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("PING", frame(PING, 0, 0, b"pingpong")),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0xbe, 0xff, 77, &[0; 16])),
        ("DATA of nothing", frame(DATA, 0, 1, &[])),
    ];
    for (what, one) in &floods {
        let batch = one.repeat(1000);
        let eve = Http2::connect(&server.internal).await;
        let (outcome, ()) = tokio::join!(eve.flood(|_| batch.clone(), 100), is_well(&server));
        let fine = match outcome {
            Outcome::Answered | Outcome::Ended(None) => true,
            Outcome::Ended(Some(code)) => REFUSALS.contains(&code),
        };
        assert!(fine, "{what}: {outcome:?}");
    }
    // The server stops reading from a client that reads no responses.
    for (_, one) in floods.iter().take(2) {
        let mut eve = Http2::connect(&server.internal).await;
        let most = 256 << 20;
        let taken = eve.press(&one.repeat(1000), most).await;
        assert!(taken < most, "{taken} bytes, and no answer was ever read");
        is_well(&server).await;
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn invalid_frames_close_connection() {
    let server = Server::start(Config::rooms()).await;
    let open = frame(HEADERS, END_HEADERS, 1, &call("EventService/Publish", &[]));
    let table = [
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window too wide",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "a stream of the server's",
            frame(HEADERS, END_HEADERS, 2, &[0x82]),
        ),
        ("a stream of number 0", frame(DATA, 0, 0, &[0; 8])),
        (
            "a field block that is none",
            frame(HEADERS, END_HEADERS, 3, &[0xff; 32]),
        ),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a PING of 4 bytes", frame(PING, 0, 0, &[0; 4])),
        (
            "continuation of nothing",
            frame(CONTINUATION, 0, 1, &[0; 8]),
        ),
        ("a frame too long", frame(DATA, 0, 1, &vec![0; 100_000])),
        (
            "padding longer than the frame",
            frame(DATA, 8, 1, &[255, 0]),
        ),
    ];
    for (what, broken) in table {
        let bytes = [&open[..], &broken].concat();
        let eve = Http2::connect(&server.internal).await;
        let outcome = eve.flood(|_| bytes.clone(), 1).await;
        let Outcome::Ended(code) = outcome else {
            panic!("{what}: the connection goes on");
        };
        assert!(
            code.is_none_or(|code| REFUSALS.contains(&code)),
            "{what}: {code:?}"
        );
    }
    is_well(&server).await;
}

#[tokio::test]
async fn calls_without_message_are_limited() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let token = format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    );
    let head = call("EventService/Publish", &[("authorization", &token)]);
    // Announces a message of 4 GiB and sends its first bytes.
    let begun = frame(DATA, 0, 0, &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    let calls = |round: u32| {
        let id = stream(round);
        let mut data = begun.clone();
        data[5..9].copy_from_slice(&id.to_be_bytes());
        [frame(HEADERS, END_HEADERS, id, &head), data].concat()
    };
    let mut floods = Vec::new();
    for _ in 0..4 {
        let eve = Http2::connect(&server.internal).await;
        floods.push(eve.flood(calls, 2000));
    }
    for flood in floods {
        let (outcome, ()) = tokio::join!(flood, is_well(&server));
        let fine = matches!(outcome, Outcome::Answered | Outcome::Ended(None | Some(11)));
        assert!(fine, "{outcome:?}");
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn messages_with_false_length_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let token = format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    );
    let head = call("EventService/Publish", &[("authorization", &token)]);
    let table: [(&str, &[u8]); 4] = [
        ("4 GiB", &[0, 0xff, 0xff, 0xff, 0xff]),
        (
            "compressed, though nothing is agreed",
            &[1, 0, 0, 0, 2, 0x1f, 0x8b],
        ),
        ("a flag that is none", &[9, 0, 0, 0, 0]),
        (
            "a field that is longer than the message",
            &[0, 0, 0, 0, 3, 0x0a, 0x7f, 0x41],
        ),
    ];
    for (what, message) in table {
        let mut eve = Http2::connect(&server.internal).await;
        eve.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        eve.send(&frame(DATA, END_STREAM, 1, message)).await;
        assert_eq!(
            eve.end_of(1).await,
            HEADERS,
            "{what}: trailers with a status"
        );
    }
    is_well(&server).await;
}
