//! Tests that invalid settings are refused with the expected messages.

use super::tests::{environment, load, problems};

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
            "config.toml:2: catalog.mode: expected one of \"open\", \"known\", \"strict\"",
        ),
        (
            "[telemetry]\nsample_ratio = 1.5",
            "config.toml:2: telemetry.sample_ratio: expected a number from 0 to 1",
        ),
        (
            "auto_subscribe = []\n[history]\nauto_subscribe = []",
            "config.toml:3: history.auto_subscribe: set twice: auto_subscribe is the same setting",
        ),
        (
            "auto_subscribe = [\"a\", \"b\"]\n[limits]\nsubscriptions_per_connection = 1",
            "config.toml:1: auto_subscribe: expected at most limits.subscriptions_per_connection channels, which is 1",
        ),
        (
            "[limits]\nsubscriptions_per_connection = 1",
            "config.toml:2: limits.subscriptions_per_connection: expected at least 2, one for each channel of auto_subscribe",
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
fn namespaces_and_event_types_that_make_no_sense_are_refused() {
    for (text, says) in [
        (
            "[server]\ndrain = \"3s\"\ndrain_delay = \"3s\"",
            "config.toml:3: server.drain_delay: expected less than server.drain: it is a part of it",
        ),
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
            "config.toml:3: namespace[0].slow_consumer: \"resync\" recovers from history: it needs namespace[0].history.size of at least 1",
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
    ] {
        assert_eq!(problems(text), says);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, says) in [
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
            "config.toml:2: auth.jwks_url: expected an https URL, or an http one on loopback",
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
            "config.toml:2: public.allowed_origins: \"https://a.example/\" can never match: expected origins as browsers send them, without a path or a slash at the end: \"https://app.example.com\"",
        ),
        (
            "[history]\npath = \"\"",
            "config.toml:2: history.path: expected a directory",
        ),
        (
            "[history]\nstorage = \"nats\"",
            "config.toml:2: history.storage: expected memory or disk: a cluster's history is its engine's (cluster.engine = \"nats\")",
        ),
        (
            "[history]\nstorage = \"disk\"\n[cluster]\nengine = \"nats\"",
            "config.toml:2: history.storage: is for a node that is alone: with cluster.engine, the engine keeps history",
        ),
        (
            "[cluster]\nname = \"a.b\"",
            "config.toml:2: cluster.name: expected 1 to 32 of A-Z a-z 0-9 _ -",
        ),
        (
            "[cluster.nats]\nurls = [\"nats://u:p@host:4222\"]",
            "config.toml:2: cluster.nats.urls: expected URLs such as \"nats://127.0.0.1:4222\" or \"tls://nats.example.com:4222\"; user and password have keys of their own",
        ),
        (
            "[cluster.nats]\nreplicas = 2",
            "config.toml:2: cluster.nats.replicas: expected 0, 1, 3 or 5",
        ),
        (
            "[cluster.nats]\npartitions = 3",
            "config.toml:2: cluster.nats.partitions: expected 1, 2, 4, 8, 16, 32, 64, 128 or 256",
        ),
        (
            "[cluster.nats]\nuser = \"u\"",
            "config.toml:1: cluster.nats.password: expected together with cluster.nats.user",
        ),
        (
            "[cluster.redis]\nurls = [\"http://127.0.0.1\"]",
            "config.toml:2: cluster.redis.urls: expected URLs such as \"redis://127.0.0.1:6379\", rediss:// or redis+sentinel://",
        ),
        (
            "[cluster.redis]\nurls = [\"redis+sentinel://127.0.0.1:26379\"]",
            "config.toml:2: cluster.redis.urls: address 1: expected the master's name as the path",
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
            "[telemetry]\notlp_endpoint = \"http://:4317\"",
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
