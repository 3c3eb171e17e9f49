//! Which pages may connect.

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
async fn every_origin_connects_where_that_is_written_out() {
    let server = Server::start(Config::rooms().set("public.allowed_origins", r#"["*"]"#)).await;
    let anywhere = server
        .ws()
        .token("alice", &[])
        .origin("https://anywhere.example.org");
    anywhere.connect().await.lives().await;
}

#[tokio::test]
async fn clients_without_an_origin_are_not_pages() {
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
async fn the_same_origins_may_read_the_api() {
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
