use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json as value};

use super::*;

struct Given(HashMap<&'static str, Json>);

impl Variables for Given {
    fn resolve(&self, name: &str) -> Option<Value<'_>> {
        self.0.get(name).map(json)
    }
}

const NAMES: [Name; 4] = [
    Name::new("user", Kind::Text),
    Name::new("roles", Kind::List),
    Name::large("data", Kind::Any),
    Name::new("type", Kind::Text),
];

fn given() -> Given {
    Given(HashMap::from([
        ("user", value!("ann")),
        ("roles", value!(["editor", "staff"])),
        ("type", value!("order.paid")),
        (
            "data",
            value!({
                "n": 1, "big": u64::MAX, "half": 0.5, "list": [1, 2, 3], "none": null,
                "items": [{"id": "a", "price": 5}, {"id": "b", "price": 50}],
            }),
        ),
    ]))
}

fn compile(source: &str) -> Result<Expression> {
    Expression::compile(source, &NAMES)
}

fn evaluate(source: &str) -> Result<bool, Stop> {
    compile(source)
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .evaluate(&given(), &Steps::new(100_000))
}

fn refusal(source: &str) -> String {
    compile(source)
        .err()
        .unwrap_or_else(|| panic!("{source} compiles"))
        .message()
}

#[test]
fn expressions_evaluate_to_bool() {
    for (source, answer) in [
        ("true", true),
        ("user == 'ann' && 'staff' in roles", true),
        ("'admin' in roles", false),
        ("type == 'order.paid'", true),
        ("type(user) == string", true),
        (
            "data.n == 1 && data.n < 1.5 && data.half == 0.5 && data.none == null",
            true,
        ),
        ("data.big > 1u", true),
        ("has(data.n) && !has(data.m)", true),
        ("data['n'] in [1, 2, -3]", true),
        ("data.items.exists(i, i.price > 40)", true),
        ("data.items.all(i, i.price > 40)", false),
        ("data.items.exists_one(i, i.id == 'a')", true),
        ("size(data.items.filter(i, i.price < 10)) == 1", true),
        ("data.items.map(i, i.id) == ['a', 'b']", true),
        ("data.list[2] * 2 - 1 == 5", true),
        (
            "user.startsWith('a') && user.endsWith('n') && user.contains('n')",
            true,
        ),
        ("user.matches('^a.n$') && !matches(user, '^b')", true),
        ("roles.exists(r, r.matches('^ed'))", true),
        ("roles.exists(r, r == user + 'x')", false),
        ("(user == 'bob' ? false : true)", true),
        ("user == \"ann\" // a remark", true),
    ] {
        assert_eq!(evaluate(source), Ok(answer), "{source}");
        if !source.contains("matches") {
            assert_eq!(by_cel(source), Some(answer), "{source}");
        }
    }
}

#[test]
fn missing_key_means_no_unless_decided() {
    assert!(evaluate("'x' in data.missing").is_err());
    assert_eq!(
        evaluate("'x' in data.missing || 'staff' in roles"),
        Ok(true)
    );
    assert_eq!(
        evaluate("'staff' in roles || 'x' in data.missing"),
        Ok(true)
    );
    assert_eq!(evaluate("'x' in data.missing && false"), Ok(false));
    assert!(evaluate("'x' in data.missing || 'admin' in roles").is_err());
}

#[test]
fn non_bool_result_is_a_failure() {
    for source in [
        "data",
        "data.none",
        "data.list[0]",
        "1 / 0 == 1",
        "data.list[9] == 1",
    ] {
        assert!(matches!(evaluate(source), Err(Stop::Fault(_))), "{source}");
    }
}

#[test]
fn non_condition_is_refused_at_compile_time() {
    for (source, kind) in [
        ("\"a\"", "string"),
        ("1 + 2", "int"),
        ("data.n + 2", "int"),
        ("user", "string"),
        ("roles", "list"),
        ("[true]", "list"),
        ("{'a': true}", "map"),
        ("null", "null_type"),
        ("size(user)", "int"),
        ("type(user)", "type"),
        ("bool", "type"),
        ("data.list.map(x, x == 1)", "list"),
        ("true ? 'yes' : user", "string"),
        ("string(data.n)", "string"),
        ("-1.5", "double"),
    ] {
        let message = refusal(source);
        assert!(
            message.contains("condition") && message.ends_with(kind),
            "{source}: {message}"
        );
    }
    for source in ["data", "data.a", "true ? data.a : 1", "bool('true')"] {
        assert!(compile(source).is_ok(), "{source}");
    }
}

/// The steps that an evaluation takes, and whether the budget sufficed.
fn steps(source: &str, data: Json, most: u64) -> (u64, bool) {
    let variables = Given(HashMap::from([("data", data), ("user", value!("ann"))]));
    let steps = Steps::new(most);
    let answer = compile(source)
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .evaluate(&variables, &steps);
    (steps.taken(), answer != Err(Stop::Steps))
}

/// Expressions whose work grows with their input, one for each kind of growth.
const GROWING: [&str; 19] = [
    "data.list.exists(x, x == 'b')",
    "data.list.all(x, x != 'b')",
    "data.list.exists_one(x, x == 'b')",
    "size(data.list.filter(x, x == 'b')) == 1",
    "size(data.list.map(x, x + x)) == 1",
    "size(data.list.map(x, x == 'a', x)) == 1",
    "'b' in data.list",
    "data.list == data.list",
    "data.map == data.map",
    "data.map.exists(x, x == 'b')",
    "size(data.list + data.list) == 1",
    "data.text == data.text",
    "data.text < data.text",
    "data.text.contains('b')",
    "data.text.endsWith(data.text)",
    "data.text.matches('(a|aa)+b')",
    "size(data.text) == 1",
    "data.text + data.text == ''",
    "string(bytes(data.text)) == ''",
];

#[test]
fn input_dependent_work_takes_steps() {
    let data = |n: usize| {
        let map: serde_json::Map<String, Json> =
            (0..n).map(|n| (n.to_string(), value!(1))).collect();
        value!({"list": vec!["a"; n], "text": "a".repeat(n), "map": map})
    };
    for source in GROWING {
        let (small, _) = steps(source, data(100), u64::MAX);
        let (large, _) = steps(source, data(10_000), u64::MAX);
        assert!(
            large - small >= 9_900 / 16,
            "{source}: {small}, then {large}"
        );
    }
}

#[test]
fn evaluation_stops_when_budget_is_exhausted() {
    let map: serde_json::Map<String, Json> =
        (0..20_000).map(|n| (n.to_string(), value!(1))).collect();
    let data = value!({"list": vec!["a"; 20_000], "text": "a".repeat(200_000), "map": map});
    for source in GROWING {
        let (taken, enough) = steps(source, data.clone(), 500);
        assert!(taken <= 500 && !enough, "{source}: {taken}");
    }
    // A failure that `||` or `exists` would ignore is not ignored if the budget ends.
    let (_, enough) = steps("data.list.exists(x, x == 'b') || true", data, 500);
    assert!(!enough);
}

/// Evaluation by the `cel` crate, as a reference.
fn by_cel(source: &str) -> Option<bool> {
    let mut context = cel::Context::default();
    for (name, value) in given().0 {
        context.add_variable_from_value(name, of_cel(&value));
    }
    let root = parse(source).ok()?;
    match cel::Value::resolve(&root, &context) {
        Ok(cel::Value::Bool(answer)) => Some(answer),
        _ => None,
    }
}

fn of_cel(value: &Json) -> cel::Value {
    match value {
        Json::Null => cel::Value::Null,
        Json::Bool(value) => cel::Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => cel::Value::Int(number),
            (None, Some(number)) => cel::Value::UInt(number),
            (None, None) => cel::Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => cel::Value::String(Arc::new(text.clone())),
        Json::Array(items) => cel::Value::List(Arc::new(items.iter().map(of_cel).collect())),
        Json::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.clone(), of_cel(value)));
            entries.collect::<HashMap<String, cel::Value>>().into()
        }
    }
}

#[test]
fn failure_contains_no_values() {
    for source in [
        "user < 1",
        "data.list + user == 1",
        "user in data.n",
        "data.items[user] == 1",
    ] {
        let fault = evaluate(source).unwrap_err().to_string();
        assert!(
            !fault.contains("ann") && !fault.contains("price"),
            "{source}: {fault}"
        );
    }
}

#[test]
fn unknown_name_error_lists_known_names() {
    let message = refusal("usr == 'ann'");
    assert!(
        message.contains("usr") && message.contains("data, roles, type, user"),
        "{message}"
    );
    assert!(refusal("roles.exists(r, q == 1)").contains("unknown name: q"));
    assert!(refusal("nap(5)").contains("nap"));
    assert!(refusal("user.nap()").contains("nap"));
    assert!(refusal("optional.of(1) == 1").contains("of"));
    assert!(refusal("Made{a: 1} == 1").contains("Made"));
}

#[test]
fn syntax_error_has_location() {
    for source in [
        "",
        " ",
        "user ==",
        "user = 'ann'",
        "(true",
        "true)",
        "'",
        "user ? true",
        "a.?b",
    ] {
        let message = refusal(source);
        assert!(
            !message.is_empty() && !message.contains('\n'),
            "{source}: {message}"
        );
    }
    assert!(refusal("true &&\n user ==").contains("line 2"));
}

#[test]
fn costly_expressions_are_refused() {
    let nested = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let listed = format!("{}{} == 1", "[".repeat(200), "]".repeat(200));
    let chained = format!("data{} == 1", ".a".repeat(400));
    let long = format!("user == '{}'", "x".repeat(MAX_SOURCE));
    let added = format!("data.n{} > 1", " + data.n".repeat(5));
    let marked = format!("user == 'a'{}", " && !true".repeat(90));
    let pattern = format!("user.matches('{}')", "x".repeat(257));
    for source in [
        nested.as_str(),
        &listed,
        &chained,
        &long,
        &added,
        &pattern,
        &marked,
        r"user.matches('(\\w{1,99}){1,99}')",
        "user.matches('(')",
        "user.matches(user)",
        "data.list.exists(x, data.list.exists(y, x == y))",
        "data.list.map(x, x).map(y, y) == [1]",
        "data.list.exists(x, x in data.list)",
        "[data, data, data] == 1",
        "{'a': data.list} == 1",
        "data.list.map(x, [x, x]) == [1]",
    ] {
        assert!(compile(source).is_err(), "{source} compiles");
    }
}

#[test]
fn longest_chains_need_little_stack() {
    let sources = [
        format!("a{}", ".a".repeat(256)),
        format!("1{}", "+1".repeat(256)),
        format!("1{}", "==1".repeat(128)),
        format!("{}true", "!".repeat(256)),
        format!("{}1", "-".repeat(256)),
        format!("true{}", "&&true".repeat(128)),
        format!("true{}", "?true:true".repeat(95)),
        format!("a{}", "[0]".repeat(128)),
        format!("a{}", ".a()".repeat(85)),
        "[".repeat(256),
        "(".repeat(256),
        "{".repeat(256),
        "a(".repeat(256),
        "a?".repeat(256),
    ];
    for source in &sources {
        let marks = source.bytes().filter(u8::is_ascii_punctuation).count();
        assert!(
            source.len() <= MAX_SOURCE && marks <= bounds::MAX_PUNCTUATION,
            "{source}"
        );
    }
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    let compiled = thread.spawn(move || sources.iter().filter(|s| compile(s).is_ok()).count());
    assert!(
        compiled.unwrap().join().is_ok(),
        "the stack was too small, or the compiler panicked"
    );
}

#[test]
fn expression_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Expression>();
}

/// Texts that resemble CEL, so that many compile.
fn plausible() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "user",
        "roles",
        "data",
        "type",
        ".n",
        ".list",
        ".items",
        ".exists(x, ",
        ".all(x, ",
        ".map(x, ",
        "x",
        "x.id",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        " == ",
        " != ",
        " < ",
        " in ",
        " && ",
        " || ",
        "!",
        "-",
        " + ",
        " * ",
        " / ",
        " % ",
        "1",
        "0",
        "1.5",
        "9223372036854775807",
        "-9223372036854775808",
        "2u",
        "'a'",
        "b'\\xff'",
        "r'\\d'",
        "true",
        "false",
        "null",
        "size(",
        "has(data.n)",
        "string(",
        "int(",
        "double(",
        "bytes(",
        ".matches('a')",
        ".contains('')",
        "type(",
        "@",
        "\"",
        "'",
        "`a`",
        "\n",
        "//",
        "\u{e9}",
        "\u{1f600}",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(source in prop_oneof![plausible(), any::<String>()]) {
        if let Ok(expression) = compile(&source) {
            let answer = expression.evaluate(&given(), &Steps::new(100_000));
            // That engine supports regular expressions only as an option, and may panic.
            if !source.contains("matches") {
                let theirs = catch_unwind(AssertUnwindSafe(|| by_cel(&source)));
                prop_assert_eq!(answer.ok(), theirs.unwrap_or(None), "{}", source);
            }
        }
    }
}
