//! Loading as a whole: precedence, places, and every check.

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

fn load(text: &str, inputs: &Inputs) -> Result<Config, Problems> {
    Config::from_toml(Path::new("config.toml"), text, inputs)
}

fn environment(pairs: &[(&str, &str)]) -> Inputs {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Inputs {
        environment: pairs.collect(),
        ..Inputs::default()
    }
}

/// What is wrong with this file, given that it has a key, one problem on a line.
fn problems(text: &str) -> String {
    match load(text, &Inputs::default()) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
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
fn the_default_file_gives_the_defaults_and_names_every_key() {
    let text = Config::default_toml();
    let config = load(&text, &Inputs::default()).expect("the default file");
    assert_eq!(config, Config::default());
    for key in keys::KEYS
        .iter()
        .filter(|key| !matches!(key.path, "namespace" | "event_type"))
    {
        assert!(text.contains(&format!("# {}\n", key.help)), "{}", key.path);
    }
    assert!(
        text.lines().all(|line| line.len() <= 120),
        "lines stay readable"
    );
}

#[test]
fn the_examples_in_the_default_file_are_good() {
    let shown: String = Config::default_toml()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code)
                if code.starts_with('[') || code.contains(" = ") && !code.contains("TIDINGS") =>
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
fn the_environment_sets_every_kind() {
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
fn mistakes_in_the_environment_name_the_variable() {
    for (name, value, says) in [
        (
            "TIDINGS_LIMITS__CONECTIONS",
            "1",
            "TIDINGS_LIMITS__CONECTIONS: unknown key limits.conections, did you mean limits.connections (TIDINGS_LIMITS__CONNECTIONS)?",
        ),
        (
            "TIDINGS_AUTH_HS256_SECRET",
            "x",
            "TIDINGS_AUTH_HS256_SECRET: unknown key auth_hs256_secret, did you mean auth.hs256_secret (TIDINGS_AUTH__HS256_SECRET)?",
        ),
        (
            "TIDINGS_LIMITS__CONNECTIONS",
            "many",
            "TIDINGS_LIMITS__CONNECTIONS: limits.connections: expected a whole number of at least 1",
        ),
        (
            "TIDINGS_HEARTBEAT__TIMEOUT",
            "1s",
            "TIDINGS_HEARTBEAT__TIMEOUT: heartbeat.timeout: expected longer than heartbeat.interval",
        ),
        (
            "TIDINGS_NAMESPACE",
            "[{ nam = \"a\", name = \"a\" }]",
            "TIDINGS_NAMESPACE: unknown key namespace[0].nam, did you mean namespace.name?",
        ),
    ] {
        let problems = load("", &environment(&[(name, value)])).expect_err("a mistake");
        assert_eq!(problems.to_string(), says);
    }
}

#[test]
fn mistakes_in_a_file_name_line_key_and_what_was_expected() {
    for (text, says) in [
        (
            "[limits]\n\nconections = 1",
            "config.toml:3: unknown key limits.conections, did you mean limits.connections?",
        ),
        (
            "[limit]\nconnections = 1",
            "config.toml:1: unknown key limit, did you mean limits?",
        ),
        (
            "\nlimits.event_byte = 1",
            "config.toml:2: unknown key limits.event_byte, did you mean limits.event_bytes?",
        ),
        (
            "[[namespace]]\nname = \"a\"\n[[namespace]]\nname = \"b\"\nhistory = { sise = 1 }",
            "config.toml:5: unknown key namespace[1].history.sise, did you mean namespace.history.size?",
        ),
        (
            "[limits]\nconnections = \"5\"",
            "config.toml:2: limits.connections: expected a whole number of at least 1",
        ),
        (
            "[limits]\nconnections = 0",
            "config.toml:2: limits.connections: expected a whole number of at least 1",
        ),
        (
            "[limits]\nmessage_bytes = -1",
            "config.toml:2: limits.message_bytes: expected a whole number from 1 to 1073741824",
        ),
        ("limits = 5", "config.toml:1: limits: expected a table"),
        (
            "namespace = 5",
            "config.toml:1: namespace: expected an array of tables",
        ),
        (
            "[namespace]\nname = \"a\"",
            "config.toml:1: namespace: expected an array of tables",
        ),
        (
            "[public]\nlisten = \"localhost:80\"",
            "config.toml:2: public.listen: expected an IP address with a port, such as \"127.0.0.1:8000\"",
        ),
        (
            "[heartbeat]\ninterval = 30",
            "config.toml:2: heartbeat.interval: expected a duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\"",
        ),
        (
            "[catalog]\nmode = \"shut\"",
            "config.toml:2: catalog.mode: expected one of \"open\", \"strict\"",
        ),
        (
            "[telemetry]\nsample_ratio = 1.5",
            "config.toml:2: telemetry.sample_ratio: expected a number from 0 to 1",
        ),
        (
            "auto_subscribe = []\n[history]\nauto_subscribe = []",
            "config.toml:3: history.auto_subscribe: set twice: auto_subscribe is the same setting",
        ),
    ] {
        assert_eq!(problems(text), says);
    }
}

#[test]
fn broken_toml_names_the_line_and_shows_no_value() {
    let says = problems("[auth]\nhs256_secret = \"hunter2");
    assert!(
        says.starts_with("config.toml:2: not valid TOML: "),
        "{says}"
    );
    assert!(!says.contains("hunter2"), "{says}");
    let says = problems("[auth]\nhs256_secret = [\"hunter2\"]");
    assert_eq!(
        says,
        "config.toml:2: auth.hs256_secret: expected a text in quotes"
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, says) in [
        (
            "[heartbeat]\ntimeout = \"30s\"",
            "config.toml:2: heartbeat.timeout: expected longer than heartbeat.interval",
        ),
        (
            "[heartbeat]\ninterval = \"0s\"",
            "config.toml:2: heartbeat.interval: expected more than 0s",
        ),
        (
            "[[namespace]]\nname = \"a\"\nslow_consumer = \"resync\"",
            "config.toml:3: namespace[0].slow_consumer: \"resync\" catches up from history: it needs namespace[0].history.size of at least 1",
        ),
        (
            "[[namespace]]\nname = \"a\"\nhistory = { size = 1, ttl = \"0s\" }",
            "config.toml:3: namespace[0].history.ttl: expected more than 0s",
        ),
        (
            "[[namespace]]\nname = \"a\"\nmax_idle = \"0s\"",
            "config.toml:3: namespace[0].max_idle: expected more than 0s",
        ),
        (
            "[[namespace]]\nname = \"a\"\n[[namespace]]\nname = \"a\"",
            "config.toml:4: namespace[1].name: \"a\" is declared twice",
        ),
        (
            "[[namespace]]\nname = \"a:b\"",
            "config.toml:2: namespace[0].name: expected 1 to 255 of A-Z a-z 0-9 _ - . @ / ~, or \"*\"",
        ),
        (
            "[[event_type]]\nname = \"a\"\n[[event_type]]\nname = \"a\"",
            "config.toml:4: event_type[1].name: \"a\" is declared twice",
        ),
        (
            "[[event_type]]\nname = \"ping\"",
            "config.toml:2: event_type[0].name: the name of a control message can't be an event type",
        ),
        (
            "[[event_type]]\nname = \"a\"\nnamespace = \"b:c\"",
            "config.toml:3: event_type[0].namespace: expected the name of a namespace",
        ),
        (
            "[[event_type]]\nname = \"a\"\nconflate_key = \"job\"",
            "config.toml:3: event_type[0].conflate_key: expected a path into the data, such as \"data.job_id\"",
        ),
        (
            "[internal]\nauth = \"none\"\nlisten = \"0.0.0.0:1\"",
            "config.toml:2: internal.auth: \"none\" is only allowed where internal.listen is a loopback address, or with --dev",
        ),
        (
            "[internal]\nauth = \"mtls\"",
            "config.toml:2: internal.auth: \"mtls\" needs internal.cert, internal.key and internal.client_ca",
        ),
        (
            "[internal]\nclient_ca = \"/dev/null\"",
            "config.toml:2: internal.client_ca: needs internal.cert and internal.key",
        ),
        (
            "[public]\ncert = \"/dev/null\"",
            "config.toml:2: public.cert: needs public.key",
        ),
        (
            "[public]\nkey = \"/dev/null\"",
            "config.toml:2: public.key: needs public.cert",
        ),
        (
            "[internal]\nlisten = \"127.0.0.1:8000\"",
            "config.toml:2: internal.listen: expected another address than public.listen",
        ),
        (
            "[auth]\nhs256_secret = \"x\"\nalgorithms = [\"RS256\"]",
            "config.toml:3: auth.algorithms: none of these fits the key that is set, so no token could ever be accepted",
        ),
        (
            "[auth]\njwks_url = \"file:///etc/keys\"",
            "config.toml:2: auth.jwks_url: expected an http or https URL",
        ),
        (
            "[auth]\nuser_claim = \"\"",
            "config.toml:2: auth.user_claim: expected the name of a claim",
        ),
        (
            "[auth]\ndeadline = \"0s\"",
            "config.toml:2: auth.deadline: expected more than 0s",
        ),
        (
            "[public]\nallowed_origins = [\"*\", \"https://a.example\"]",
            "config.toml:2: public.allowed_origins: \"*\" allows every origin and must stand alone",
        ),
        (
            "[public]\nallowed_origins = [\"https://a.example/\"]",
            "config.toml:2: public.allowed_origins: expected origins as browsers send them, without a path: \"https://app.example.com\"",
        ),
        (
            "[history]\nstorage = \"disk\"",
            "config.toml:2: history.storage: not in this build yet: history.storage = \"disk\"",
        ),
        (
            "[history]\nstorage = \"nats\"",
            "config.toml:2: history.storage: not in this build yet: history.storage = \"nats\"",
        ),
        (
            "auto_subscribe = [\"{team}\"]",
            "config.toml:1: auto_subscribe: expected names of channels, where {user} stands for the user",
        ),
        (
            "[websocket]\npath = \"ws\"",
            "config.toml:2: websocket.path: expected a path such as \"/ws\"",
        ),
        (
            "[websocket]\npath = \"/sse\"",
            "config.toml:2: websocket.path: this path is taken",
        ),
        (
            "[telemetry]\notlp_endpoint = \"localhost\"",
            "config.toml:2: telemetry.otlp_endpoint: expected an http or https URL",
        ),
        (
            "[telemetry]\nservice_name = \"\"",
            "config.toml:2: telemetry.service_name: expected a name",
        ),
    ] {
        assert_eq!(problems(text), says);
    }
}

#[test]
fn algorithms_are_an_allow_list_without_none() {
    for text in [
        "algorithms = []",
        "algorithms = [\"none\"]",
        "algorithms = [\"HS256\", \"HS1\"]",
    ] {
        let says = problems(&format!("[auth]\n{text}"));
        assert!(
            says.starts_with("config.toml:2: auth.algorithms: expected some of HS256, "),
            "{says}"
        );
    }
}

#[test]
fn all_problems_are_found_at_once() {
    let says = problems(
        "[limits]\nx = 1\nconnections = -1\n[heartbeat]\ntimeout = \"1s\"\n[catalog]\nmode = 1",
    );
    let lines: Vec<&str> = says
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        lines,
        [
            "config.toml:2",
            "config.toml:3",
            "config.toml:7",
            "config.toml:5"
        ]
    );
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
    std::fs::write(directory.path().join("jwks.json"), "{}").expect("write");
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
