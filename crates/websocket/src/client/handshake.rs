//! The client's half of RFC 6455's opening handshake.

use crate::handshake::accept_key;

/// RFC 6455 §4.1 requires a random key so that caches can be detected; there are none between a
/// load generator and its server.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The longest response to the handshake that is read, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// Requests a WebSocket from `host` at `path`, with a bearer token.
#[must_use]
pub fn request(host: &str, path: &str, token: Option<&str>) -> String {
    let authorization = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {}\r\n", token)
    });
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{authorization}\r\n"
    )
}

/// Splits the response's head from the bytes after it. `None` if it is incomplete.
#[must_use]
pub fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    const END: &[u8] = b"\r\n\r\n";
    let length = input.windows(END.len()).position(|window| window == END)?;
    input.split_at_checked(length + END.len())
}

/// Checks that `head` accepts the WebSocket.
///
/// # Errors
///
/// The reason, as text.
pub fn check(head: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(head);
    if !text.starts_with("HTTP/1.1 101 ") {
        return Err(format!(
            "the upgrade was answered {}",
            text.lines().next().unwrap_or_default()
        ));
    }
    let expected = accept_key(KEY);
    let accepted = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept")
                && value.trim().as_bytes() == expected.as_bytes()
        });
    if accepted {
        Ok(())
    } else {
        Err("the upgrade has no right Sec-WebSocket-Accept".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 6455 §1.3.
    const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn upgrade_requires_101_and_accept_key() {
        assert_eq!(check(GRANTED.as_bytes()), Ok(()));
        let refused = check(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap_err();
        assert!(refused.contains("401"), "{refused}");
        assert!(check(GRANTED.replace("s3p", "xxx").as_bytes()).is_err());
    }

    #[test]
    fn head_ends_at_first_empty_line() {
        let answer = [GRANTED.as_bytes(), b"\x81\x00\r\n\r\n"].concat();
        for end in 0..GRANTED.len() {
            assert_eq!(split(&answer[..end]), None);
        }
        let frames: &[u8] = b"\x81\x00\r\n\r\n";
        assert_eq!(split(&answer), Some((GRANTED.as_bytes(), frames)));
    }

    #[test]
    fn request_has_token_only_if_given() {
        let with = request("h:1", "/ws", Some("a.b.c"));
        assert!(with.starts_with("GET /ws HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(with.ends_with("\r\nAuthorization: Bearer a.b.c\r\n\r\n"));
        assert!(!request("h:1", "/ws", None).contains("Authorization"));
    }
}
