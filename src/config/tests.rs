//! Tests of loading: precedence, places, and every check.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Inputs, Problems, Secret, Storage, keys};
use crate::event::SlowConsumer;

fn inputs() -> Inputs {
    Inputs {
        needs_key: true,
        ..Inputs::default()
    }
}

pub(super) fn load(text: &str, inputs: &Inputs) -> Result<Config, Problems> {
    Config::from_toml(Path::new("config.toml"), text, inputs)
}

pub(super) fn environment(pairs: &[(&str, &str)]) -> Inputs {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Inputs {
        environment: pairs.collect(),
        ..Inputs::default()
    }
}

/// The problems of this file plus a key, one per line.
pub(super) fn problems(text: &str) -> String {
    match load(text, &Inputs::default()) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn byte_order_mark_at_start_is_accepted() {
    let text = "\u{feff}[limits]\r\nconnections = 7\r\n";
    let config = load(text, &Inputs::default()).expect("good");
    assert_eq!(config.limits.connections, 7);
    let says = problems("\u{feff}[limits]\r\nconnections = 0\r\n");
    assert!(
        says.starts_with("config.toml:2: limits.connections: "),
        "{says}"
    );
}

const FULL: &str = r#"
[public]
listen = "0.0.0.0:9000"
allowed_origins = ["https://app.example.com"]
[internal]
listen = "127.0.0.1:0"
auth = "none"
[auth]
hs256_secret = "a secret of more than thirty-two bytes"
leeway = "1m"
required = false
[limits]
connections = 5
[heartbeat]
interval = "250ms"
timeout = "1s"
[history]
storage = "memory"
auto_subscribe = ["global", "news:all"]
[[namespace]]
name = "project"
history = { size = 1000, ttl = "2h" }
presence = true
subscribe = 'id in claims.projects'
slow_consumer = "resync"
[[namespace]]
name = "*"
[[event_type]]
name = "project.updated"
namespace = "project"
roles = ["editor"]
conflate_key = "data.job_id"
[telemetry]
sample_ratio = 1
otlp_protocol = "http/protobuf"
"#;

#[test]
fn a_whole_file_is_read() {
    let config = load(FULL, &inputs()).expect("a good file");
    assert_eq!(config.public.listen.port(), 9000);
    assert_eq!(config.auth.leeway, Duration::from_mins(1));
    assert!(!config.auth.required);
    assert_eq!(config.limits.connections, 5);
    assert_eq!(config.limits.connections_per_user, 100);
    assert_eq!(config.heartbeat.interval, Duration::from_millis(250));
    assert_eq!(config.auto_subscribe, ["global", "news:all"]);
    assert_eq!(config.history.storage, Storage::Memory);
    let project = config.namespace.first().expect("a namespace");
    assert_eq!(
        (project.history.size, project.history.bytes),
        (1000, 64 << 20)
    );
    assert_eq!(project.slow_consumer, SlowConsumer::Resync);
    assert_eq!(config.event_type.first().map(|t| t.roles.len()), Some(1));
    assert!((config.telemetry.sample_ratio - 1.0).abs() < f64::EPSILON);
}

#[test]
fn default_file_has_every_key_with_its_default() {
    let text = Config::default_toml();
    let config = load(&text, &Inputs::default()).expect("the default file");
    assert_eq!(config, Config::default());
    let comments = text.replace("\n# ", " ");
    for key in keys::all().filter(|key| !matches!(key.kind, crate::config::kind::Kind::Tables)) {
        assert!(comments.contains(&key.plain_help()), "{}", key.path);
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "lines stay readable"
    );
}

#[test]
fn examples_in_default_file_are_valid() {
    let shown: String = Config::default_toml()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code)
                if code.starts_with('[') && code.ends_with(']')
                    || code
                        .split_once(" = ")
                        .is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                code
            }
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let config = load(&shown, &Inputs::default()).expect("the examples");
    assert_eq!(config.namespace.len(), 1);
    assert_eq!(
        config.namespace.first().map(|n| &n.history),
        Some(&super::NamespaceHistory::default())
    );
    assert_eq!(config.event_type.len(), 1);
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "[public]\nlisten = \"127.0.0.1:1\"\n[internal]\nlisten = \"127.0.0.1:2\"\n[server]\ndrain = \"1s\"";
    let mut inputs = environment(&[
        ("TIDINGS_PUBLIC__LISTEN", "127.0.0.1:3"),
        ("TIDINGS_INTERNAL__LISTEN", "127.0.0.1:4"),
    ]);
    inputs
        .flags
        .push(("--public", "public.listen", String::from("127.0.0.1:5")));
    let config = load(file, &inputs).expect("good");
    assert_eq!(config.public.listen.port(), 5);
    assert_eq!(config.internal.listen.port(), 4);
    assert_eq!(config.server.drain, Duration::from_secs(1));
    assert_eq!(config.heartbeat, Config::default().heartbeat);
}

#[test]
fn environment_sets_values_of_every_kind() {
    let config = load(
        "auto_subscribe = [\"global\"]",
        &environment(&[
            ("TIDINGS_AUTH__HS256_SECRET", "12345"),
            ("TIDINGS_AUTH__ALGORITHMS", "HS256, HS512"),
            ("TIDINGS_AUTH__REQUIRED", "false"),
            (
                "TIDINGS_PUBLIC__ALLOWED_ORIGINS",
                "[\"https://a.example\", \"https://b.example\"]",
            ),
            ("TIDINGS_LIMITS__EVENT_BYTES", "1000"),
            ("TIDINGS_TELEMETRY__SAMPLE_RATIO", "0.5"),
            ("TIDINGS_HISTORY__AUTO_SUBSCRIBE", "news:a,news:b"),
            (
                "TIDINGS_NAMESPACE",
                "[{ name = \"news\", history = { size = 3 } }]",
            ),
            ("TIDINGS_TOKEN", "not a setting"),
            ("TIDINGS_SERVER", "http://127.0.0.1:1"),
            ("TIDINGS_SERVICE_HOST", "10.0.0.1"),
        ]),
    )
    .expect("good");
    assert_eq!(config.auth.hs256_secret, Some(Secret::new("12345")));
    assert_eq!(config.auth.algorithms, ["HS256", "HS512"]);
    assert!(!config.auth.required);
    assert_eq!(
        config.public.allowed_origins,
        ["https://a.example", "https://b.example"]
    );
    assert_eq!(config.limits.event_bytes, 1000);
    assert!((config.telemetry.sample_ratio - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.auto_subscribe, ["news:a", "news:b"]);
    assert_eq!(config.namespace.first().map(|n| n.history.size), Some(3));
}

#[test]
fn without_a_key_the_server_does_not_start_except_for_development() {
    let refused = load("", &inputs()).expect_err("no key");
    let says = refused.to_string();
    assert!(
        says.starts_with("auth: no key to check tokens with: set auth.hs256_secret"),
        "{says}"
    );
    assert!(says.contains("--dev"), "{says}");

    let dev = Inputs {
        dev: Some(Secret::new("made up")),
        ..inputs()
    };
    let config = load("", &dev).expect("for development");
    assert_eq!(config.auth.hs256_secret, Some(Secret::new("made up")));
    assert!(!config.auth.required);

    let config = load("[auth]\nhs256_secret = \"own\"\nrequired = true", &dev).expect("own key");
    assert_eq!(config.auth.hs256_secret, Some(Secret::new("own")));
    assert!(config.auth.required);
}

#[test]
fn for_development_the_internal_listener_may_be_open() {
    let dev = Inputs {
        dev: Some(Secret::new("made up")),
        ..inputs()
    };
    assert!(load("[internal]\nauth = \"none\"\nlisten = \"0.0.0.0:1\"", &dev).is_ok());
}

#[test]
fn paths_in_a_file_are_taken_from_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    let set = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;
    std::fs::write(directory.path().join("jwks.json"), set).expect("write");
    std::fs::write(
        &file,
        "[auth]\njwks_file = \"jwks.json\"\n[audit]\nfile = \"\"",
    )
    .expect("write");
    let config = Config::load(&Inputs {
        file: Some(file),
        ..inputs()
    })
    .expect("good");
    assert_eq!(
        config.auth.jwks_file,
        Some(directory.path().join("jwks.json"))
    );
    assert_eq!(config.audit.file, None);
}

#[test]
fn files_that_are_not_there_are_named() {
    let says = problems("[[event_type]]\nname = \"a\"\nschema_file = \"/nowhere/a.json\"");
    assert!(
        says.starts_with("config.toml:3: event_type[0].schema_file: the file can't be read: "),
        "{says}"
    );
    let missing = Inputs {
        file: Some(PathBuf::from("/nowhere/config.toml")),
        ..inputs()
    };
    let says = Config::load(&missing).expect_err("no file").to_string();
    assert!(
        says.starts_with("/nowhere/config.toml: can't be read: "),
        "{says}"
    );
}

#[test]
fn an_empty_text_means_not_set() {
    let config = load(
        "[auth]\nhs256_secret = \"\"\n[public]\ncert = \"\"",
        &Inputs::default(),
    )
    .expect("good");
    assert_eq!(config.auth.hs256_secret, None);
    assert_eq!(config.public.cert, None);
}
