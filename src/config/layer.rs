//! One source of settings, checked key by key: valid values are kept, problems are collected.

mod lend;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{ImDocument, Item, TableLike};

use super::keys::Key;
use super::kind::Kind;
use super::presets::Preset;
use super::problem::{Place, Problem};
use super::{environment, json, keys};

/// The settings of one source, with their places in it.
#[derive(Debug, Default)]
pub(super) struct Layer {
    values: Dict,
    /// The place of each key, by its path as shown: `namespace[0].name`.
    pub(super) places: BTreeMap<String, Place>,
    /// The problems.
    pub(super) problems: Vec<Problem>,
}

impl Layer {
    /// The declared default of every key outside arrays of tables.
    pub(super) fn defaults() -> Self {
        let mut layer = Layer::default();
        let declared =
            keys::all().filter(|key| key.kind != Kind::Tables && !key.path.contains("[]"));
        for key in declared {
            if let Some(value) = declared_default(key) {
                insert(&mut layer.values, key.path, value);
            }
        }
        layer
    }

    /// The declared default of every key of a repeated table, such as `namespace[]`.
    pub(super) fn defaults_of(table: &str) -> Dict {
        let mut values = Dict::new();
        for key in keys::all() {
            let within = key.path.strip_prefix(table);
            let within = within.and_then(|rest| rest.strip_prefix('.'));
            if let Some(path) = within.filter(|path| !path.contains("[]"))
                && let Some(value) = declared_default(key)
            {
                insert(&mut values, path, value);
            }
        }
        values
    }

    /// Parses a TOML file with this name.
    pub(super) fn file(path: &Path, text: &str) -> Self {
        Layer::document(Source::File { path, text }, text)
    }

    /// Parses a preset.
    pub(super) fn preset(preset: Preset) -> Self {
        Layer::document(Source::Preset(preset), preset.toml)
    }

    fn document(source: Source<'_>, text: &str) -> Self {
        let mut layer = Layer::default();
        match ImDocument::parse(text) {
            Ok(document) => {
                let mut walk = Walk {
                    layer: &mut layer,
                    source,
                };
                let values = walk.table(document.as_table(), "", "");
                layer.take(values);
            }
            Err(error) => layer.problems.push(Problem {
                place: source.place(error.span()),
                key: String::new(),
                message: format!("not valid TOML: {}", error.message().replace('\n', "; ")),
            }),
        }
        layer
    }

    /// Parses the environment variables that are settings.
    pub(super) fn environment(variables: &[(String, String)]) -> Self {
        let mut layer = Layer::default();
        let mut values = Dict::new();
        for (name, text) in variables {
            let Some(path) = environment::path(name) else {
                continue;
            };
            layer.setting(&mut values, &path, text, Place::Environment(name.clone()));
        }
        layer.take(values);
        layer
    }

    /// Takes flags of the command line: the flag, its key and its text.
    pub(super) fn flags(flags: &[(&'static str, &'static str, String)]) -> Self {
        let mut layer = Layer::default();
        let mut values = Dict::new();
        for (flag, path, text) in flags {
            layer.setting(&mut values, path, text, Place::Flag(flag));
        }
        layer.take(values);
        layer
    }

    /// Takes one single setting.
    fn setting(&mut self, values: &mut Dict, path: &str, text: &str, place: Place) {
        let Some(key) = keys::find(path).filter(|key| !key.path.contains("[]")) else {
            let meant = keys::suggest(path);
            let variable = environment::name(meant);
            self.problems.push(Problem {
                place: Some(place),
                key: path.to_owned(),
                message: format!("unknown key {path}, did you mean {meant} ({variable})?"),
            });
            return;
        };
        self.places.insert(path.to_owned(), place.clone());
        let Some(value) = key.kind.read(text).filter(|value| key.kind.takes(value)) else {
            self.problems.push(Problem {
                place: Some(place),
                key: path.to_owned(),
                message: key.kind.expected(),
            });
            return;
        };
        let mut walk = Walk {
            layer: self,
            source: Source::Single(&place),
        };
        if let Some(value) = walk.value(&Item::Value(value), key.kind, path, path) {
            insert(values, path, value);
        }
    }

    /// True if it sets this top-level key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Takes the values; moves a setting under its alternative path to its own path.
    fn take(&mut self, mut values: Dict) {
        let (alias, key) = keys::ALIAS;
        if let Some(place) = self.places.get(alias).cloned() {
            if self.places.contains_key(key) {
                self.problems.push(Problem {
                    place: Some(place.clone()),
                    key: alias.to_owned(),
                    message: format!("set twice: {key} is the same setting"),
                });
            }
            self.places.insert(key.to_owned(), place);
        }
        if let Some(Value::Dict(_, history)) = values.get_mut("history")
            && let Some(channels) = history.remove(key)
        {
            values.insert(key.to_owned(), channels);
        }
        self.values = values;
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("settings")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// A key's declared default. A required key has none, and is empty until it is set.
fn declared_default(key: &Key) -> Option<Value> {
    if key.required {
        return Some(Value::from(""));
    }
    match key.default.parse::<toml_edit::Value>().ok()? {
        toml_edit::Value::InlineTable(table) if table.is_empty() => Some(Value::from(Dict::new())),
        value => plain(&value),
    }
}

/// Puts a table over its defaults.
fn put_over(defaults: &mut Dict, set: Dict) {
    for (name, value) in set {
        match (defaults.get_mut(&name), value) {
            (Some(Value::Dict(_, defaults)), Value::Dict(_, set)) => {
                put_over(defaults, set);
            }
            (_, value) => {
                defaults.insert(name, value);
            }
        }
    }
}

/// Puts a value at a dotted path.
fn insert(values: &mut Dict, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            values.insert(path.to_owned(), value);
        }
        Some((table, rest)) => {
            let inner = values
                .entry(table.to_owned())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The source being parsed.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// A file.
    File { path: &'a Path, text: &'a str },
    /// A preset.
    Preset(Preset),
    /// One variable or flag.
    Single(&'a Place),
}

impl Source<'_> {
    /// The place of a byte range of the file.
    fn place(&self, span: Option<std::ops::Range<usize>>) -> Option<Place> {
        match self {
            Source::Single(place) => Some((*place).clone()),
            Source::File { path, text } => {
                Some(Place::File(path.to_path_buf(), line(text, &span?)))
            }
            Source::Preset(preset) => Some(Place::Preset(preset.name, line(preset.toml, &span?))),
        }
    }

    /// Resolves a path relative to the file's directory.
    fn resolve(&self, path: &str) -> PathBuf {
        let directory = match self {
            Source::File { path, .. } => path.parent().unwrap_or(Path::new("")),
            Source::Single(_) | Source::Preset(_) => Path::new(""),
        };
        if path.is_empty() {
            PathBuf::new()
        } else {
            directory.join(path)
        }
    }
}

/// The line of the beginning of a part of a text, counted from 1.
fn line(text: &str, part: &std::ops::Range<usize>) -> usize {
    let before = text.get(..part.start).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// Traverses a file, or the tables within a variable.
struct Walk<'a> {
    layer: &'a mut Layer,
    source: Source<'a>,
}

impl Walk<'_> {
    /// Reads a table. `pattern` is its path in the list of keys, `shown` its path in messages.
    fn table(&mut self, table: &dyn TableLike, pattern: &str, shown: &str) -> Dict {
        let mut values = Dict::new();
        for (name, item) in table.iter() {
            let (pattern, shown) = (join(pattern, name), join(shown, name));
            let span = table
                .get_key_value(name)
                .and_then(|(key, item)| key.span().or(item.span()));
            if let Some(place) = self.source.place(span) {
                self.layer.places.insert(shown.clone(), place);
            }
            if let Some(value) = self.entry(item, &pattern, &shown) {
                values.insert(name.to_owned(), value);
            }
        }
        values
    }

    /// Reads the entry with one name.
    fn entry(&mut self, item: &Item, pattern: &str, shown: &str) -> Option<Value> {
        if let Some(key) = keys::find(pattern) {
            return self.value(item, key.kind, pattern, shown);
        }
        if !keys::is_table(pattern) {
            let meant = keys::suggest(pattern).replace("[]", "");
            self.wrong(shown, format!("unknown key {shown}, did you mean {meant}?"));
            return None;
        }
        let Some(inner) = item.as_table_like() else {
            self.wrong(shown, String::from("expected a table"));
            return None;
        };
        Some(Value::from(self.table(inner, pattern, shown)))
    }

    /// Reads the value of a known key.
    fn value(&mut self, item: &Item, kind: Kind, pattern: &str, shown: &str) -> Option<Value> {
        if kind == Kind::Tables {
            return self.tables(item, pattern, shown);
        }
        if let Some(inner) = kind.of_each() {
            return self.named(item, kind, inner, shown);
        }
        if kind == Kind::Json {
            let text = json::text(item);
            if text.is_none() {
                self.wrong(shown, kind.expected());
            }
            return text.map(Value::from);
        }
        let Some(value) = item.as_value().filter(|value| kind.takes(value)) else {
            self.wrong(shown, kind.expected());
            return None;
        };
        if kind == Kind::Path {
            let path = self.source.resolve(value.as_str()?);
            return Some(Value::from(path.to_string_lossy().into_owned()));
        }
        plain(value)
    }

    /// Reads a table with arbitrary names.
    fn named(&mut self, item: &Item, kind: Kind, inner: Kind, shown: &str) -> Option<Value> {
        let Some(table) = item.as_table_like() else {
            self.wrong(shown, kind.expected());
            return None;
        };
        let mut values = Dict::new();
        for (name, item) in table.iter() {
            let shown = join(shown, name);
            let span = table
                .get_key_value(name)
                .and_then(|(key, item)| key.span().or(item.span()));
            if let Some(place) = self.source.place(span) {
                self.layer.places.insert(shown.clone(), place);
            }
            if let Some(value) = self.value(item, inner, "", &shown) {
                values.insert(name.to_owned(), value);
            }
        }
        Some(Value::from(values))
    }

    /// Reads an array of tables, in either of TOML's two notations.
    fn tables(&mut self, item: &Item, pattern: &str, shown: &str) -> Option<Value> {
        let tables: Option<Vec<&dyn TableLike>> = match item {
            Item::ArrayOfTables(tables) => Some(
                tables
                    .iter()
                    .map(|table| -> &dyn TableLike { table })
                    .collect(),
            ),
            Item::Value(toml_edit::Value::Array(array)) => array
                .iter()
                .map(|entry| {
                    entry
                        .as_inline_table()
                        .map(|table| -> &dyn TableLike { table })
                })
                .collect(),
            Item::None | Item::Value(_) | Item::Table(_) => None,
        };
        let Some(tables) = tables else {
            self.wrong(shown, Kind::Tables.expected());
            return None;
        };
        let pattern = format!("{pattern}[]");
        let mut values = Vec::with_capacity(tables.len());
        for (index, table) in tables.into_iter().enumerate() {
            let set = self.table(table, &pattern, &format!("{shown}[{index}]"));
            let mut whole = Layer::defaults_of(&pattern);
            put_over(&mut whole, set);
            values.push(Value::from(whole));
        }
        Some(Value::from(values))
    }

    /// Reports a problem with a key whose place is known.
    fn wrong(&mut self, shown: &str, message: String) {
        let place = self.layer.places.get(shown).cloned();
        self.layer.problems.push(Problem {
            place,
            key: shown.to_owned(),
            message,
        });
    }
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}

/// The value without its place in the text.
fn plain(value: &toml_edit::Value) -> Option<Value> {
    match value {
        toml_edit::Value::String(text) => Some(Value::from(text.value().as_str())),
        toml_edit::Value::Integer(number) => Some(Value::from(*number.value())),
        toml_edit::Value::Float(number) => Some(Value::from(*number.value())),
        toml_edit::Value::Boolean(bool) => Some(Value::from(*bool.value())),
        toml_edit::Value::Array(array) => array
            .iter()
            .map(plain)
            .collect::<Option<Vec<_>>>()
            .map(Value::from),
        toml_edit::Value::Datetime(_) | toml_edit::Value::InlineTable(_) => None,
    }
}
