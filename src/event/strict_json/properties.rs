//! Property tests: accepted texts are exactly the readable ones, for JSON-like texts and for
//! arbitrary bytes.

use proptest::prelude::*;

use super::*;

/// Texts that are JSON or almost JSON: lone surrogates, numbers out of range or with many digits,
/// repeated names, odd white space, byte order marks, deep nesting, truncation.
pub(crate) fn odd_json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "-?[0-9]{1,25}",
        "-?[0-9]{1,4}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?",
        Just("9".repeat(400)),
        Just("1e400".to_owned()),
        Just("-0".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("9007199254740993".to_owned()),
    ];
    let piece = prop_oneof![
        Just("\\ud83d".to_owned()),
        Just("\\ude00".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
        Just("\\u0000".to_owned()),
        Just("\\u0061".to_owned()),
        Just("\\n".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\u{0}".to_owned()),
        "[a-c\\u{2028}\\\\\"é😀]{0,3}",
    ];
    let text =
        prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let name = prop_oneof![
        4 => "\"[a-b]\"",
        1 => text.clone(),
        1 => Just("\"$serde_json::private::RawValue\"".to_owned()),
        1 => Just("\"$serde_json::private::Number\"".to_owned()),
    ];
    let leaf = prop_oneof![
        3 => number,
        3 => text,
        1 => Just("true".to_owned()),
        1 => Just("null".to_owned()),
        1 => Just("nul".to_owned()),
        1 => (60_usize..68).prop_map(|levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels))),
    ];
    let space = prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\r"), 1 => Just("\r\n\t")];
    let inner = leaf.prop_recursive(5, 40, 4, move |inner| {
        let member =
            (name.clone(), inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            (space.clone(), prop::collection::vec(inner, 0..4))
                .prop_map(|(space, items)| format!("[{space}{}]", items.join(","))),
            (space.clone(), prop::collection::vec(member, 0..4))
                .prop_map(|(space, members)| format!("{{{space}{}{space}}}", members.join(","))),
        ]
    });
    let front = prop_oneof![12 => Just(""), 1 => Just("\u{feff}"), 1 => Just(" ")];
    let end = prop_oneof![12 => Just(""), 1 => Just(","), 1 => Just(" \n"), 1 => Just("]")];
    (front, inner, end).prop_map(|(front, inner, end)| format!("{front}{inner}{end}"))
}

fn holds(text: &[u8]) -> Result<(), TestCaseError> {
    let read = value(text);
    prop_assert_eq!(check(text), read.clone().map(|_| ()), "one judge");
    if check_names_once(text).is_ok() {
        prop_assert!(read.is_ok());
    }
    let exact = std::str::from_utf8(text).ok().and_then(with_exact_numbers);
    prop_assert_eq!(
        exact.is_some(),
        read.is_ok(),
        "rules read what was accepted"
    );
    let Ok(read) = read else {
        return Ok(());
    };
    // Independent parsers.
    prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok());
    let written = serde_json::to_vec(&read).unwrap();
    prop_assert_eq!(
        value(&written).unwrap(),
        read.clone(),
        "what is read can be written"
    );
    // Also if it is in a member that a later one of the same name replaces.
    let names_private = |bytes: &[u8]| bytes.windows(9).any(|window| window == b"::private");
    let private = names_private(&written) || names_private(text);
    if !private {
        prop_assert_eq!(serde_json::from_slice::<Value>(text).unwrap(), read);
    }
    Ok(())
}

proptest! {
    #[test]
    fn readers_agree_on_odd_json(text in odd_json()) {
        holds(text.as_bytes())?;
    }

    #[test]
    fn readers_agree_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        holds(&bytes)?;
    }

    #[test]
    fn readers_agree_on_flipped_bytes(text in odd_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len().max(1));
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        holds(&bytes)?;
    }

    #[test]
    fn distinct_integers_stay_distinct(a in "[1-9][0-9]{0,40}", b in "[1-9][0-9]{0,40}") {
        let read = |number: &str| with_exact_numbers(number).unwrap();
        prop_assert_eq!(a == b, read(&a) == read(&b));
    }
}
