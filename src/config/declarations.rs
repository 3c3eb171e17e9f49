//! Checks of the declarations in a configuration: namespaces with their rules, and event types with
//! their schemas.

use std::collections::HashSet;

use super::nearest::nearest;
use super::validate::Check;
use super::{Config, EventTypeConfig, NamespaceConfig};
use crate::auth::{NamespaceRules, Policy};
use crate::catalog::{Definition, Part};
use crate::event::{ChannelName, EventType, SlowConsumer};

/// Reports every invalid namespace and event type.
pub(super) fn check(config: &Config, dev: bool, check: &mut Check<'_>) {
    for (index, namespace) in config.namespace.iter().enumerate() {
        one_namespace(namespace, &format!("namespace[{index}]"), check);
    }
    duplicates(
        config.namespace.iter().map(|n| n.name.as_str()),
        "namespace",
        check,
    );
    event_types(config, dev, check);
}

fn one_namespace(namespace: &NamespaceConfig, at: &str, check: &mut Check<'_>) {
    let name = namespace.name.as_str();
    check.expect(
        is_namespace(name) || name == "*",
        &format!("{at}.name"),
        "expected 1 to 255 of A-Z a-z 0-9 _ - . @ / ~, or \"*\"",
    );
    let history = &namespace.history;
    check.expect(
        namespace.slow_consumer != SlowConsumer::Resync || history.size > 0,
        &format!("{at}.slow_consumer"),
        format!("\"resync\" recovers from history: it needs {at}.history.size of at least 1"),
    );
    let lasting = history.size == 0 || !history.ttl.is_zero();
    check.expect(
        lasting,
        &format!("{at}.history.ttl"),
        "expected more than 0s",
    );
    check.expect(
        !namespace.max_idle.is_zero(),
        &format!("{at}.max_idle"),
        "expected more than 0s",
    );
    rules(namespace, at, check);
}

/// Compiles the rules one by one, so that each invalid one is reported.
fn rules(namespace: &NamespaceConfig, at: &str, check: &mut Check<'_>) {
    let rules = [
        NamespaceRules {
            subscribe: namespace.subscribe.clone(),
            ..NamespaceRules::default()
        },
        NamespaceRules {
            publish: namespace.publish.clone(),
            ..NamespaceRules::default()
        },
    ];
    for one in rules {
        if let Err(error) = Policy::new([one], false) {
            check.expect(false, &format!("{at}.{}", error.rule), error.message);
        }
    }
}

fn is_namespace(name: &str) -> bool {
    ChannelName::new(name).is_ok() && !name.contains(':')
}

/// Reports every duplicate name.
pub(super) fn duplicates<'a>(
    names: impl Iterator<Item = &'a str>,
    table: &str,
    check: &mut Check<'_>,
) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        let first = name.is_empty() || seen.insert(name);
        check.expect(
            first,
            &format!("{table}[{index}].name"),
            format!("\"{name}\" is declared twice"),
        );
    }
}

/// The index of the first text that an earlier one equals.
pub(super) fn duplicate_of<'a>(texts: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let mut seen = HashSet::new();
    texts.enumerate().find(|(_, text)| !seen.insert(*text))
}

fn event_types(config: &Config, dev: bool, check: &mut Check<'_>) {
    let declared = config.all_namespaces(dev);
    let declared: Vec<&str> = declared.iter().map(|known| known.name.as_str()).collect();
    for (index, event_type) in config.event_type.iter().enumerate() {
        let at = format!("event_type[{index}]");
        let name = if event_type.control {
            EventType::described(&event_type.name)
        } else {
            EventType::new(&event_type.name)
        };
        if let Err(error) = name {
            check.expect(false, &format!("{at}.name"), error.description());
        }
        let namespace = event_type.namespace.as_str();
        check.expect(
            namespace.is_empty() || namespace == "*" || is_namespace(namespace),
            &format!("{at}.namespace"),
            "expected the name of a namespace",
        );
        home(namespace, &declared, &at, check);
        definition(event_type, &at, check);
        check.expect(
            event_type.conflate_key.as_deref().is_none_or(is_data_path),
            &format!("{at}.conflate_key"),
            "expected a path into the data, such as \"data.job_id\"",
        );
    }
    duplicates(
        config.event_type.iter().map(|t| t.name.as_str()),
        "event_type",
        check,
    );
}

/// A type whose namespace is not declared could not be published anywhere.
fn home(namespace: &str, declared: &[&str], at: &str, check: &mut Check<'_>) {
    let known = declared.contains(&namespace) || declared.contains(&"*");
    if known || !is_namespace(namespace) {
        return;
    }
    let near = nearest(namespace, declared.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
    check.expect(
        false,
        &format!("{at}.namespace"),
        format!("no [[namespace]] \"{namespace}\" is declared{near}"),
    );
}

/// Reads the schema and the example, as the server will.
fn definition(event_type: &EventTypeConfig, at: &str, check: &mut Check<'_>) {
    for (part, inline, file) in [
        ("schema", &event_type.schema, &event_type.schema_file),
        ("example", &event_type.example, &event_type.example_file),
    ] {
        check.expect(
            inline.is_none() || file.is_none(),
            &format!("{at}.{part}_file"),
            format!("set twice: {at}.{part} is the same setting"),
        );
    }
    if let Err(error) = Definition::load(event_type.sources()) {
        let part = match error.part {
            Part::Schema => "schema",
            Part::Example => "example",
        };
        let place = if error.file.is_some() { "_file" } else { "" };
        let message = format!("{error}, of the event type {:?}", event_type.name);
        check.expect(false, &format!("{at}.{part}{place}"), message);
    }
}

/// True for `data.` and names separated by dots.
fn is_data_path(text: &str) -> bool {
    text.strip_prefix("data.")
        .is_some_and(|path| path.split('.').all(|part| !part.is_empty()))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems;

    #[test]
    fn invalid_rule_is_reported_with_line() {
        let says = problems(
            "[[namespace]]\nname = \"a\"\nsubscribe = 'id =='\npublish = 'nobody == id'\n\
             [[namespace]]\nname = \"b\"\nsubscribe = 'user == id'\npublish = ''",
        );
        let lines: Vec<&str> = says.lines().collect();
        assert_eq!(lines.len(), 2, "{says}");
        for (line, start) in lines.iter().zip([
            "config.toml:3: namespace[0].subscribe: not valid CEL: ",
            "config.toml:4: namespace[0].publish: ",
        ]) {
            assert!(line.starts_with(start), "{says}");
        }
    }

    #[test]
    fn namespace_of_event_type_must_be_declared() {
        let says = problems(
            "[[namespace]]\nname = \"rooms\"\n[[event_type]]\nname = \"a.b\"\nnamespace = \"room\"",
        );
        assert_eq!(
            says,
            "config.toml:5: event_type[0].namespace: no [[namespace]] \"room\" is declared; did you \
             mean \"rooms\"?"
        );
        for good in ["rooms", "global", "user", "*", ""] {
            let text = format!(
                "[[namespace]]\nname = \"rooms\"\n[[event_type]]\nname = \"a.b\"\nnamespace = {good:?}"
            );
            assert_eq!(problems(&text), "", "{good}");
        }
        let any = "[[namespace]]\nname = \"*\"\n[[event_type]]\nname = \"a.b\"\nnamespace = \"x\"";
        assert_eq!(problems(any), "");
    }

    #[test]
    fn invalid_schema_is_reported_with_line_and_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("write");
            path.display().to_string()
        };
        let schema = file("schema.json", r#"{"type": "object"}"#);
        let bad = file("bad.json", r#"{"type": "thing"}"#);
        let example = file("example.json", "5");
        let declare = |keys: &str| problems(&format!("[[event_type]]\nname = \"a.b\"\n{keys}"));

        let says = declare(&format!("schema_file = {bad:?}"));
        let start = "config.toml:3: event_type[0].schema_file: not a valid JSON Schema";
        assert!(says.starts_with(start), "{says}");
        let end = format!("(in {bad}), of the event type \"a.b\"");
        assert!(says.ends_with(&end), "{says}");

        let says = declare(&format!(
            "schema_file = {schema:?}\nexample_file = {example:?}"
        ));
        let start = "config.toml:4: event_type[0].example_file: not valid by the type's schema: ";
        assert!(says.starts_with(start), "{says}");
        assert_eq!(declare(&format!("schema_file = {schema:?}")), "");

        let says = declare(&format!("schema = {{}}\nschema_file = {schema:?}"));
        let twice =
            "config.toml:4: event_type[0].schema_file: set twice: event_type[0].schema is the same";
        assert!(says.starts_with(twice), "{says}");
    }

    #[test]
    fn invalid_example_is_reported_with_pointer() {
        let declare = |keys: &str| problems(&format!("[[event_type]]\nname = \"a.b\"\n{keys}"));
        let says = declare(
            "[event_type.schema.properties.n]\ntype = \"integer\"\n\
             [event_type.example]\nn = \"x\"",
        );
        assert_eq!(
            says,
            "config.toml:5: event_type[0].example: not valid by the type's schema: data/n: \
             expected the type integer, of the event type \"a.b\""
        );
        let says = declare("schema = '{\"type\": 5}'");
        let start = "config.toml:3: event_type[0].schema: not a valid JSON Schema";
        assert!(says.starts_with(start), "{says}");
        let says = declare("schema = '{'");
        let expected =
            "config.toml:3: event_type[0].schema: expected a table, or a text that holds JSON";
        assert_eq!(says, expected);
        assert_eq!(
            declare("schema = '{\"type\": \"object\"}'\nexample = '{}'"),
            ""
        );
        assert_eq!(
            problems("[[event_type]]\nname = \"pong\"\ncontrol = true"),
            ""
        );
    }
}
