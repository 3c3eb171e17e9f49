//! A plain HTTP/1.1 client with one connection per request.

use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{Server, Token, within};

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is problem+json (RFC 9457) with this status.
    pub fn assert_problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let media = self.header("content-type");
        assert!(
            media.starts_with("application/problem+json"),
            "{media}: {self:?}"
        );
        let problem = self.json();
        assert!(problem["code"].is_string(), "{problem}");
        problem
    }
}

impl Server {
    /// `GET` on the public listener.
    pub async fn get(&self, path: &str) -> Answer {
        self.http(Method::GET, path, &[], "").await
    }

    /// `GET` on the public listener with a token.
    pub async fn get_as(&self, token: &Token, path: &str) -> Answer {
        let token = format!("Bearer {}", token.sign());
        self.http(Method::GET, path, &[("Authorization", &token)], "")
            .await
    }

    /// The status of a `GET` on the public listener. `None` if the connection is refused.
    pub async fn try_status(&self, path: &str) -> Option<u16> {
        let stream = TcpStream::connect(&self.public).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .ok()?;
        tokio_util::task::TaskTracker::new().spawn(connection);
        let request = Request::get(path).header("Host", &self.public);
        let answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap());
        Some(within("the answer", answer).await.ok()?.status().as_u16())
    }

    /// Any request on the public listener.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        request(
            &self.public,
            method,
            path,
            headers,
            Bytes::copy_from_slice(body.as_bytes()),
        )
        .await
    }

    /// Any request on the internal listener.
    pub async fn internal_http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        request(&self.internal, method, path, headers, body).await
    }

    /// An upgrade request that should be refused.
    pub async fn refused_upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend_from_slice(headers);
        self.http(Method::GET, path, &all, "").await
    }

    /// The first lines of an endless body, such as server-sent events: up to and including the
    /// first line that starts with `prefix`.
    pub async fn lines_until(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        prefix: &str,
    ) -> Vec<String> {
        let response = open(&self.public, Method::GET, path, headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut text = String::new();
        loop {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let whole = lines
                .len()
                .saturating_sub(usize::from(!text.ends_with('\n')));
            if let Some(at) = lines.iter().take(whole).position(|l| l.starts_with(prefix)) {
                return lines.into_iter().take(at + 1).collect();
            }
            let frame = within("more of the body", body.frame())
                .await
                .expect("more")
                .unwrap();
            if let Ok(data) = frame.into_data() {
                text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }
}

async fn request(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let response = open(address, method, path, headers, body).await;
    let (head, body) = response.into_parts();
    let body = within("the body", body.collect()).await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

/// Sends a request, and returns the response before its body.
pub async fn open(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Response<Incoming> {
    let stream = within("TCP", TcpStream::connect(address)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    // The task ends with the connection, at the latest with the test's runtime.
    tokio_util::task::TaskTracker::new().spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    within("the answer", sender.send_request(request))
        .await
        .unwrap()
}
