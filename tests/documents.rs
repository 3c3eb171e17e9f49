//! Holds the documents to the code: what there is, is written down, and links lead somewhere.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "benches/README.md",
    "clients/README.md",
    "clients/examples/README.md",
    "clients/go/README.md",
    "clients/js/README.md",
    "clients/python/README.md",
    "clients/rust/README.md",
    "deploy/README.md",
    "docs/configuration.md",
    "docs/observability.md",
    "docs/protocol.md",
    "docs/performance.md",
    "docs/socketio.md",
    "docs/systems.md",
    "tests/README.md",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between each `from` and the next `to`.
fn between<'t>(text: &'t str, from: &'t str, to: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(from)
        .skip(1)
        .filter_map(move |rest| rest.split(to).next())
}

/// The paths of all keys, as the list of keys has them.
fn keys(source: &str) -> Vec<String> {
    let list = source.split_once("KEYS:").expect("the list").1;
    let calls = list.split("key(").skip(1);
    calls
        .filter_map(|call| call.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_is_in_the_table_of_its_section() {
    let document = read("docs/configuration.md");
    let keys = keys(&read("src/config/key_list.rs"));
    assert!(keys.len() > 60, "{}", keys.len());
    let mut missing = Vec::new();
    for key in keys {
        let (table, name) = match key.split_once("[].") {
            Some(("namespace", name)) => ("## Namespaces", name),
            Some(("dialect", name)) => ("## Dialects", name),
            Some((_, name)) => ("## Event types", name),
            None if ["namespace", "event_type", "dialect"].contains(&&*key) => continue,
            None => match key.split_once('.') {
                Some((table, name)) => (&*format!("### `[{table}]`"), name),
                None => ("## Keys", &*key),
            },
        };
        let section = document.split_once(table).map_or("", |(_, rest)| rest);
        let section = section.split("\n#").next().unwrap_or_default();
        if !section.contains(&format!("| `{name}` |")) {
            missing.push(key);
        }
    }
    assert!(
        missing.is_empty(),
        "docs/configuration.md lacks {missing:?}"
    );
}

#[test]
fn every_error_code_and_close_code_is_explained() {
    let (source, document) = (read("src/error.rs"), read("docs/protocol.md"));
    let (errors, closes) = source
        .split_once("pub enum CloseCode")
        .expect("both catalogues");
    let errors: Vec<&str> = between(errors, "=> \"", "\",").collect();
    assert_eq!(errors.len(), 10, "{errors:?}");
    let closes: Vec<&str> = closes
        .lines()
        .filter_map(|line| line.trim().split_once(" = ")?.1.strip_suffix(','))
        .filter(|number| number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    assert!(closes.len() >= 15, "{closes:?}");
    for row in errors.iter().map(|code| format!("| `{code}` |")) {
        assert!(document.contains(&row), "{row}");
    }
    for row in closes.iter().map(|code| format!("| {code} |")) {
        assert!(document.contains(&row), "{row}");
    }
}

#[test]
fn every_reserved_name_is_listed_and_explained() {
    let (source, document) = (read("src/event/event_type.rs"), read("docs/protocol.md"));
    let list = source
        .split_once("const RESERVED_EVENT_TYPES")
        .expect("the list")
        .1;
    let list = list.split_once("\n];").expect("its end").0;
    let names: Vec<&str> = between(list, "\"", "\"").step_by(2).collect();
    assert_eq!(names.len(), 25, "the list is closed: {names:?}");
    let reserved = document
        .split_once("### Reserved names")
        .expect("a section")
        .1;
    let (reserved, messages) = reserved.split_once("\n### ").expect("its end");
    for name in names {
        assert!(reserved.contains(&format!("`{name}`")), "{name}");
        let explained = messages.contains(&format!("`{name}`"))
            || messages.contains(&format!("\"{name}\""))
            || name == "received";
        assert!(explained, "{name}");
    }
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in DOCUMENTS {
        let text = read(document);
        let directory = root
            .join(document)
            .parent()
            .expect("a directory")
            .to_owned();
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                root.join(document)
            } else {
                directory.join(path)
            };
            assert!(target.exists(), "{document}: {link}");
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&target).expect("a text");
                let found = there
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{document}: {link}");
            }
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
