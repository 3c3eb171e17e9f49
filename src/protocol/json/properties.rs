//! Properties that hold for events of any data in any envelope.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::tests::{event, with_events, written};
use crate::event::json::Member;

/// The names of an object's members, in order.
fn names(text: &str) -> Vec<String> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let names = serde::Deserializer::deserialize_map(&mut parser, Names).unwrap();
    parser.end().unwrap();
    names
}

fn any_member() -> impl Strategy<Value = (String, Value)> {
    let name = prop_oneof![
        "[a-z\"\\\\é\u{1}]{0,4}",
        Just("type".to_owned()),
        Just("id".to_owned()),
        Just("traceparent".to_owned()),
        Just("content_type".to_owned()),
    ];
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        Just(Value::Null),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(".{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    (name, value)
}

proptest! {
    #[test]
    fn flat_event_has_each_data_member_once(
        data in prop::collection::vec(any_member(), 0..5).prop_map(Map::from_iter),
        picked in prop::sample::subsequence(Member::ALL.to_vec(), 0..=7),
        pretty in any::<bool>(),
    ) {
        let data = Value::Object(data);
        let text = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) };
        let event = event(&text.unwrap());
        let flat = written(&with_events("", &picked), &event);
        let mut all = names(&flat);
        let value: Value = serde_json::from_str(&flat).unwrap();
        for (name, own) in data.as_object().unwrap() {
            if name == "type" && picked.contains(&Member::Type) {
                prop_assert_eq!(value.get(name), Some(&json!("project.updated")));
            } else {
                prop_assert_eq!(value.get(name), Some(own));
            }
        }
        let before = all.len();
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), before, "a name stands twice: {}", flat);
    }

    #[test]
    fn data_is_copied_byte_for_byte_under_any_name(
        name in "[a-z\"\\\\é\u{1} ]{1,6}",
        data in ".{0,8}",
        picked in prop::sample::subsequence(Member::ALL.to_vec(), 0..=7),
    ) {
        prop_assume!(Member::ALL.iter().all(|member| member.name() != name));
        let data = serde_json::to_string(&data).unwrap();
        let text = written(&with_events(&name, &picked), &event(&data));
        let value: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value.get(&name).map(|raw| raw.get()), Some(data.as_str()));
    }
}
