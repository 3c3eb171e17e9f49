//! The command line.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Config, SECRET, Server, Tidings, Token};
use crate::tls::pem;

#[tokio::test]
async fn publish_command_reaches_browser_and_prints_json() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let done = server
        .cli(&["publish", "room:1", "said.hello", r#"{"n":1}"#, "--json"])
        .run()
        .await;
    let answer = done.exits(0).json();
    let event = ws.expect_event("said.hello").await;
    assert_eq!(event["data"], json!({"n": 1}));
    assert!(
        answer.to_string().contains(event["id"].as_str().unwrap()),
        "{answer}"
    );
}

#[tokio::test]
async fn refused_publish_command_exits_with_1() {
    let server = Server::start(Config::rooms()).await;
    let done = server
        .cli(&["publish", "not valid", "a.b", "{}"])
        .run()
        .await
        .exits(1);
    assert!(done.stdout.is_empty(), "{done:?}");
    assert!(done.stderr.contains("channel"), "{done:?}");
    let done = server
        .cli(&["publish", "room:1", "a.b", "{not json"])
        .run()
        .await;
    assert!(matches!(done.code, Some(1 | 2)), "{done:?}");
    let nobody = Token::new("alice");
    let done = server
        .cli_as(&nobody, &["publish", "nowhere:1", "a.b", "{}"])
        .run()
        .await
        .exits(1);
    assert!(done.stderr.contains("permission"), "{done:?}");
}

#[tokio::test]
async fn unreachable_server_exits_with_1() {
    let server = Server::start(Config::rooms()).await;
    let command = server.cli(&["stats"]);
    drop(server);
    let done = command
        .within(std::env::temp_dir().as_path())
        .run()
        .await
        .exits(1);
    assert!(!done.stderr.is_empty());
}

#[tokio::test]
async fn tail_prints_live_events() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    let filter = ["--filter", "event.data.n != 4"];
    let mut tail = server
        .cli(&[
            "tail", "room:1", "--rewind", "3", filter[0], filter[1], "--json",
        ])
        .start();
    let mut seen = Vec::new();
    for n in [3, 5, 6] {
        if n == 6 {
            service.count("room:1", "count.up", 6..=6).await;
        }
        let line = tail.expect("count.up").await;
        let event: Value = serde_json::from_str(&line).expect("one JSON object a line");
        seen.push(event["data"]["n"].as_u64().unwrap());
    }
    assert_eq!(seen, [3, 5, 6]);
}

#[tokio::test]
async fn tail_resumes_from_position() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    let answer = service.publish("room:1", "count.up", json!({"n": 4})).await;
    let epoch = &answer.results[0].position.as_ref().unwrap().epoch;
    let since = format!("{epoch}/2");
    let mut tail = server
        .cli(&["tail", "room:1", "--since", &since, "--json"])
        .start();
    for n in [3, 4] {
        let line = tail.expect("count.up").await;
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["data"]["n"], n);
    }
}

#[tokio::test]
async fn stats_connections_and_disconnect_commands_work() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &["editor"]).connect().await;
    let id = ws.id();

    let stats = server.cli(&["stats", "--json"]).run().await.exits(0).json();
    let admin = Token::new("root").roles(&["admin"]);
    let http = server.get_as(&admin, "/api/v1/stats").await.json();
    let members = |json: &Value| {
        json.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&stats), members(&http));
    assert_eq!(stats["connections"]["now"], http["connections"]["now"]);
    assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0, "{stats}");
    let human = server.cli(&["stats"]).run().await.exits(0);
    assert!(!human.stdout.is_empty());

    let list = server.cli(&["connections", "--json"]).run().await.exits(0);
    assert!(
        list.stdout.contains(&id) && list.stdout.contains("alice"),
        "{list:?}"
    );
    let human = server.cli(&["connections"]).run().await.exits(0);
    assert!(human.stdout.contains("alice"), "{human:?}");

    server.cli(&["disconnect", &id]).run().await.exits(0);
    ws.expect_close(4410).await;
    let again = server.cli(&["disconnect", &id]).run().await.exits(1);
    assert!(!again.stderr.is_empty(), "{again:?}");
}

#[tokio::test]
async fn token_command_prints_accepted_token() {
    let server = Server::start(Config::rooms()).await;
    let args = [
        "token",
        "--sub",
        "alice",
        "--role",
        "editor",
        "--role",
        "viewer",
        "--ttl",
        "1h",
        "--channel",
        "vault:*",
    ];
    let done = Tidings::new(&args)
        .within(&server.path(""))
        .env("TIDINGS_AUTH__HS256_SECRET", SECRET)
        .run()
        .await
        .exits(0);
    let token = done.stdout.trim();
    assert_eq!(
        token.split('.').count(),
        3,
        "nothing but the token on stdout: {done:?}"
    );
    let mut ws = server.ws().bearer(token).connect().await;
    assert_eq!(ws.established["user"], "alice");
    assert_eq!(ws.established["roles"], json!(["editor", "viewer"]));
    ws.subscribe("vault:1").await;
    Tidings::new(&["token"]).run().await.exits(2);
}

async fn check(toml: &str) -> crate::harness::Finished {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tidings.toml"), toml).unwrap();
    Tidings::new(&["check", "tidings.toml"])
        .within(dir.path())
        .run()
        .await
}

#[tokio::test]
async fn check_accepts_valid_file() {
    check(&Config::rooms().to_toml()).await.exits(0);
}

#[tokio::test]
async fn check_names_line_of_error() {
    let table = [
        (
            4,
            "[public]\nlisten = \"127.0.0.1:0\"\n[limits]\nconections = 5\n",
            "connections",
        ),
        (2, "[public]\nlisten = 5\n", "listen"),
        (
            3,
            "[auth]\nhs256_secret = \"abcdefghijklmnopqrstuvwxyz0123456789\"\ndeadline = \"soon\"\n",
            "deadline",
        ),
        (
            3,
            "[[namespace]]\nname = \"a\"\nsubscribe = 'id =='\n",
            "subscribe",
        ),
        (2, "[public]\nlisten = \n", ""),
    ];
    for (line, toml, word) in table {
        let done = check(toml).await.exits(1);
        let reported = done.stdout.clone() + &done.stderr;
        assert!(
            reported.contains(&line.to_string()),
            "line {line} of {toml}: {reported}"
        );
        assert!(reported.contains(word), "{word} in {toml}: {reported}");
    }
}

#[tokio::test]
async fn check_refuses_what_serve_refuses() {
    let good = || Config::rooms().without_key();
    let table = [
        (
            "event_type[0].namespace",
            good()
                .set("auth.hs256_secret", &format!("{SECRET:?}"))
                .event_type("a.b", "namespace = \"rooom\""),
        ),
        (
            "audit.file",
            good()
                .set("auth.hs256_secret", &format!("{SECRET:?}"))
                .set("audit.file", "\"no/such/directory/audit.log\""),
        ),
        (
            "audit.file",
            good()
                .set("auth.hs256_secret", &format!("{SECRET:?}"))
                .set("audit.file", "\".\""),
        ),
        (
            "public",
            good()
                .set("auth.hs256_secret", &format!("{SECRET:?}"))
                .set("public.cert", "\"broken.pem\"")
                .set("public.key", "\"broken.pem\""),
        ),
        (
            "auth.public_key_file",
            good()
                .set("auth.public_key_file", "\"broken.pem\"")
                .set("auth.algorithms", "[\"RS256\"]"),
        ),
        (
            "auth.jwks_file",
            good()
                .set("auth.jwks_file", "\"broken.pem\"")
                .set("auth.algorithms", "[\"RS256\"]"),
        ),
    ];
    for (key, config) in table {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("broken.pem"), "-----BEGIN NOTHING-----\n").unwrap();
        fs::write(dir.path().join("checked.toml"), config.to_toml()).unwrap();
        let checked = Tidings::new(&["check", "checked.toml"])
            .within(dir.path())
            .run()
            .await
            .exits(1);
        assert!(checked.stderr.contains(key), "{key}: {checked:?}");
        let (status, reported) = Server::refuses_in(dir.path(), config).await;
        assert!(
            !status.success() && reported.contains(key),
            "{key}: {reported}"
        );
    }
}

#[tokio::test]
async fn check_names_line_of_namespace_and_audit_file() {
    let toml = "[[namespace]]\nname = \"rooms\"\n[[event_type]]\nname = \"a.b\"\n\
                namespace = \"room\"\n[audit]\nfile = \"no/such/directory/audit.log\"\n";
    let done = check(toml).await.exits(1);
    let lines: Vec<&str> = done.stderr.lines().collect();
    let [namespace, audit] = lines.as_slice() else {
        panic!("{done:?}");
    };
    assert!(
        namespace.starts_with("tidings.toml:5: event_type[0].namespace: "),
        "{done:?}"
    );
    assert!(namespace.contains("did you mean \"rooms\"?"), "{done:?}");
    assert!(
        audit.starts_with("tidings.toml:7: audit.file: can't be written: "),
        "{done:?}"
    );
}

#[tokio::test]
async fn check_warns_about_burst_below_subscriptions() {
    let done = check(
        &Config::rooms()
            .set("limits.messages_burst", "100")
            .to_toml(),
    )
    .await
    .exits(0);
    assert!(done.stderr.contains("limits.messages_burst: "), "{done:?}");
    let done = check(&Config::rooms().to_toml()).await.exits(0);
    assert!(!done.stderr.contains("limits."), "{done:?}");
    for preset in ["football", "devplatform", "spc", "photo", "robotics"] {
        let done = Tidings::new(&["check", "--preset", preset]).run().await;
        assert!(
            !done.exits(0).stderr.contains("limits.messages_burst"),
            "{preset}"
        );
    }
}

#[tokio::test]
async fn check_names_line_of_invalid_key_files() {
    let dir = tempfile::tempdir().unwrap();
    let broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    fs::write(dir.path().join("broken.pem"), broken).unwrap();
    fs::write(dir.path().join("empty.json"), r#"{"keys": []}"#).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(
        dir.path().join("cert.pem"),
        pem("CERTIFICATE", made.cert.der()),
    )
    .unwrap();
    let key = pem("PRIVATE KEY", &made.signing_key.serialize_der());
    fs::write(dir.path().join("key.pem"), &key).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = pem("PRIVATE KEY", &other.signing_key.serialize_der());
    fs::write(dir.path().join("other.pem"), other).unwrap();
    let secret = "hs256_secret = \"abcdefghijklmnopqrstuvwxyz0123456789\"";
    for (toml, says) in [
        (
            "[auth]\npublic_key_file = \"broken.pem\"\n".to_owned(),
            ":2: auth.public_key_file: ",
        ),
        (
            "[auth]\npublic_key_file = \"key.pem\"\n".to_owned(),
            ":2: auth.public_key_file: ",
        ),
        (
            "[auth]\njwks_file = \"empty.json\"\n".to_owned(),
            ":2: auth.jwks_file: ",
        ),
        (
            "[auth]\njwks_url = \"http://id.example.com/k\"\n".to_owned(),
            ":2: auth.jwks_url: ",
        ),
        (
            format!("[public]\ncert = \"broken.pem\"\nkey = \"key.pem\"\n[auth]\n{secret}\n"),
            ":2: public.cert: ",
        ),
        (
            format!("[internal]\ncert = \"cert.pem\"\nkey = \"cert.pem\"\n[auth]\n{secret}\n"),
            ":3: internal.key: ",
        ),
        (
            format!("[public]\ncert = \"cert.pem\"\nkey = \"other.pem\"\n[auth]\n{secret}\n"),
            ":2: public.cert: ",
        ),
        (
            format!(
                "[internal]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"broken.pem\"\n[auth]\n{secret}\n"
            ),
            ":4: internal.client_ca: ",
        ),
    ] {
        fs::write(dir.path().join("tidings.toml"), &toml).unwrap();
        for command in [
            ["check", "tidings.toml"].as_slice(),
            &["serve", "--config", "tidings.toml"],
        ] {
            let done = Tidings::new(command)
                .within(dir.path())
                .run()
                .await
                .exits(1);
            assert!(
                done.stderr.contains(says),
                "{command:?} of {toml}: {done:?}"
            );
        }
    }
    let good = format!("[public]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[auth]\n{secret}\n");
    fs::write(dir.path().join("tidings.toml"), good).unwrap();
    let check = Tidings::new(&["check", "tidings.toml"]).within(dir.path());
    check.run().await.exits(0);
}

#[tokio::test]
async fn check_of_missing_file_fails() {
    Tidings::new(&["check", "no-such-file.toml"])
        .run()
        .await
        .exits(1);
}

#[tokio::test]
async fn printed_config_is_complete_and_accepted() {
    let done = Tidings::new(&["config"]).run().await.exits(0);
    for table in [
        "public",
        "internal",
        "auth",
        "limits",
        "heartbeat",
        "history",
        "namespace",
        "catalog",
        "websocket",
        "telemetry",
        "audit",
    ] {
        assert!(done.stdout.contains(table), "{table}");
    }
    assert!(done.stdout.contains('#'));
    check(&done.stdout).await.exits(0);
}

#[tokio::test]
async fn help_and_version_exit_with_0() {
    let help = Tidings::new(&["--help"]).run().await.exits(0);
    for command in [
        "serve",
        "publish",
        "tail",
        "stats",
        "connections",
        "disconnect",
        "token",
        "check",
        "config",
        "catalog",
        "bench",
    ] {
        assert!(help.stdout.contains(command), "{command}: {help:?}");
    }
    let version = Tidings::new(&["--version"]).run().await.exits(0);
    assert!(
        version.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{version:?}"
    );
}

#[tokio::test]
async fn bench_predicts_filtered_events() {
    let server = Server::start(Config::rooms()).await;
    let (url, grpc) = (format!("ws://{}/ws", server.public), &server.internal);
    for transport in ["ws", "grpc"] {
        let subscribers = ["--transport", transport, "--filters", "10"];
        let traffic = ["--publish", "stream", "--rate", "200", "--duration", "0.5"];
        let report = Tidings::new(&["bench", "--json", "--warmup", "0", "--connections", "20"])
            .env("TIDINGS_AUTH__HS256_SECRET", SECRET);
        let words = subscribers.iter().chain(&traffic);
        let report = words
            .chain(&["--url", &url, "--grpc", grpc])
            .fold(report, |command, word| command.arg(word))
            .run()
            .await
            .exits(0)
            .json();
        let events = report["publish"]["events"].as_u64().unwrap();
        let deliveries = report["delivery"]["deliveries"].as_u64().unwrap();
        assert!(events > 10, "{report}");
        // Each event is withheld from two of the twenty.
        assert_eq!(deliveries, events * 18, "{transport}: {report}");
    }
}

#[tokio::test]
async fn bench_supports_every_publish_mode() {
    let server = Server::start(Config::rooms().set("limits.messages_per_second", "0")).await;
    let url = format!("ws://{}/ws", server.public);
    for by in ["unary", "batch", "stream", "websocket", "http"] {
        let report = Tidings::new(&["bench", "--json", "--warmup", "0", "--duration", "0.5"])
            .args(&["--connections", "6", "--channels", "3", "--publishers", "2"])
            .args(&["--rate", "200", "--window", "4"])
            .args(&["--publish", by, "--url", &url, "--grpc", &server.internal])
            .env("TIDINGS_AUTH__HS256_SECRET", SECRET)
            .run()
            .await
            .exits(0)
            .json();
        let events = report["publish"]["events"].as_u64().unwrap();
        let deliveries = report["delivery"]["deliveries"].as_u64().unwrap();
        assert!(events > 10, "{by}: {report}");
        // Each channel has two of the six.
        assert_eq!(deliveries, events * 2, "{by}: {report}");
        let answered = &report["publish"]["acknowledged_ms"];
        assert!(answered["max"].as_f64().unwrap() > 0.0, "{by}: {report}");
    }
}

#[tokio::test]
async fn bench_counts_refused_websocket_publishes() {
    let config = Config::rooms()
        .set("limits.messages_per_second", "1")
        .set("limits.messages_burst", "100");
    let server = Server::start(config).await;
    let report = Tidings::new(&["bench", "--json", "--warmup", "0", "--duration", "1"])
        .args(&["--publish", "websocket", "--connections", "0"])
        .args(&["--rate", "190"])
        .args(&["--url", &format!("ws://{}/ws", server.public)])
        .env("TIDINGS_AUTH__HS256_SECRET", SECRET)
        .run()
        .await
        .exits(1)
        .json();
    let count = |name: &str| report["publish"][name].as_u64().unwrap();
    // A burst of 100 and one per second are accepted. Without pacing, a hundred refusals in a row
    // would end the run.
    let accepted = count("events") - count("refused");
    assert!((100..110).contains(&accepted), "{report}");
    let sample = report["samples"][0].as_str().unwrap();
    assert!(sample.contains("limits.messages_per_second"), "{report}");
}
