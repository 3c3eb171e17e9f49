//! Attacks with invalid or abusive WebSocket frames. The server closes each such connection, and
//! keeps serving others.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::harness::{Config, RawWs, Server, Token, masked};

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 0x1;
const CONTINUATION: u8 = 0x0;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Frames that are written at once.
const BATCH: usize = 1000;

/// A connection with permessage-deflate.
async fn compressing(server: &Server) -> RawWs {
    let token = format!("Bearer {}", Token::new("eve").sign());
    let headers = [
        ("Authorization", token.as_str()),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ];
    RawWs::connect(&server.public, &headers).await
}

/// Compresses a payload for permessage-deflate.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

/// A low limit, so that the test works on slow machines.
fn impatient() -> Config {
    Config::rooms()
        .set("limits.messages_per_second", "5")
        .set("limits.messages_burst", "20")
}

#[tokio::test]
async fn small_frame_flood_closes_4429() {
    let server = Server::start(impatient()).await;
    let calm = server.calm().await;
    let floods = [
        ("empty messages", masked(FIN | TEXT, b"")),
        ("messages of one byte", masked(FIN | TEXT, b"{")),
        ("pings", masked(FIN | PING, b"")),
        ("long pings", masked(FIN | PING, &[b'!'; 125])),
        ("pongs that nobody asked for", masked(FIN | PONG, b"")),
        ("pongs that look asked for", masked(FIN | PONG, &[0; 8])),
    ];
    for (what, frame) in floods {
        let eve = server.raw_ws(&Token::new("eve")).await;
        let flood = eve.flood(frame.repeat(BATCH), 1000);
        let (code, ()) = tokio::join!(flood, server.serves_promptly());
        assert_eq!(code, Some(4429), "{what}");
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn sender_after_close_is_cut_off() {
    let server = Server::start(impatient()).await;
    let mut eve = server.raw_ws(&Token::new("eve")).await;
    // An undefined opcode.
    eve.send(FIN | 0x0b, b"").await;
    assert_eq!(eve.close_code().await, 1002);
    let most = 256 << 20;
    let taken = eve.pour(most).await;
    assert!(taken < most / 4, "{taken} bytes read after the end");
}

#[tokio::test]
async fn endless_fragmented_message_is_closed() {
    let server = Server::start(impatient()).await;
    let calm = server.calm().await;
    // Sends a message of this many fragments of this many bytes. Returns how the connection ends.
    let floods = [("empty", 0, 4429), ("tiny", 1, 4429), ("large", 2000, 1009)];
    for (what, bytes, expected) in floods {
        let mut eve = server.raw_ws(&Token::new("eve")).await;
        eve.send(TEXT, b"").await;
        let fragment = masked(CONTINUATION, &vec![b' '; bytes]);
        let flood = eve.flood(fragment.repeat(50), 2000);
        let (code, ()) = tokio::join!(flood, server.serves_promptly());
        assert_eq!(code, Some(expected), "{what}");
    }
    calm.comes_back().await;
}

#[tokio::test]
async fn announced_frame_length_is_not_allocated() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    // Above the limit: refused by the frame header alone.
    for len in [u64::from(u32::MAX), 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut eve = server.raw_ws(&Token::new("eve")).await;
        let mut head = vec![FIN | TEXT, 0x80 | 127];
        head.extend(len.to_be_bytes());
        head.extend([0; 4]);
        eve.send_bytes(&head).await;
        let code = eve.close_code().await;
        assert!(matches!(code, 1002 | 1009), "{len}: {code}");
    }
    // Below it: a hundred clients begin and never finish.
    let mut begun = Vec::new();
    for _ in 0..90 {
        let mut eve = server.raw_ws(&Token::new("eve")).await;
        let whole = masked(FIN | TEXT, &vec![b' '; 65_000]);
        eve.send_bytes(&whole[..1000]).await;
        begun.push(eve);
    }
    server.serves_promptly().await;
    drop(begun);
    calm.comes_back().await;
}

#[tokio::test]
async fn large_message_arrives_in_small_pieces() {
    // The number of reads per message does not matter.
    let config = Config::rooms()
        .set("limits.messages_per_second", "5")
        .set("limits.messages_burst", "5");
    let server = Server::start(config).await;
    let mut alice = server.raw_ws(&Token::new("alice")).await;
    let text = format!(
        r#"{{"type":"ping","id":"slow","pad":"{}"}}"#,
        " ".repeat(500)
    );
    for byte in masked(FIN | TEXT, text.as_bytes()) {
        alice.send_bytes(&[byte]).await;
        // Sends the byte in its own segment.
        tokio::task::yield_now().await;
    }
    loop {
        let frame = alice.next().await.expect("still open");
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        if frame.text().contains("\"slow\"") {
            assert!(frame.text().contains("\"pong\""), "{}", frame.text());
            return;
        }
    }
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_refused() {
    let server = Server::start(Config::rooms()).await;
    for first in 0..=u8::MAX {
        let (bits, opcode) = (first & 0x70, first & 0x0f);
        let fine = bits == 0 && matches!(opcode, 0x1 | 0x2 | 0x8 | 0x9 | 0xa);
        // A sample, because one user may not have more connections.
        if fine || first % 7 != 3 {
            continue;
        }
        let mut eve = server.raw_ws(&Token::new("eve")).await;
        eve.send(first, b"").await;
        assert_eq!(eve.close_code().await, 1002, "{first:#04x}");
    }
    server.serves_promptly().await;
}

#[tokio::test]
async fn decompression_stops_at_message_limit() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let bomb = deflated(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 60_000, "it must fit: {}", bomb.len());
    for round in 0..20 {
        let mut eve = compressing(&server).await;
        assert!(eve.head.contains("permessage-deflate"), "{}", eve.head);
        if round % 2 == 0 {
            eve.send(FIN | COMPRESSED | TEXT, &bomb).await;
        } else {
            let (first, rest) = bomb.split_at(1000);
            eve.send(COMPRESSED | TEXT, first).await;
            eve.send(CONTINUATION | FIN, rest).await;
        }
        assert_eq!(eve.close_code().await, 1009);
    }
    server.serves_promptly().await;
    calm.comes_back().await;
}

#[tokio::test]
async fn slow_inflation_blocks_nobody() {
    let server = Server::start(impatient()).await;
    let calm = server.calm().await;
    // Thousands of empty streams in one message, and thousands of empty blocks.
    let ends = [0x03, 0x00].repeat(32_000);
    let blocks = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(12_800);
    // A Huffman table for each block, and no output.
    let mut tables = Vec::new();
    while tables.len() < 60_000 {
        tables.extend([
            0x04, 0xc0, 0x81, 0x08, 0x00, 0x00, 0x00, 0x00, 0x20, 0x7f, 0xeb, 0x0b,
        ]);
    }
    for payload in [ends, blocks, tables] {
        let eve = compressing(&server).await;
        let frame = masked(FIN | COMPRESSED | TEXT, &payload);
        let flood = eve.flood(frame, 1000);
        let (code, ()) = tokio::join!(flood, server.serves_promptly());
        assert!(matches!(code, Some(4429 | 1007 | 1002)), "{code:?}");
    }
    calm.comes_back().await;
}
