use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json as value;

use super::*;

struct Given(HashMap<&'static str, Box<dyn Val>>);

impl Variables for Given {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        self.0
            .get(name)
            .map(|value| CowVal::Borrowed(value.as_ref()))
    }
}

const NAMES: [&str; 4] = ["user", "roles", "data", "type"];

fn given() -> Given {
    Given(HashMap::from([
        ("user", json(value!("ann"))),
        ("roles", json(value!(["editor", "staff"]))),
        ("type", json(value!("order.paid"))),
        (
            "data",
            json(value!({
                "n": 1, "big": u64::MAX, "half": 0.5, "list": [1, 2, 3], "none": null,
                "items": [{"id": "a", "price": 5}, {"id": "b", "price": 50}],
            })),
        ),
    ]))
}

fn compile(source: &str) -> Result<Expression> {
    Expression::compile_over(source, &NAMES, &["data"])
}

fn evaluate(source: &str) -> Result<bool, Fault> {
    compile(source)
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .evaluate(&given())
}

fn refusal(source: &str) -> String {
    compile(source)
        .err()
        .unwrap_or_else(|| panic!("{source} compiles"))
        .message()
}

#[test]
fn expressions_answer_yes_or_no() {
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
    }
}

#[test]
fn a_missing_key_means_no_unless_the_rest_decides() {
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
fn what_is_not_a_bool_gives_no_answer() {
    for source in [
        "1",
        "user",
        "data",
        "data.none",
        "[true]",
        "1 / 0 == 1",
        "data.list[9] == 1",
    ] {
        assert!(evaluate(source).is_err(), "{source}");
    }
}

#[test]
fn a_fault_tells_no_values() {
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
fn unknown_names_are_refused_and_the_known_ones_are_listed() {
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
fn what_is_not_cel_is_refused_with_its_place() {
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
fn expressions_that_could_cost_much_are_refused() {
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
fn the_longest_chains_need_little_stack() {
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
fn an_expression_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Expression>();
}

/// Texts that look like CEL, so that many compile.
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
            let fault = expression.evaluate(&given()).err().map(|fault| fault.to_string());
            prop_assert!(!fault.is_some_and(|fault| fault.contains("panicked")), "{source}");
        }
    }
}
