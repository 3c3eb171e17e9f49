//! The commands that set up, check and remember: `init`, `context`, `doctor`, `healthcheck`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Config, Finished, Server, Tidings, Token};
use crate::tls::pem;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The JSON objects of an output, one a line.
fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?}")))
        .collect()
}

#[tokio::test]
async fn init_writes_private_configuration_once() {
    let dir = tempfile::tempdir().unwrap();
    let tidings = |args: &[&str]| Tidings::new(args).within(dir.path());
    tidings(&["init"]).run().await.exits(0);
    let file = dir.path().join("tidings.toml");
    assert_eq!(mode(&file), 0o600);
    let first = fs::read_to_string(&file).unwrap();

    let again = tidings(&["init"]).run().await.exits(1);
    assert!(again.stderr.contains("--force"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    tidings(&["init", "--force"]).run().await.exits(0);
    assert_ne!(fs::read_to_string(&file).unwrap(), first, "a fresh secret");

    let checked = tidings(&["check", "tidings.toml"]).run().await.exits(0);
    assert_eq!(checked.stderr, "", "no warning: {checked:?}");
    let token = ["token", "--config", "tidings.toml", "--sub", "backend"];
    tidings(&token).run().await.exits(0);
}

#[tokio::test]
async fn context_supplies_server_and_token() {
    let server = Server::start(Config::rooms()).await;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    let tidings = |args: &[&str]| Tidings::new(args).env("XDG_CONFIG_HOME", home);
    let address = format!("http://{}", server.internal);
    let token = Token::new("operator").roles(&["admin"]).sign();
    let set = ["context", "set", "here", "--server", &address];
    tidings(&set)
        .args(&["--token", &token])
        .run()
        .await
        .exits(0);

    let file = dir.path().join("tidings/contexts.toml");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    tidings(&["stats"]).run().await.exits(0);
    tidings(&["stats", "--context", "here"])
        .run()
        .await
        .exits(0);
    // The token of a context goes to no server that is named otherwise.
    let named = tidings(&["stats", "--server", &address])
        .run()
        .await
        .exits(1);
    assert!(named.stderr.contains("unauthenticated"), "{named:?}");

    let list = tidings(&["context", "list"]).run().await.exits(0);
    assert!(
        list.stdout.contains("until ") && !list.stdout.contains(&token),
        "{list:?}"
    );
    tidings(&["context", "use", "there"]).run().await.exits(1);
    tidings(&["context", "remove", "here"]).run().await.exits(0);
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));
}

#[tokio::test]
async fn healthcheck_tells_ready_from_unreachable() {
    let server = Server::start(Config::rooms()).await;
    let url = format!("http://{}", server.public);
    for command in [
        ["healthcheck", "--url", &url].as_slice(),
        &["healthcheck", "--url", &url, "--live"],
    ] {
        let done = Tidings::new(command).run().await.exits(0);
        assert!(done.stdout.contains("200"), "{done:?}");
    }
    // The listener is found in the configuration.
    let address = server.public.to_string();
    let listen = ("TIDINGS_PUBLIC__LISTEN", address.as_str());
    let found = Tidings::new(&["healthcheck"]).env(listen.0, listen.1);
    found.run().await.exits(0);
    drop(server);
    let done = Tidings::new(&["healthcheck", "--url", &url])
        .run()
        .await
        .exits(1);
    assert!(done.stderr.contains(&url), "{done:?}");
}

#[tokio::test]
async fn healthcheck_and_hints_work_with_tls() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    let mut config = Config::rooms();
    for listener in ["public", "internal"] {
        config = config
            .set(&format!("{listener}.cert"), &format!("{cert:?}"))
            .set(&format!("{listener}.key"), &format!("{key:?}"));
    }
    let tls = Server::start(config).await;
    let plain = Server::start(Config::rooms()).await;
    let url = format!("https://{}", tls.public);
    let done = Tidings::new(&["healthcheck", "--url", &url]).run().await;
    done.exits(0);

    let stats = |address: String| async move {
        let done = Tidings::new(&["stats", "--server", &address])
            .run()
            .await
            .exits(1);
        assert!(done.stderr.contains(&address), "{done:?}");
        done.stderr
    };
    for (address, hint) in [
        (format!("https://{}", plain.internal), "http:// instead"),
        (format!("http://{}", tls.internal), "https://"),
        (format!("https://{}", tls.internal), "--ca"),
        (format!("http://{}", plain.public), "internal listener"),
    ] {
        let told = stats(address).await;
        assert!(told.contains(hint), "{hint}: {told}");
    }
}

#[tokio::test]
async fn errors_are_json_on_request() {
    let error = |done: &Finished| objects(&done.stderr)[0]["error"].clone();
    let address = "http://127.0.0.1:1";
    let done = Tidings::new(&["stats", "--json", "--server", address])
        .run()
        .await
        .exits(1);
    let told = error(&done);
    assert_eq!(told["code"], "unavailable");
    assert!(
        told["message"].as_str().unwrap().contains(address),
        "{told}"
    );
    assert!(
        told["advice"].as_str().unwrap().contains("tidings serve"),
        "{told}"
    );
    let done = Tidings::new(&["publish", "--json"]).run().await.exits(2);
    assert_eq!(error(&done)["code"], "usage");

    let server = Server::start(Config::rooms()).await;
    let done = server
        .cli(&["publish", "not valid", "a.b", "{}", "--json"])
        .run()
        .await
        .exits(1);
    let told = error(&done);
    assert_eq!(told["code"], "invalid_argument", "{told}");
    assert!(!told["fields"].as_array().unwrap().is_empty(), "{told}");
}

#[tokio::test]
async fn doctor_reports_each_check_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config::rooms().set("limits.connections", "10");
    fs::write(dir.path().join("good.toml"), small.to_toml()).unwrap();
    let doctor = |file: &str| {
        let command = ["doctor", "--json", "--config", file];
        Tidings::new(&command).within(dir.path()).run()
    };
    let good = objects(&doctor("good.toml").await.exits(0).stdout);
    for check in [
        "configuration",
        "descriptors",
        "memory",
        "address",
        "clock",
        "store",
    ] {
        assert!(
            good.iter().any(|one| one["check"] == check),
            "{check}: {good:?}"
        );
    }

    // Too many connections, an expired certificate, and addresses at which nobody listens.
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = params.self_signed(&key).unwrap();
    fs::write(
        dir.path().join("cert.pem"),
        pem("CERTIFICATE", expired.der()),
    )
    .unwrap();
    fs::write(
        dir.path().join("key.pem"),
        pem("PRIVATE KEY", &key.serialize_der()),
    )
    .unwrap();
    let bad = Config::rooms()
        .set("limits.connections", "100000000")
        .set("public.cert", "\"cert.pem\"")
        .set("public.key", "\"key.pem\"")
        .set("auth.jwks_url", "\"http://127.0.0.1:1/jwks.json\"")
        .set("cluster.engine", "\"nats\"")
        .set("cluster.nats.urls", "[\"nats://127.0.0.1:1\"]");
    fs::write(dir.path().join("bad.toml"), bad.to_toml()).unwrap();
    let bad = objects(&doctor("bad.toml").await.exits(1).stdout);
    for check in ["descriptors", "certificate", "jwks", "engine"] {
        let failed = bad
            .iter()
            .find(|one| one["check"] == check && one["status"] == "fail")
            .unwrap_or_else(|| panic!("{check}: {bad:?}"));
        assert!(failed["advice"].is_string(), "{failed}");
    }
    let missing = objects(&doctor("missing.toml").await.exits(1).stdout);
    assert_eq!(missing[0]["status"], "fail", "{missing:?}");
}

#[tokio::test]
async fn completions_and_manual_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Tidings::new(&["completions", shell]).run().await.exits(0);
        assert!(script.stdout.contains("healthcheck"), "{shell}");
    }
    let page = Tidings::new(&["man"]).run().await.exits(0);
    assert!(page.stdout.starts_with(".ie") || page.stdout.contains(".TH tidings"));
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("man1");
    let command = ["man", "--to", to.to_str().unwrap()];
    Tidings::new(&command).run().await.exits(0);
    for name in [
        "tidings.1",
        "tidings-publish.1",
        "tidings-catalog-validate.1",
    ] {
        assert!(to.join(name).is_file(), "{name}");
    }
}
