//! Which origins may connect.

use http::Method;

use crate::harness::{Config, Server, Token};

#[tokio::test]
async fn only_pages_of_the_same_origin_connect_by_default() {
    let server = Server::start(Config::rooms()).await;
    let port = server.public.rsplit(':').next().unwrap();
    let same = format!("http://{}", server.public);
    server
        .ws()
        .token("alice", &[])
        .origin(&same)
        .connect()
        .await
        .lives()
        .await;
    for foreign in [
        "https://evil.example.com".to_owned(),
        format!("http://evil.example.com:{port}"),
        format!("http://{}.evil.example.com", server.public),
        "http://127.0.0.1:1".to_owned(),
        "null".to_owned(),
    ] {
        let upgrade = server
            .ws()
            .token("alice", &[])
            .origin(&foreign)
            .upgrade()
            .await;
        assert_eq!(upgrade.map(|_| ()), Err(403), "{foreign}");
    }
    let refused = server
        .refused_upgrade("/ws", &[("Origin", "https://evil.example.com")])
        .await;
    assert_eq!(refused.assert_problem(403)["code"], "permission_denied");
}

#[tokio::test]
async fn allowed_origins_connect_and_others_do_not() {
    let allowed = r#"["https://app.example.com", "http://localhost:3000"]"#;
    let server = Server::start(Config::rooms().set("public.allowed_origins", allowed)).await;
    for origin in ["https://app.example.com", "http://localhost:3000"] {
        server
            .ws()
            .token("alice", &[])
            .origin(origin)
            .connect()
            .await
            .lives()
            .await;
    }
    for origin in [
        "http://app.example.com",
        "https://app.example.com.evil.com",
        "http://localhost",
    ] {
        let upgrade = server
            .ws()
            .token("alice", &[])
            .origin(origin)
            .upgrade()
            .await;
        assert_eq!(upgrade.map(|_| ()), Err(403), "{origin}");
    }
}

#[tokio::test]
async fn wildcard_allows_every_origin() {
    let server = Server::start(Config::rooms().set("public.allowed_origins", r#"["*"]"#)).await;
    let anywhere = server
        .ws()
        .token("alice", &[])
        .origin("https://anywhere.example.org");
    anywhere.connect().await.lives().await;
}

#[tokio::test]
async fn client_without_origin_connects() {
    let server = Server::start(Config::rooms()).await;
    server
        .ws()
        .token("alice", &[])
        .connect()
        .await
        .lives()
        .await;
}

#[tokio::test]
async fn allowed_origins_may_read_api() {
    let allowed = r#"["https://app.example.com"]"#;
    let server = Server::start(Config::rooms().set("public.allowed_origins", allowed)).await;
    let token = format!("Bearer {}", Token::new("root").roles(&["admin"]).sign());
    let table = [
        ("https://app.example.com", "https://app.example.com"),
        ("https://evil.example.com", ""),
    ];
    for (origin, expected) in table {
        let headers = [("Authorization", token.as_str()), ("Origin", origin)];
        let answer = server
            .http(Method::GET, "/api/v1/stats", &headers, "")
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            expected,
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn origin_with_default_port_is_same_origin() {
    let allowed = r#"["https://App.example.com:443", "http://app.example.com:80"]"#;
    let config = Config::rooms()
        .set("public.allowed_origins", allowed)
        .set("internal.allowed_origins", allowed);
    let server = Server::start(config).await;
    for origin in ["https://app.example.com", "http://app.example.com"] {
        let upgrade = server.ws().token("alice", &[]).origin(origin).upgrade();
        assert_eq!(upgrade.await.map(drop), Ok(()), "{origin}");
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        for preflight in [
            server
                .http(Method::OPTIONS, "/api/v1/events", &headers, "")
                .await,
            server
                .internal_http(
                    Method::OPTIONS,
                    "/tidings.v1.EventService/Publish",
                    &headers,
                    "".into(),
                )
                .await,
        ] {
            let allowed = preflight.header("access-control-allow-origin");
            assert_eq!(allowed, origin, "{preflight:?}");
        }
    }
    let foreign = server
        .ws()
        .token("alice", &[])
        .origin("https://app.example.com:80");
    assert_eq!(foreign.upgrade().await.map(drop), Err(403));
}

#[tokio::test]
async fn origin_that_never_matches_is_refused() {
    for never in [
        "https://a.example/",
        "https://a.example/chat",
        "https://a.example:x",
    ] {
        for key in ["public.allowed_origins", "internal.allowed_origins"] {
            let config = Config::rooms().set(key, &format!("[{never:?}]"));
            let (_, reported) = Server::refuses(config).await;
            assert!(
                reported.contains(key) && reported.contains(never),
                "{reported}"
            );
        }
    }
}

#[tokio::test]
async fn pages_may_send_cloud_events_and_baggage() {
    let allowed = r#"["https://app.example.com"]"#;
    let server = Server::start(Config::rooms().set("public.allowed_origins", allowed)).await;
    let asked = "authorization,baggage,ce-id,ce-source,ce-specversion,ce-type,content-type";
    let headers = |origin| {
        [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", asked),
        ]
    };
    let preflight = server
        .http(
            Method::OPTIONS,
            "/api/v1/events",
            &headers("https://app.example.com"),
            "",
        )
        .await;
    let notified = preflight
        .header("access-control-allow-headers")
        .to_ascii_lowercase();
    for name in asked.split(',') {
        assert!(notified.contains(name), "{name} in {notified:?}");
    }
    let foreign = server
        .http(
            Method::OPTIONS,
            "/api/v1/events",
            &headers("https://evil.example"),
            "",
        )
        .await;
    assert_eq!(foreign.header("access-control-allow-origin"), "");
}
