//! An HTTP/2 client of raw frames (RFC 9113 §4), which answers nothing automatically.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame from the server.
#[derive(Debug)]
pub struct H2Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How the server handled a flood.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It survived: the PING after the flood was answered.
    Answered,
    /// It closed the connection, with this error code (RFC 9113 §7) if it sent one.
    Ended(Option<u32>),
}

/// An open connection.
pub struct Http2 {
    stream: TcpStream,
}

/// The encoding of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Header fields without compression (RFC 7541 §6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // An integer with a prefix of 7 bits (RFC 7541 §5.1).
            let mut rest = text.len();
            if rest < 127 {
                block.push(u8::try_from(rest).unwrap());
            } else {
                block.push(127);
                rest -= 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The header fields of a call of this method of `tidings.v1`, and further ones.
pub fn call(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/tidings.v1.{method}");
    let mut all = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    all.extend(more);
    fields(&all)
}

impl Http2 {
    /// Connects, and sends the preface and empty SETTINGS (RFC 9113 §3.4).
    pub async fn connect(address: &str) -> Self {
        let mut stream = within("TCP", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings = frame(SETTINGS, 0, 0, &[]);
        stream
            .write_all(&[&preface[..], &settings].concat())
            .await
            .unwrap();
        Self { stream }
    }

    /// Sends raw bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// The next frame. `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<H2Frame> {
        within("a frame", read_frame(&mut self.stream)).await
    }

    /// The next frame, with no deadline.
    pub async fn later(&mut self) -> Option<H2Frame> {
        read_frame(&mut self.stream).await
    }

    /// Reads up to the last frame of this stream. Returns its type.
    pub async fn end_of(&mut self, stream: u32) -> u8 {
        loop {
            let frame = self
                .next()
                .await
                .expect("the stream's end before the connection's");
            let last = frame.kind == RST_STREAM || frame.flags & END_STREAM != 0;
            if frame.stream == stream && last {
                return frame.kind;
            }
        }
    }

    /// Repeats these bytes, then sends a PING, while reading the responses.
    pub async fn flood(self, bytes: impl Fn(u32) -> Vec<u8>, times: u32) -> Outcome {
        let (mut read, mut write) = tokio::io::split(self.stream);
        let send = async {
            for round in 0..times {
                if write.write_all(&bytes(round)).await.is_err() {
                    return;
                }
            }
            // The connection is closed already, so the write may fail.
            let _ = write.write_all(&frame(PING, 0, 0, b"the last")).await;
        };
        let listen = async {
            let mut reason = None;
            while let Some(frame) = read_frame(&mut read).await {
                if frame.kind == PING && frame.payload == b"the last" {
                    return Outcome::Answered;
                }
                if frame.kind == GOAWAY {
                    let code = frame.payload.get(4..8).unwrap();
                    reason = Some(u32::from_be_bytes(code.try_into().unwrap()));
                }
            }
            Outcome::Ended(reason)
        };
        within("the end of the flood", async {
            tokio::pin!(listen);
            tokio::select! {
                outcome = &mut listen => outcome,
                () = send => listen.await,
            }
        })
        .await
    }

    /// Repeats these bytes without reading, until the server accepts no more. Returns the number of
    /// bytes, at most `most`.
    pub async fn press(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut sent = 0;
        let stuck = std::time::Duration::from_secs(1);
        while sent < most {
            let rest = &bytes[sent % bytes.len()..];
            let wrote = tokio::time::timeout(stuck, self.stream.write(rest)).await;
            let Ok(Ok(count)) = wrote else { break };
            sent += count;
        }
        sent
    }
}

async fn read_frame(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<H2Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some(H2Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
        payload,
    })
}
