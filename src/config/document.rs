//! The whole default configuration as a commented file.

use super::Config;
use super::keys::{KEYS, Key, TABLES};
use super::kind::Kind;

impl Config {
    /// Every key with its default and a line on what it means. Reading it back gives the defaults.
    #[must_use]
    pub fn default_toml() -> String {
        let mut text = String::from(
            "# Every key of Tidings with its default. Each can also be set by an environment variable:\n\
             # TIDINGS_ and the dotted path with two underscores for each dot, as in\n\
             # TIDINGS_AUTH__HS256_SECRET. Flags win over the environment, the environment over this file.\n\
             # Durations are texts such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\". Relative paths are taken\n\
             # from this file's directory.\n",
        );
        for key in KEYS
            .iter()
            .filter(|key| !key.path.contains(['.', '[']) && !is_array(key.path))
        {
            text.push('\n');
            line(&mut text, key, key.path, "");
        }
        for (table, about) in TABLES {
            let mut prefix = "";
            let header = if is_array(table) {
                format!("[[{table}]]")
            } else {
                format!("[{table}]")
            };
            if is_array(table) || table.contains("[]") {
                prefix = "# ";
            }
            text.extend([
                "\n# ",
                about,
                "\n",
                prefix,
                &header.replace("[].", "."),
                "\n",
            ]);
            for key in KEYS {
                let name = key
                    .path
                    .strip_prefix(table)
                    .map(|rest| rest.trim_start_matches("[]"));
                match name.and_then(|rest| rest.strip_prefix('.')) {
                    // Tables within tables stand by themselves.
                    Some(_) if key.kind == Kind::Tables => {}
                    Some(name) if !name.contains('.') => line(&mut text, key, name, prefix),
                    Some(_) | None => {}
                }
            }
        }
        text
    }
}

/// True for the tables that may stand several times.
fn is_array(table: &str) -> bool {
    matches!(
        table,
        "namespace" | "event_type" | "dialect" | "dialect[].command"
    )
}

fn line(text: &mut String, key: &Key, name: &str, prefix: &str) {
    text.extend(["# ", key.help, "\n", prefix, name, " = ", key.default, "\n"]);
}
