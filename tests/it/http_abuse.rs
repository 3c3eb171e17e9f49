//! Abusive HTTP requests.

use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::harness::{Answer, Config, Server, Token, eventually, raw_request};

fn service() -> String {
    format!(
        "Bearer {}",
        Token::new("backend").roles(&["service", "admin"]).sign()
    )
}

/// The status line's code of a raw response.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn request_must_have_one_host() {
    let server = Server::start(Config::rooms()).await;
    for (hosts, expected) in [
        ("Host: example.com\r\n", "200"),
        ("Host: [::1]:8000\r\n", "200"),
        ("", "400"),
        ("Host: a\r\nHost: b\r\n", "400"),
        ("Host: a/../b\r\n", "400"),
        ("Host: user@a\r\n", "400"),
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = raw_request(&server.public, &request).await;
        assert_eq!(status(&answer), expected, "{hosts:?}: {answer}");
        assert_eq!(
            answer.contains("problem+json"),
            expected == "400",
            "{answer}"
        );
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let (one, two) = (service(), service());
    let both = [
        ("Authorization", one.as_str()),
        ("Authorization", two.as_str()),
    ];
    for path in ["/api/v1/stats", "/sse?channel=room:1"] {
        let problem = server
            .http(Method::GET, path, &both, "")
            .await
            .assert_problem(401);
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("one authorization header"),
            "{path}: {problem}"
        );
    }
    server
        .refused_upgrade("/ws", &both)
        .await
        .assert_problem(401);
    let series = "tidings_auth_failures_total{reason=\"ambiguous\"}";
    assert_eq!(server.metric(series).await, 3);
}

#[tokio::test]
async fn oversized_content_length_is_refused_early() {
    let server = Server::start(Config::rooms().set("limits.event_bytes", "1000")).await;
    let request = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
         Content-Type: application/json\r\nContent-Length: 10000000\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        service()
    );
    // No byte of the body is ever sent.
    let answer = raw_request(&server.public, &request).await;
    assert_eq!(status(&answer), "413", "{answer}");
    // A body without a length is read up to the limit.
    let mut chunked = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        service()
    );
    for _ in 0..80 {
        write!(chunked, "400\r\n{}\r\n", "x".repeat(1024)).unwrap();
    }
    let answer = raw_request(&server.public, &format!("{chunked}0\r\n\r\n")).await;
    assert_eq!(status(&answer), "413", "{answer}");
}

#[tokio::test]
async fn wrong_method_and_content_type_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let token = service();
    let auth = ("Authorization", token.as_str());
    for (method, path, allow) in [
        (Method::PUT, "/api/v1/events", "POST"),
        (Method::PATCH, "/api/v1/connections", "DELETE"),
        (Method::TRACE, "/healthz", "GET"),
        (Method::from_bytes(b"BREW").unwrap(), "/sse", "GET"),
        (Method::POST, "/ws", "GET"),
    ] {
        let answer = server.http(method, path, &[auth], "").await;
        answer.assert_problem(405);
        assert!(answer.header("allow").contains(allow), "{path}: {answer:?}");
    }
    for kind in [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "x",
    ] {
        let headers = [auth, ("Content-Type", kind)];
        let answer = server
            .http(Method::POST, "/api/v1/events", &headers, "{}")
            .await;
        answer.assert_problem(415);
    }
}

#[tokio::test]
async fn header_count_and_size_are_limited() {
    let server = Server::start(Config::rooms()).await;
    let many = (0..200).fold(String::new(), |mut text, n| {
        write!(text, "X-{n}: 1\r\n").unwrap();
        text
    });
    let long = format!("X: {}\r\n", "a".repeat(100_000));
    for headers in [many, long] {
        let request =
            format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
        let answer = raw_request(&server.public, &request).await;
        assert_eq!(status(&answer), "431", "{answer}");
    }
    let path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000));
    let answer = raw_request(&server.public, &path).await;
    assert!(matches!(status(&answer), "414" | "431"), "{answer}");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn odd_paths_and_queries_are_harmless() {
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/api/v1/channels/%00/history",
        "/api/v1/channels/..%2f..%2fetc/history",
        "/api/v1/channels/a%zz/history",
        "/api/v1/channels/%ff%fe/presence",
        "/api/v1/connections/%0d%0aSet-Cookie:%20x",
        "/api/v1/catalog/%3Cscript%3E",
        "/api/v1/connections?page_size=99999999999999999999",
        "/api/v1/connections?page_token=%00.-1",
        "/api/v1/connections?page_size=1&page_size=-1",
        "/api/v1/channels?prefix=%f0%28%8c%28",
        "/sse?channel=&channel=%00",
        "//api//v1//stats",
        "/api/v1/stats/",
    ] {
        let answer = server.get_as(&admin, path).await;
        assert!((200..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(answer.headers.get("set-cookie").is_none(), "{path}");
        if answer.status >= 400 {
            answer.assert_problem(answer.status);
        }
    }
    let long = format!("/api/v1/connections?{}", "user=a&".repeat(3000));
    assert!(server.get_as(&admin, &long).await.status < 500);
}

#[tokio::test]
async fn api_descriptions_may_require_token() {
    let config = Config::rooms().set("public.documents", r#""token""#);
    let server = Server::start(config.clone()).await;
    for path in ["/openapi.json", "/asyncapi.json"] {
        server.get(path).await.assert_problem(401);
        let answer = server.get_as(&Token::new("alice"), path).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    server.reload(&config.set("public.documents", r#""open""#));
    eventually("the reload", async || {
        (server.get("/openapi.json").await.status == 200).then_some(())
    })
    .await;
}

/// Sends a preflight request to the internal listener, as a browser does.
async fn preflight(server: &Server, origin: &str) -> Answer {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,content-type,x-grpc-web",
        ),
    ];
    let path = "/tidings.v1.EventService/Publish";
    server
        .internal_http(Method::OPTIONS, path, &headers, Bytes::new())
        .await
}

#[tokio::test]
async fn grpc_web_requires_listed_origin() {
    let server = Server::start(Config::rooms()).await;
    preflight(&server, "https://app.example.com")
        .await
        .assert_problem(403);
    // DNS rebinding makes the page's origin equal the host.
    let bent = format!("http://{}", server.internal);
    preflight(&server, &bent).await.assert_problem(403);
    let headers = [
        ("Origin", bent.as_str()),
        ("Content-Type", "application/grpc-web+proto"),
    ];
    let path = "/tidings.v1.ConnectionService/GetStats";
    let answer = server
        .internal_http(Method::POST, path, &headers, Bytes::new())
        .await;
    answer.assert_problem(403);

    let config = Config::rooms().set("internal.allowed_origins", r#"["https://app.example.com"]"#);
    let server = Server::start(config).await;
    let answer = preflight(&server, "https://app.example.com").await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert!(answer.status < 300, "{answer:?}");
    // A wildcard would not cover `Authorization` (Fetch §3.3.3).
    let headers = answer.header("access-control-allow-headers");
    assert!(headers.contains("authorization"), "{answer:?}");
    let evil = preflight(&server, "https://evil.example").await;
    evil.assert_problem(403);
    let token = service();
    let headers = [
        ("Origin", "https://app.example.com"),
        ("Content-Type", "application/grpc-web+proto"),
        ("Authorization", token.as_str()),
    ];
    let empty = Bytes::from_static(&[0; 5]);
    let answer = server
        .internal_http(Method::POST, path, &headers, empty)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("grpc-status")
    );
}

#[tokio::test]
async fn descriptor_exhaustion_is_survived() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let process = Pid::from_raw(i32::try_from(server.process()).unwrap());
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.process()))
        .unwrap()
        .count();
    let few = Rlimit {
        current: Some(u64::try_from(open).unwrap()),
        // The server accepts it from here on.
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(process, Resource::Nofile, few).unwrap();
    let started = std::time::Instant::now();
    let mut sockets = Vec::new();
    let reported = "connections could not be accepted";
    eventually("the shortage", async || {
        sockets.push(
            tokio::net::TcpStream::connect(&server.public)
                .await
                .unwrap(),
        );
        server.log().contains(reported).then_some(())
    })
    .await;
    ws.lives().await;
    let lines = server.log().matches(reported).count();
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(lines <= seconds + 1, "{lines} lines in {seconds} s");
    drop(sockets);
    prlimit(process, Resource::Nofile, before).unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(server.metric("tidings_accept_errors_total").await > 0);
    ws.publish("room:1", "still.here", json!({})).await;
}
