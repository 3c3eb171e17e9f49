use std::collections::BTreeSet;

use super::*;

fn schema(text: &str) -> Schema {
    Schema::compile(text).expect("a schema")
}

fn refused(text: &str) -> String {
    Schema::compile(text).expect_err("not a schema").to_string()
}

#[test]
fn violation_has_pointer_and_expectation_but_no_value() {
    for (text, data, path, message) in [
        (
            r#"{"type": "object"}"#,
            "[]",
            "",
            "expected the type object",
        ),
        (
            r#"{"properties": {"items": {"items": {"type": ["string", "null"]}}}}"#,
            r#"{"items": ["a", 4711]}"#,
            "/items/1",
            "expected one of the types null, string",
        ),
        (
            r#"{"required": ["n"]}"#,
            "{}",
            "",
            r#"expected the property "n""#,
        ),
        (
            r#"{"items": {"minimum": 3}}"#,
            "[2]",
            "/0",
            "expected at least 3",
        ),
        (
            r#"{"maxLength": 2}"#,
            r#""hunter2""#,
            "",
            "expected at most 2 characters",
        ),
        (
            r#"{"pattern": "^a+$"}"#,
            r#""hunter2""#,
            "",
            "expected a text that matches ^a+$",
        ),
        (
            r#"{"enum": [1, "b"]}"#,
            "2",
            "",
            r#"expected one of [1,"b"]"#,
        ),
        (r#"{"const": 1}"#, "2", "", "expected 1"),
        (
            r#"{"properties": {"z": true}, "additionalProperties": false}"#,
            r#"{"a": 1, "b": 2, "c": 3, "d": 4}"#,
            "",
            r#"expected no property "a", "b", "c" and 1 more"#,
        ),
        (
            r#"{"uniqueItems": true}"#,
            "[1, 1]",
            "",
            "expected items that all differ",
        ),
        (
            r#"{"anyOf": [{"const": 1}, {"const": 2}]}"#,
            "3",
            "",
            "expected a value that fits one of the schemas of anyOf",
        ),
        (
            r#"{"propertyNames": {"maxLength": 1}}"#,
            r#"{"ab": 1}"#,
            "",
            "in the name of a property: expected at most 1 characters",
        ),
        (
            r#"{"properties": {"a/b": {"type": "null"}}}"#,
            r#"{"a/b": 1}"#,
            "/a~1b",
            "expected the type null",
        ),
        (
            r##"{"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}"##,
            "true",
            "",
            "expected the type number",
        ),
        ("false", "1", "", "expected nothing here"),
    ] {
        let violations = schema(text).violations(data.as_bytes());
        let expected = Violation {
            path: path.to_owned(),
            message: message.to_owned(),
        };
        assert_eq!(violations, [expected], "{text} {data}");
    }
}

#[test]
fn valid_payloads_have_no_violations() {
    for (text, data) in [
        ("true", "[1]"),
        ("{}", "null"),
        (r#"{"type": "integer"}"#, "1.0"),
        // An annotation.
        (r#"{"format": "date-time"}"#, r#""tomorrow""#),
    ] {
        assert_eq!(
            schema(text).violations(data.as_bytes()),
            [],
            "{text} {data}"
        );
    }
}

#[test]
fn non_json_violates_as_a_whole() {
    let violations = schema("true").violations(b"{");
    assert_eq!(
        violations,
        [Violation::of_all(
            "expected valid JSON: line 1 column 1: EOF while parsing an object"
        )]
    );
}

#[test]
fn at_most_eight_violations_are_reported() {
    let schema = schema(r#"{"items": {"type": "string"}}"#);
    let violations = schema.violations(b"[1,1,1,1,1,1,1,1,1,1]");
    assert_eq!(violations.len(), MAX_VIOLATIONS);
    let paths: BTreeSet<&str> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(paths.len(), MAX_VIOLATIONS);
    assert_eq!(violations[0].in_data(), "data/0: expected the type string");
}

#[test]
fn large_payload_reports_one_violation() {
    let data = format!("[{}1]", "1,".repeat(MAX_COLLECTED));
    let plain = schema(r#"{"items": {"type": "string"}}"#);
    let violations = plain.violations(data.as_bytes());
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].path, "/0");

    let branched = schema(r#"{"anyOf": [{"items": {"type": "string"}}, {"type": "null"}]}"#);
    assert_eq!(
        branched.violations(data.as_bytes()),
        [Violation::of_all("expected what the schema describes")]
    );
    let fitting = schema(r#"{"anyOf": [{"items": {"type": "integer"}}]}"#);
    assert_eq!(fitting.violations(data.as_bytes()), []);
}

#[test]
fn overlong_pointer_falls_back_to_ancestor() {
    let schema = schema(r#"{"properties": {"a": {"additionalProperties": {"type": "null"}}}}"#);
    let name = "ä".repeat(MAX_PATH);
    let violations = schema.violations(format!(r#"{{"a": {{"{name}": 1}}}}"#).as_bytes());
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].path, "/a");
}

#[test]
fn invalid_schema_is_refused_with_pointer() {
    for (text, message_start) in [
        (
            "{",
            "expected valid JSON: line 1 column 1: EOF while parsing an object",
        ),
        (
            r#"{"properties": {"n": {"minimum": "x"}}}"#,
            "not a valid JSON Schema (2020-12): /properties/n/minimum: expected the type number",
        ),
        (
            r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#,
            "$schema: expected \"https://json-schema.org/draft/2020-12/schema\"",
        ),
        (
            r#"{"properties": {"a": {"pattern": "(?=a)b"}}}"#,
            "not a valid JSON Schema (2020-12): /properties/a/pattern: expected a regular expression without look-around",
        ),
        (
            r#"{"pattern": "(a)\\1"}"#,
            "not a valid JSON Schema (2020-12): /pattern: expected a regular expression",
        ),
        (
            r#"{"pattern": "((a{1000}){1000}){1000}"}"#,
            "not a valid JSON Schema (2020-12): /pattern: expected a regular expression",
        ),
    ] {
        let message = refused(text);
        assert!(message.starts_with(message_start), "{text}: {message}");
    }
}

#[test]
fn external_references_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let other = directory.path().join("other.json");
    std::fs::write(&other, "true").expect("write");
    let file = format!("file://{}", other.display());
    for reference in [
        "https://example.com/a.json",
        "http://127.0.0.1:1/a.json",
        "other.json",
        file.as_str(),
        "#/$defs/nothing",
    ] {
        let message = refused(&format!(r#"{{"items": {{"$ref": "{reference}"}}}}"#));
        assert!(
            message.starts_with("a reference leads out of the file or nowhere: "),
            "{reference}: {message}"
        );
    }
}

#[test]
fn circular_references_terminate() {
    let text = r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}"##;
    assert_eq!(schema(text).violations(b"1"), []);
    let tree = schema(r##"{"type": "object", "properties": {"child": {"$ref": "#"}}}"##);
    let violations = tree.violations(br#"{"child": {"child": 1}}"#);
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].path, "/child/child");
}
