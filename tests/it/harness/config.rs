//! The configuration of a server under test.

use std::fmt::Write as _;

use super::SECRET;

/// A builder for a configuration file and the server's arguments.
#[derive(Clone)]
pub struct Config {
    settings: Vec<(String, String, String)>,
    blocks: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The process's limits of file descriptors: soft and hard.
    pub descriptors: Option<(u32, u32)>,
    has_key: bool,
}

impl Config {
    /// Both listeners on free ports, a secret, and no namespaces.
    pub fn new() -> Self {
        let empty = Self {
            settings: Vec::new(),
            blocks: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            descriptors: None,
            has_key: true,
        };
        empty
            .set("public.listen", r#""127.0.0.1:0""#)
            .set("internal.listen", r#""127.0.0.1:0""#)
    }

    /// Like `new`, with the namespaces that most tests use: `room` keeps history and presence and
    /// is open to all, `plain` keeps none and is open to all, `project` has the documented rules.
    pub fn rooms() -> Self {
        Self::new()
            .namespace(
                "room",
                r#"
                history = { size = 5000, ttl = "1h" }
                presence = true
                subscribe = 'true'
                publish = 'true'
                "#,
            )
            .namespace(
                "plain",
                r#"
                history = { size = 0, ttl = "1h" }
                presence = false
                subscribe = 'true'
                publish = 'true'
                "#,
            )
            .namespace(
                "project",
                r#"
                history = { size = 1000, ttl = "1h" }
                presence = true
                subscribe = 'id in claims.projects || "admin" in roles'
                publish = '"editor" in roles'
                "#,
            )
    }

    /// Like `rooms`, with a dialect over Socket.IO, at the default path and beside the WebSocket.
    pub fn socketio() -> Self {
        Self::rooms().block(
            "dialect",
            "devplatform",
            r#"
            protocol = "socket.io"
            paths = ["/socket.io/", "/ws/socket.io/", "/ws/"]
            namespaces = ["/", "/ws"]
            [dialect.control.names]
            heartbeat = []
            [[dialect.command]]
            name = "subscribe"
            does = "subscribe"
            channels = "{room}"
            echo = ["room"]
            "#,
        )
    }

    /// `--dev` without any key.
    pub fn dev() -> Self {
        Self::new().without_key().arg("--dev")
    }

    /// Like `new`, on top of a preset.
    pub fn preset(name: &str) -> Self {
        Self::new().arg("--preset").arg(name)
    }

    /// Removes this key from `[auth]`.
    pub fn without_key(mut self) -> Self {
        self.has_key = false;
        self
    }

    /// Sets `table.key` to a TOML value.
    pub fn set(mut self, path: &str, toml: &str) -> Self {
        let (table, key) = path.rsplit_once('.').expect("table.key");
        self.settings
            .retain(|(t, k, _)| (t.as_str(), k.as_str()) != (table, key));
        self.settings
            .push((table.to_owned(), key.to_owned(), toml.to_owned()));
        self
    }

    /// Sets `auto_subscribe`, which follows `[history]` in the documented file.
    pub fn auto_subscribe(self, channels: &[&str]) -> Self {
        self.set("history.auto_subscribe", &format!("{channels:?}"))
    }

    /// Adds a `[[namespace]]` with these keys.
    pub fn namespace(self, name: &str, keys: &str) -> Self {
        self.block("namespace", name, keys)
    }

    /// Adds an `[[event_type]]` with these keys.
    pub fn event_type(self, name: &str, keys: &str) -> Self {
        self.block("event_type", name, keys)
    }

    /// Adds a `[[source]]` with these keys.
    pub fn source(self, name: &str, keys: &str) -> Self {
        self.block("source", name, keys)
    }

    /// Appends `[[dialect]]` tables in TOML.
    pub fn dialects(mut self, toml: &str) -> Self {
        self.blocks.push_str(toml);
        self
    }

    fn block(mut self, kind: &str, name: &str, keys: &str) -> Self {
        writeln!(self.blocks, "[[{kind}]]\nname = \"{name}\"\n{keys}").unwrap();
        self
    }

    /// Adds an argument to `tidings serve`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Sets an environment variable of the server.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server with these limits of file descriptors.
    pub fn descriptors(mut self, soft: u32, hard: u32) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// The file.
    pub fn to_toml(&self) -> String {
        let mut settings = self.settings.clone();
        if self.has_key {
            settings.push(("auth".into(), "hs256_secret".into(), format!("{SECRET:?}")));
        }
        settings.sort_by(|a, b| a.0.cmp(&b.0));
        let mut toml = String::new();
        let mut open = "";
        for (table, key, value) in &settings {
            if table != open {
                writeln!(toml, "[{table}]").unwrap();
                open = table;
            }
            writeln!(toml, "{key} = {value}").unwrap();
        }
        toml + &self.blocks
    }
}
