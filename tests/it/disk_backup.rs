//! `tidings backup` and `tidings restore`.

use serde_json::json;

use crate::harness::{Config, Server, Tidings, Token};

fn config() -> Config {
    Config::rooms()
        .set("history.storage", r#""disk""#)
        .set("server.drain", r#""1s""#)
}

#[tokio::test]
async fn live_backup_restores_with_new_epoch() {
    let server = Server::start(config()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=20).await;
    let made = server.cli(&["backup", "a.backup", "--json"]).run().await;
    let made = made.exits(0).json();
    assert_eq!(
        (&made["channels"], &made["events"]),
        (&json!(1), &json!(20))
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(server.path("a.backup")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let unnamed = server.cli(&["backup", "-"]).run().await;
    assert!(
        unnamed
            .exits(1)
            .stderr
            .contains("-: a backup is written to a file")
    );
    // It never overwrites.
    server.cli(&["backup", "a.backup"]).run().await.exits(1);
    service.count("room:1", "count.up", 21..=25).await;

    let dir = server.stop().await;
    let restore = ["restore", "a.backup", "--to", "tidings-data"];
    let over = Tidings::new(&restore).within(dir.path()).run().await;
    assert!(over.exits(1).stderr.contains("not empty"));
    std::fs::remove_dir_all(dir.path().join("tidings-data")).unwrap();
    Tidings::new(&restore)
        .within(dir.path())
        .run()
        .await
        .exits(0);

    let server = Server::start_in(dir, config()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let since = json!({"since": {"room:1": {"epoch": before["epoch"], "offset": 7}}});
    let reply = ws.subscribe_with("room:1", since).await;
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_eq!(reply["offset"], 20, "{reply}");
    let mut ws = server.ws().token("bob", &[]).connect().await;
    let reply = ws.subscribe_with("room:1", json!({"rewind": 100})).await;
    assert_eq!(reply["replayed"], 20, "{reply}");
    assert_eq!(
        ws.numbers("count.up", 20).await,
        (1..=20).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn backup_requires_admin_and_disk_store() {
    let server = Server::start(config()).await;
    let service = Token::new("service").roles(&["service"]);
    let refused = server.cli_as(&service, &["backup", "a.backup"]).run().await;
    let reported = refused.exits(1).stderr;
    assert!(reported.contains("permission_denied"), "{reported}");
    assert!(!server.path("a.backup").exists() && !server.path("a.backup.partial").exists());

    let server = Server::start(Config::rooms()).await;
    let refused = server.cli(&["backup", "a.backup"]).run().await;
    let reported = refused.exits(1).stderr;
    assert!(reported.contains("history.storage"), "{reported}");
}
