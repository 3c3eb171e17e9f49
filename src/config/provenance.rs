//! Every configured value with the place where it stands, for operators.

use std::collections::BTreeMap;

use figment::Figment;
use figment::value::Value;

use super::keys::{self, Key};
use super::kind::Kind;
use super::problem::Place;

/// The longest value that is shown, in bytes: a schema can be long.
const LONGEST: usize = 512;
/// Names of keys whose values are never shown.
const SECRET: [&str; 6] = ["secret", "password", "token", "headers", "api_key", "seed"];

/// Further keys whose values are never shown: URLs with a password.
const SECRET_PATHS: [&str; 2] = ["source[].url", "cluster.redis.urls"];

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredValue {
    /// The key; `[0]` counts the tables of an array.
    pub key: String,
    /// The value, as TOML; empty for a secret.
    pub value: String,
    /// The place, or `default`.
    pub source: String,
    /// Whether the value is withheld.
    pub secret: bool,
    /// Whether SIGHUP changes it.
    pub reloads: bool,
}

/// Where the values of a configuration stand. Configurations with equal values are equal, wherever
/// the values stand.
#[derive(Debug, Clone, Default)]
pub struct Provenance(pub Vec<ConfiguredValue>);

impl PartialEq for Provenance {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Provenance {
    pub(super) fn new(figment: &Figment, places: &BTreeMap<String, Place>) -> Self {
        let mut values = Vec::new();
        for key in keys::all().filter(|key| !key.path.contains("[]")) {
            let Ok(value) = figment.find_value(key.path) else {
                continue;
            };
            if key.kind == Kind::Tables {
                tables(&mut values, key.path, key.path, &value, places);
            } else {
                values.push(described(key, key.path, &value, places));
            }
        }
        Provenance(values)
    }
}

/// The values within an array of tables that are set.
fn tables(
    values: &mut Vec<ConfiguredValue>,
    pattern: &str,
    shown: &str,
    value: &Value,
    places: &BTreeMap<String, Place>,
) {
    let Value::Array(_, tables) = value else {
        return;
    };
    for (index, table) in tables.iter().enumerate() {
        let (pattern, shown) = (format!("{pattern}[]"), format!("{shown}[{index}]"));
        members(values, &pattern, &shown, table, places);
    }
}

fn members(
    values: &mut Vec<ConfiguredValue>,
    pattern: &str,
    shown: &str,
    table: &Value,
    places: &BTreeMap<String, Place>,
) {
    let Value::Dict(_, table) = table else {
        return;
    };
    for (name, value) in table {
        let (pattern, shown) = (format!("{pattern}.{name}"), format!("{shown}.{name}"));
        match keys::find(&pattern) {
            Some(key) if key.kind == Kind::Tables => {
                tables(values, &pattern, &shown, value, places);
            }
            Some(key) => values.push(described(key, &shown, value, places)),
            None => members(values, &pattern, &shown, value, places),
        }
    }
}

fn described(
    key: &Key,
    shown: &str,
    value: &Value,
    places: &BTreeMap<String, Place>,
) -> ConfiguredValue {
    let name = key.path.rsplit('.').next().unwrap_or(key.path);
    let secret =
        SECRET.iter().any(|secret| name.ends_with(secret)) || SECRET_PATHS.contains(&key.path);
    let mut text = if secret { String::new() } else { toml(value) };
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    ConfiguredValue {
        key: shown.to_owned(),
        value: text,
        source: places
            .get(shown)
            .map_or_else(|| "default".to_owned(), Place::to_string),
        secret,
        reloads: key.reloads,
    }
}

/// A value as TOML. A URL loses its user and password.
fn toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => quoted(&without_credentials(text)),
        Value::Array(_, items) => {
            let items: Vec<String> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(_, members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{} = {}", quoted(name), toml(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Bool(_, value) => value.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(number)) => number.to_string(),
            (None, None) => String::new(),
        },
        Value::Char(_, letter) => quoted(&letter.to_string()),
        Value::Empty(..) => String::new(),
    }
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Inputs};

    #[test]
    fn every_value_is_shown_with_its_place_and_no_secret_is() {
        let text = "[auth]\nhs256_secret = \"hunter2-hunter2-hunter2-hunter2-\"\n\
                    jwks_url = \"https://ann:pass@keys.example.com/a\"\n\
                    [[namespace]]\nname = \"project\"\nhistory = { size = 10 }\n";
        let inputs = Inputs {
            environment: vec![("TIDINGS_LIMITS__CONNECTIONS".to_owned(), "7".to_owned())],
            ..Inputs::default()
        };
        let config = Config::from_toml(Path::new("a.toml"), text, &inputs).expect("good");
        let values = &config.provenance.0;
        let find = |key: &str| {
            values
                .iter()
                .find(|value| value.key == key)
                .expect("a value")
        };
        let secret = find("auth.hs256_secret");
        assert!(secret.secret && secret.value.is_empty());
        assert_eq!(secret.source, "a.toml:2");
        assert_eq!(
            find("auth.jwks_url").value,
            "\"https://…@keys.example.com/a\""
        );
        let limit = find("limits.connections");
        assert_eq!(
            (limit.value.as_str(), limit.source.as_str()),
            ("7", "TIDINGS_LIMITS__CONNECTIONS")
        );
        assert_eq!(find("limits.outbox_bytes").source, "default");
        let size = find("namespace[0].history.size");
        assert_eq!((size.value.as_str(), size.reloads), ("10", true));
        let shown = format!("{values:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("pass@"));
    }
}
