//! The head of an upgrade request as received from the socket, and the head of its response (RFC
//! 9112).
//!
//! Nearly every connection begins with one whole request for a WebSocket. That request is parsed
//! here; any unusual request is left to hyper.

use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Request, Response, Uri};

/// The most headers of a request.
pub const MAX_HEADERS: usize = 64;

/// Parses the head of an upgrade request, and returns it with its length. `None` for anything but a
/// whole `GET` of a path in HTTP/1.1 with an `Upgrade`, without a body or `Connection: close`, and
/// with at most [`MAX_HEADERS`] headers: then the request is not judged here.
#[must_use]
pub fn read_upgrade(bytes: &Bytes) -> Option<(Request<()>, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = head.parse(bytes).ok()? else {
        return None;
    };
    let target = head.path.filter(|target| target.starts_with('/'))?;
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    let mut map = HeaderMap::with_capacity(head.headers.len());
    for header in &*head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value)).ok()?;
        map.append(name, value);
    }
    let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT]
        .iter()
        .any(|name| map.contains_key(name));
    if has_body || closes(&map) || !map.contains_key(UPGRADE) {
        return None;
    }
    *request.headers_mut() = map;
    Some((request, len))
}

/// Whether the client wants the connection closed after the response, which the response would have
/// to repeat.
fn closes(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONNECTION).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// The head of a response without a body, with the `Date` (RFC 9110 §6.6.1).
#[must_use]
pub fn write_answer(answer: &Response<()>) -> Bytes {
    let mut head = BytesMut::with_capacity(256);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(answer.status().as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(answer.status().canonical_reason().unwrap_or("").as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in answer.headers() {
        put_header(&mut head, name.as_str(), value.as_bytes());
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    put_header(&mut head, "date", date.as_bytes());
    head.put_slice(b"\r\n");
    head.freeze()
}

fn put_header(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const UPGRADE_HEAD: &str = "GET /ws?token=a HTTP/1.1\r\nHost: a\r\nUPGRADE: websocket\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n";

    fn read(text: &str) -> Option<(Request<()>, usize)> {
        read_upgrade(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn upgrade_head_is_parsed_and_rest_kept() {
        let (request, len) = read(&format!("{UPGRADE_HEAD}frame")).expect("an upgrade");
        assert_eq!(len, UPGRADE_HEAD.len());
        assert_eq!(request.uri(), "/ws?token=a");
        assert_eq!(request.headers()[UPGRADE], "websocket");
        assert_eq!(request.headers().get_all("x-twice").iter().count(), 2);
        assert_eq!(request.headers().len(), 4);
    }

    #[test]
    fn unusual_request_is_not_parsed() {
        for len in 0..UPGRADE_HEAD.len() {
            assert!(read(&UPGRADE_HEAD[..len]).is_none(), "{len} bytes");
        }
        let with = |line: &str| UPGRADE_HEAD.replace("X-Twice: 2", line);
        let many = "X: y\r\n".repeat(MAX_HEADERS);
        for unusual in [
            UPGRADE_HEAD.replace("GET", "POST"),
            UPGRADE_HEAD.replace("HTTP/1.1", "HTTP/1.0"),
            UPGRADE_HEAD.replace("/ws", "http://a/ws"),
            UPGRADE_HEAD.replace("/ws", "*"),
            UPGRADE_HEAD.replace("/ws", "/ws\u{7}"),
            UPGRADE_HEAD.replace("UPGRADE: websocket\r\n", ""),
            with("Content-Length: 0"),
            with("Transfer-Encoding: chunked"),
            with("Expect: 100-continue"),
            with("Connection: Upgrade, Close"),
            with("no header"),
            with("X : y"),
            with("X: \u{1}"),
            with(&format!("{many}X: y")),
        ] {
            assert!(read(&unusual).is_none(), "{unusual}");
        }
    }

    #[test]
    fn response_head_is_written_verbatim() {
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let websocket = HeaderValue::from_static("websocket");
        answer.headers_mut().insert(UPGRADE, websocket);
        let head = write_answer(&answer);
        let head = std::str::from_utf8(&head).expect("text");
        let (before, after) = head.split_once("date: ").expect("a date");
        let start = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n";
        assert_eq!(before, start);
        let date = after.strip_suffix("\r\n\r\n").expect("the end");
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    }
}
