//! Checks the imports of the source tree: each layer imports only from layers below it.
//!
//! `ARCHITECTURE.md` describes each layer; [`LAYERS`] lists their order.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The layers of `src/`, the lowest first. Layers on the same line do not import each other.
const LAYERS: &[&[&str]] = &[
    &["error", "clock"],
    &["event", "lifecycle"],
    &["maybe_ready", "filter", "telemetry"],
    &["audit"],
    &["auth"],
    &["fair_queue", "outbound"],
    &["catalog", "hooks"],
    &["broker"],
    &["hub"],
    &["net"],
    &["cluster"],
    &["webhooks"],
    &["session"],
    &["admin", "sources"],
    &["api", "proto"],
    &["protocol"],
    &["transport"],
    &["config"],
    &["server"],
    &["cli"],
];

/// Files that belong to no layer: the crate's root and the program's.
const ROOTS: [&str; 2] = ["lib", "main"];

/// The level of each layer, the lowest at 0.
fn levels() -> BTreeMap<&'static str, usize> {
    let layers = LAYERS.iter().enumerate();
    layers
        .flat_map(|(level, names)| names.iter().map(move |name| (*name, level)))
        .collect()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The layer of a file: the first component of its path within `src/`.
fn layer_of(path: &Path) -> String {
    let first = path.components().next().expect("a path within src");
    Path::new(first.as_os_str())
        .with_extension("")
        .to_string_lossy()
        .into_owned()
}

/// A source text without its line comments.
fn without_comments(text: &str) -> String {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

/// The names directly under `crate::` in a text: in `use` lines, in groups and in single paths.
fn named_layers(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (_, after) in code
        .match_indices("crate::")
        .map(|(at, path)| (at, &code[at + path.len()..]))
    {
        match after.strip_prefix('{') {
            Some(group) => named.extend(group_members(group)),
            None => named.push(first_name(after)),
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn first_name(text: &str) -> String {
    let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text.trim_start().chars().take_while(is_part).collect()
}

/// The first names of the members of a group, up to the brace that closes it.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut members, mut starts) = (0_usize, Vec::new(), true);
    for (at, letter) in group.char_indices() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            _ if starts && !letter.is_whitespace() => {
                members.push(first_name(&group[at..]));
                starts = false;
            }
            _ => {}
        }
    }
    members
}

/// The errors in the imports of one file.
fn violations(layer: &str, code: &str) -> Vec<String> {
    let levels = levels();
    let Some(own) = levels.get(layer) else {
        return vec![format!("{layer} is not in the table of layers")];
    };
    let names = named_layers(code).into_iter().filter(|name| name != layer);
    names
        .filter_map(|name| match levels.get(name.as_str()) {
            None => Some(format!("{layer} names crate::{name}, which is no layer")),
            Some(level) if level >= own => {
                Some(format!("{layer} imports {name}, which is not below it"))
            }
            Some(_) => None,
        })
        .collect()
}

#[test]
fn each_layer_imports_only_from_layers_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    let mut read = 0;
    for file in files {
        let inside = file.strip_prefix(&src).expect("it is within src");
        let layer = layer_of(inside);
        if ROOTS.contains(&layer.as_str()) {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        let found = violations(&layer, &without_comments(&text));
        wrong.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", inside.display())),
        );
    }
    assert!(read > 50, "only {read} files were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn architecture_lists_the_layers_in_this_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("the document can be read");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut listed = Vec::new();
    for row in rows {
        let cell = row.split(" |").next().unwrap_or_default();
        let named = |part: &str| {
            let name = part.strip_suffix('/').or_else(|| part.strip_suffix(".rs"));
            name.map(str::to_owned)
        };
        listed.extend(cell.split('`').filter_map(named));
    }
    let expected: Vec<&str> = LAYERS
        .iter()
        .flat_map(|names| names.iter().copied())
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn import_from_higher_or_same_layer_is_found() {
    for (layer, code) in [
        ("hub", "use crate::session::Session;"),
        (
            "hub",
            "use crate::{error::Error, session::{Session, Services}};",
        ),
        ("protocol", "let page = crate::transport::http::routes();"),
        ("telemetry", "use crate::hub::Hub;"),
        ("hub", "use crate::unheard_of::Thing;"),
        ("unheard_of", ""),
    ] {
        assert!(!violations(layer, code).is_empty(), "{layer}: {code}");
    }
    for (layer, code) in [
        (
            "session",
            "use crate::{\n    hub::{Hub, ConnCtx},\n    error::Error,\n};",
        ),
        ("hub", "use crate::filter::EventFilter;"),
        (
            "hub",
            &without_comments("    /// See [`crate::session`].\nuse crate::error;"),
        ),
    ] {
        assert_eq!(
            violations(layer, code),
            Vec::<String>::new(),
            "{layer}: {code}"
        );
    }
}

/// The first names after `crate::transport::` in a text.
fn named_transports(code: &str) -> Vec<String> {
    let paths = code.match_indices("crate::transport::");
    paths
        .map(|(at, path)| first_name(&code[at + path.len()..]))
        .collect()
}

#[test]
fn no_transport_knows_another() {
    const TRANSPORTS: [&str; 4] = ["ws", "socketio", "grpc", "http"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/transport");
    for own in TRANSPORTS {
        let mut files = Vec::new();
        rust_files(&root.join(own), &mut files);
        assert!(!files.is_empty(), "{own} has no files");
        for file in files {
            let text = std::fs::read_to_string(&file).expect("the file can be read");
            for named in named_transports(&without_comments(&text)) {
                let other = TRANSPORTS.contains(&named.as_str()) && named != own;
                assert!(!other, "{} names {named}", file.display());
            }
        }
    }
}

/// The publishers' side of the hub: what runs between a broker and the queues of the shards. A
/// publisher reaches a shard only through its queue and `hub/round.rs`, so these files compile and
/// are tested without a connection.
const PUBLISHERS_SIDE: [&str; 11] = [
    "deliver",
    "delivery",
    "dialect_ids",
    "interest",
    "permits",
    "pipe",
    "round",
    "settings",
    "shard_cell",
    "shard_thread",
    "wakeups",
];

/// The code of a file without its unit tests, which stand at its end.
fn without_tests(code: &str) -> &str {
    let tests = code.find("#[cfg(test)]\nmod tests");
    &code[..tests.unwrap_or(code.len())]
}

#[test]
fn publishers_side_of_the_hub_names_neither_shard_nor_hub() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hub");
    for name in PUBLISHERS_SIDE {
        let file = root.join(name).with_extension("rs");
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        let code = without_comments(&text);
        for named in ["shard::", "super::Hub;", "hub::Hub;", "Hub,"] {
            let found = without_tests(&code).contains(named);
            assert!(!found, "{} names {named}", file.display());
        }
    }
}
