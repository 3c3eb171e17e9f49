//! The declared keys as a commented file, and as rows of the reference.

use super::Config;
use super::keys::{self, Key, TABLES};
use super::kind::Kind;

/// The longest line of a comment, in characters.
const WIDTH: usize = 110;

impl Config {
    /// Every key with its default and a line on its meaning. Parsing it gives the defaults.
    #[must_use]
    pub fn default_toml() -> String {
        let mut text = String::from(
            "# Every key of Tidings with its default. Each can also be set by an environment variable:\n\
             # TIDINGS_ and the dotted path with two underscores for each dot, as in\n\
             # TIDINGS_AUTH__HS256_SECRET. Flags override the environment, and the environment overrides this file.\n\
             # Durations are texts such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\". Relative paths are taken\n\
             # from this file's directory.\n",
        );
        for key in keys::all().filter(|key| !key.path.contains(['.', '[']) && !is_array(key.path)) {
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
            for key in keys::all() {
                let name = key
                    .path
                    .strip_prefix(table)
                    .map(|rest| rest.trim_start_matches("[]"));
                match name.and_then(|rest| rest.strip_prefix('.')) {
                    // Nested tables are printed separately.
                    Some(_) if key.kind == Kind::Tables => {}
                    Some(name) if !name.contains('.') => line(&mut text, key, name, prefix),
                    Some(_) | None => {}
                }
            }
        }
        text
    }
}

/// A key as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The dotted path; `[]` follows the name of a table that may be repeated.
    pub path: &'static str,
    /// The key's name within its table.
    pub name: &'static str,
    /// The row of the Markdown table: key, values, default, whether SIGHUP changes it, meaning.
    pub row: String,
}

impl Config {
    /// Every key that holds a value, as the reference shows it.
    #[must_use]
    pub fn reference() -> Vec<KeyRow> {
        let values = keys::all().filter(|key| key.kind != Kind::Tables);
        values
            .map(|key| {
                let name = match key.path.split_once("[].") {
                    Some((_, name)) => name,
                    None => key.path.rsplit_once('.').map_or(key.path, |(_, name)| name),
                };
                let default = if key.required {
                    String::from("none")
                } else {
                    format!("`{}`", key.default)
                };
                let reload = if key.reloads { "yes" } else { "no" };
                let row = format!(
                    "| `{name}` | {} | {default} | {reload} | {} |",
                    key.kind.summary(),
                    key.help
                );
                KeyRow {
                    path: key.path,
                    name,
                    row,
                }
            })
            .collect()
    }
}

/// True for the tables that may be repeated.
fn is_array(table: &str) -> bool {
    matches!(
        table,
        "namespace" | "event_type" | "dialect" | "dialect[].command" | "webhook"
    )
}

fn line(text: &mut String, key: &Key, name: &str, prefix: &str) {
    for part in wrapped(&key.plain_help()) {
        text.extend(["# ", &part, "\n"]);
    }
    text.extend([prefix, name, " = ", key.default, "\n"]);
}

/// Wraps a text into lines of at most [`WIDTH`] characters, between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}
