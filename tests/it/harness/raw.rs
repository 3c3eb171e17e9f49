//! A WebSocket client of raw frames (RFC 6455 §5), which answers nothing automatically.

use std::fmt::Write as _;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::within;

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    /// RSV1, which marks a compressed message (RFC 7692).
    pub compressed: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk::<2>()?;
        (self.opcode == 8).then(|| u16::from_be_bytes(*code))
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// Sends a raw request, and reads until the server closes.
pub async fn raw_request(address: &str, request: &str) -> String {
    let mut stream = within("TCP", TcpStream::connect(address)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("the answer", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A masked frame (RFC 6455 §5.3) with these first bits and opcode.
pub fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first_byte];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        Ok(len) => {
            frame.push(0x80 | 0x7e);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 0x7f);
            frame.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// An open connection.
pub struct RawWs {
    stream: BufReader<TcpStream>,
    /// The head of the server's upgrade response.
    pub head: String,
}

impl RawWs {
    /// Upgrades on `/ws` with these headers in addition to the required ones.
    pub async fn connect(address: &str, headers: &[(&str, &str)]) -> Self {
        let stream = within("TCP", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        stream
            .write_all(format!("{request}\r\n").as_bytes())
            .await
            .unwrap();
        let mut head = Vec::new();
        within("the answer to the upgrade", async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("an answer to the upgrade"));
            }
        })
        .await;
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream, head }
    }

    /// Sends a masked frame (RFC 6455 §5.3) with these first bits and opcode.
    pub async fn send(&mut self, first_byte: u8, payload: &[u8]) {
        self.send_bytes(&masked(first_byte, payload)).await;
    }

    /// Sends raw bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    /// Keeps sending until the server closes, up to this limit. Returns the number of bytes.
    pub async fn pour(&mut self, most: usize) -> usize {
        let junk = vec![0; 64 * 1024];
        let mut poured = 0;
        while poured < most {
            match within("room to send", self.stream.write(&junk)).await {
                Ok(count) => poured += count,
                Err(_) => break,
            }
        }
        poured
    }

    /// The next frame. `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        within("a frame", read_frame(&mut self.stream)).await
    }

    /// Reads until the server closes. Returns the code.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.next().await.expect("a close frame before the end");
            if let Some(code) = frame.close_code() {
                return code;
            }
        }
    }

    /// Repeats these bytes, while reading, until the server closes. Returns the code.
    pub async fn flood(self, bytes: Vec<u8>, times: usize) -> Option<u16> {
        let (read, mut write) = tokio::io::split(self.stream.into_inner());
        let mut listener = RawListener(BufReader::new(read));
        let send = async {
            for _ in 0..times {
                if write.write_all(&bytes).await.is_err() {
                    // Closed. The other half reads the code.
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        within("the end of the flood", async {
            tokio::select! {
                code = listener.close_code() => code,
                () = send => None,
            }
        })
        .await
    }
}

/// The reading half of a connection.
struct RawListener(BufReader<tokio::io::ReadHalf<TcpStream>>);

impl RawListener {
    async fn close_code(&mut self) -> Option<u16> {
        loop {
            let frame = read_frame(&mut self.0).await?;
            if let Some(code) = frame.close_code() {
                return Some(code);
            }
        }
    }
}

/// The next frame. `None` at the end of the stream.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let first = stream.read_u8().await.ok()?;
    let second = stream.read_u8().await.ok()?;
    assert_eq!(second & 0x80, 0, "a server never masks");
    let len = match second {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        len => u64::from(len),
    };
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        opcode: first & 0x0f,
        compressed: first & 0x40 != 0,
        payload,
    })
}
