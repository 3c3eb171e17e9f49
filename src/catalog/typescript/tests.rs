use super::*;

fn of(schema: &str) -> String {
    let module = module([Described {
        name: "a.b",
        description: "",
        schema,
    }]);
    let declared = module.split_once("export type AB = ").expect("its type").1;
    declared.trim_end().to_owned()
}

#[test]
fn each_event_type_has_named_type() {
    let types = [
        Described {
            name: "job.progress",
            description: "How far it is. */",
            schema: r#"{"required": ["n"], "properties": {"n": {"type": "integer"}, "s": {"type": "string", "description": "A word."}}}"#,
        },
        Described {
            name: "job_progress",
            description: "",
            schema: "true",
        },
        Described {
            name: "events",
            description: "Two\nlines",
            schema: "",
        },
    ];
    let module = module(types);
    let expected = "export interface Events {\n  \
        /** How far it is. *\\/ */\n  \"job.progress\": JobProgress;\n  \
        \"job_progress\": JobProgress2;\n  \
        /**\n   * Two\n   * lines\n   */\n  \"events\": unknown;\n}\n\n\
        /** How far it is. *\\/ */\nexport type JobProgress = {\n  n: number;\n  \
        /** A word. */\n  s?: string;\n};\n\nexport type JobProgress2 = unknown;\n";
    assert!(module.ends_with(expected), "{module}");
}

#[test]
fn keywords_become_types() {
    for (schema, expected) in [
        ("{}", "unknown;"),
        ("false", "never;"),
        (r#"{"type": "null"}"#, "null;"),
        (
            r#"{"type": ["integer", "number", "null"]}"#,
            "number | null;",
        ),
        (r#"{"const": {"new": -1.5}}"#, r#"{ "new": -1.5 };"#),
        (
            r#"{"type": "string", "enum": ["a", "b\"", null]}"#,
            r#""a" | "b\"" | null;"#,
        ),
        (
            r#"{"items": {"type": ["string", "null"]}}"#,
            "(string | null)[];",
        ),
        (
            r#"{"prefixItems": [{"type": "string"}, {"enum": [1, 2]}], "minItems": 1, "items": false}"#,
            "[string, (1 | 2)?];",
        ),
        (
            r#"{"type": "array", "prefixItems": [{}]}"#,
            "[unknown?, ...unknown[]];",
        ),
        (r#"{"type": "object"}"#, "{ [key: string]: unknown };"),
        (
            r#"{"additionalProperties": {"type": "number"}}"#,
            "{ [key: string]: number };",
        ),
        (
            r#"{"type": "object", "additionalProperties": false}"#,
            "Record<string, never>;",
        ),
        (
            r#"{"properties": {"a": {}}, "additionalProperties": {"type": "number"}}"#,
            "{\n  a?: unknown;\n  [key: string]: unknown;\n};",
        ),
        (
            r#"{"properties": {"get": {}, "1 a": true}, "required": ["get", "x"]}"#,
            "{\n  \"1 a\"?: unknown;\n  \"get\": unknown;\n  x: unknown;\n};",
        ),
        (
            r#"{"oneOf": [{"type": "string"}, {"anyOf": [{"const": 1}, {"const": 2}]}]}"#,
            "string | 1 | 2;",
        ),
        (
            r#"{"allOf": [{"required": ["a"]}, {"anyOf": [{"required": ["b"]}, {"required": ["c"]}]}]}"#,
            "{\n  a: unknown;\n} & ({\n  b: unknown;\n} | {\n  c: unknown;\n});",
        ),
    ] {
        assert_eq!(of(schema), expected, "{schema}");
    }
}

#[test]
fn references_are_named_and_may_recurse() {
    let tree = r##"{"type": "object", "properties": {"children": {"items": {"$ref": "#"}}, "leaf": {"$ref": "#/$defs/a~1leaf"}},
        "$defs": {"a/leaf": {"$anchor": "leaf", "properties": {"up": {"$ref": "#leaf"}}}}}"##;
    let expected = "{\n  children?: AB[];\n  leaf?: ABALeaf;\n};\n\nexport type ABALeaf = {\n  up?: ABALeaf;\n};";
    assert_eq!(of(tree), expected);
    let circular = r##"{"anyOf": [{"$ref": "#/$defs/b"}, {"type": "string"}], "$defs": {"b": {"allOf": [{"$ref": "#"}]}}}"##;
    assert_eq!(of(circular), "unknown;");
    let away = r#"{"$ref": "https://json-schema.org/draft/2020-12/schema"}"#;
    assert_eq!(of(away), "unknown;");
}
