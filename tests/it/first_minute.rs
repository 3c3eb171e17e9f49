//! The first start of Tidings, as a new user sees it.

use std::path::Path;

use serde_json::json;

use crate::harness::{Config, SECRET, Server, Tidings};

#[tokio::test]
async fn dev_mode_prints_token_and_commands() {
    let server = Server::start(Config::dev()).await;
    let printed = server.printed() + &server.log();

    let token = printed
        .split(|c: char| c.is_whitespace() || "\"'=".contains(c))
        .find(|word| word.starts_with("eyJ") && word.split('.').count() == 3)
        .expect("a token");
    let mut ws = server.ws().bearer(token).connect().await;
    ws.lives().await;

    assert!(printed.contains("tidings tail"), "{printed}");
    assert!(
        printed.contains(&format!("http://{}", server.public)),
        "{printed}"
    );

    let line = printed
        .lines()
        .find_map(|l| l.find("tidings publish").map(|at| &l[at..]));
    let line = line.expect("a line that publishes").trim();
    let bin = Path::new(env!("CARGO_BIN_EXE_tidings")).parent().unwrap();
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", line])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(status.status.success(), "{line}: {status:?}");
}

#[tokio::test]
async fn dev_mode_serves_demo_page_and_anonymous_clients() {
    let server = Server::start(Config::dev()).await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type").starts_with("text/html"),
        "{page:?}"
    );

    let origin = format!("http://{}", server.public);
    let mut page = server.ws().origin(&origin).connect().await;
    page.subscribe("anything:1").await;
    page.publish("anything:1", "said.hello", json!({"n": 1}))
        .await;
    assert_eq!(
        page.expect_event("said.hello").await["data"],
        json!({"n": 1})
    );
}

#[tokio::test]
async fn demo_page_exists_only_in_dev_mode() {
    let server = Server::start(Config::rooms()).await;
    server.get("/").await.assert_problem(404);
}

/// As the page at `/` does it, whatever the preset.
#[tokio::test]
async fn guide_names_an_event_that_every_preset_accepts() {
    for preset in ["football", "devplatform", "spc", "photo", "robotics"] {
        let server = Server::start(Config::dev().arg("--preset").arg(preset)).await;
        let guide = server.get("/dev.json").await.json();
        let text = |name: &str| guide[name].as_str().unwrap_or_default().to_owned();
        let mut client = server.ws().path(&text("path")).protocol("tidings.v1.json");
        if guide["anonymous"] == false {
            client = client.bearer(&text("token"));
        }
        let mut page = client.connect().await;
        let data = serde_json::from_str(&text("data")).unwrap();
        page.publish(&text("channel"), &text("event_type"), data)
            .await;
        assert!(text("internal").contains(&server.internal), "{guide}");
        let page = server.get("/").await;
        assert!(page.text().contains("dev.json") && page.text().contains("--dev"));
    }
}

#[tokio::test]
async fn guide_gives_its_token_to_pages_of_this_machine_only() {
    let server = Server::start(Config::dev()).await;
    let get = async |headers: &[(&str, &str)]| {
        server
            .http(http::Method::GET, "/dev.json", headers, "")
            .await
    };
    assert!(get(&[]).await.json()["token"].is_string());
    for foreign in [("Origin", "https://evil.example"), ("Host", "evil.example")] {
        let answer = get(&[foreign]).await;
        assert!(answer.json()["token"].is_null(), "{answer:?}");
    }
}

#[tokio::test]
async fn server_without_key_does_not_start() {
    let (status, reported) = Server::refuses(Config::new().without_key()).await;
    assert_eq!(status.code(), Some(1), "{reported}");
    assert!(
        reported.contains("auth") && reported.contains("--dev"),
        "{reported}"
    );
}

#[tokio::test]
async fn key_is_read_from_environment() {
    let config = Config::rooms()
        .without_key()
        .env("TIDINGS_AUTH__HS256_SECRET", SECRET);
    let server = Server::start(config).await;
    server
        .ws()
        .token("alice", &[])
        .connect()
        .await
        .lives()
        .await;
}

#[tokio::test]
async fn ready_file_contains_bound_addresses() {
    let server = Server::start(Config::rooms()).await;
    for address in [&server.public, &server.internal] {
        let address: std::net::SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback());
        assert_ne!(address.port(), 0);
    }
    assert_eq!(server.get("/readyz").await.status, 200);
    assert!(
        server.log().contains(&server.public),
        "the bound address is logged"
    );
}

#[tokio::test]
async fn unauthenticated_internal_requires_loopback() {
    let config = Config::new()
        .set("internal.listen", r#""0.0.0.0:0""#)
        .set("internal.auth", r#""none""#);
    let (status, reported) = Server::refuses(config).await;
    assert_eq!(status.code(), Some(1), "{reported}");
    assert!(reported.contains("internal"), "{reported}");
}

#[tokio::test]
async fn unknown_config_key_suggests_nearest() {
    let (status, reported) = Server::refuses(Config::new().set("limits.conections", "5")).await;
    assert_eq!(status.code(), Some(1), "{reported}");
    assert!(
        reported.contains("conections") && reported.contains("connections"),
        "{reported}"
    );
}

#[tokio::test]
async fn resync_policy_without_history_is_refused() {
    let keys = "history = { size = 0, ttl = \"1h\" }\nslow_consumer = \"resync\"";
    let (status, reported) = Server::refuses(Config::new().namespace("quick", keys)).await;
    assert_eq!(status.code(), Some(1), "{reported}");
    assert!(reported.contains("resync"), "{reported}");
}

#[tokio::test]
async fn invalid_usage_exits_with_2() {
    Tidings::new(&["serve", "--no-such-flag"])
        .run()
        .await
        .exits(2);
    Tidings::new(&["no-such-command"]).run().await.exits(2);
    Tidings::new(&["publish"]).run().await.exits(2);
}
