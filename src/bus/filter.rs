//! Which events a subscription lets through.

use std::fmt;
use std::sync::{Arc, Once, OnceLock};

use crate::error::{Error, Result};
use crate::event::{Event, TypePattern, strict_json};
use crate::expression::{self, CowVal, Expression, Fault, Val, Variables};

/// The names that a filter may use. `event` is a map of all the others but `event_type`.
const VARIABLES: [&str; 9] = [
    "event",
    "type",
    "event_type",
    "channel",
    "data",
    "headers",
    "source",
    "id",
    "key",
];

/// Those that grow with the event.
const LARGE: [&str; 3] = ["event", "data", "headers"];

/// A choice of event types and a CEL expression; an event must pass both.
///
/// Filters with equal [`FilterKey`]s let the same events through, so that a shard asks each
/// distinct one only once per event.
pub struct EventFilter {
    key: FilterKey,
    expression: Option<Expression>,
}

/// What makes two filters the same: the types in order, and the expression's source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterKey {
    types: Arc<[TypePattern]>,
    source: Option<Arc<str>>,
}

impl FilterKey {
    /// The expression's text, where there is one.
    #[must_use]
    pub fn source(&self) -> Option<&Arc<str>> {
        self.source.as_ref()
    }

    /// The event types that pass, sorted; all where there are none.
    #[must_use]
    pub fn types(&self) -> &[TypePattern] {
        &self.types
    }
}

impl EventFilter {
    /// The most event types in one filter.
    pub const MAX_TYPES: usize = 64;

    /// Makes a filter of types (none: all) and an expression (none or blank: no condition).
    /// `None` where that lets every event through.
    ///
    /// # Errors
    /// `invalid_argument` for the field `event_types` or `filter`.
    pub fn new(
        types: impl IntoIterator<Item = TypePattern>,
        source: Option<&str>,
    ) -> Result<Option<Arc<EventFilter>>> {
        let mut types: Vec<TypePattern> = types.into_iter().take(Self::MAX_TYPES + 1).collect();
        if types.len() > Self::MAX_TYPES {
            return Err(Error::field(
                "event_types",
                "expected at most 64 event types",
            ));
        }
        if types.iter().any(|pattern| pattern.as_str() == "*") {
            types.clear();
        }
        types.sort();
        types.dedup();
        let expression = match source.map(str::trim) {
            None | Some("") => None,
            Some(source) => Some(
                Expression::compile_over(source, &VARIABLES, &LARGE)
                    .map_err(|error| Error::field("filter", error.description().to_owned()))?,
            ),
        };
        if types.is_empty() && expression.is_none() {
            return Ok(None);
        }
        let source = expression.as_ref().map(|e| Arc::clone(e.source()));
        let key = FilterKey {
            types: types.into(),
            source,
        };
        Ok(Some(Arc::new(EventFilter { key, expression })))
    }

    /// What makes this filter the same as another.
    #[must_use]
    pub fn key(&self) -> &FilterKey {
        &self.key
    }

    /// True if the event passes. An expression that fails lets nothing through.
    #[must_use]
    pub fn matches(&self, view: &EventView<'_>) -> bool {
        self.decide(view).unwrap_or(false)
    }

    /// As [`EventFilter::matches`], with the reason where the expression fails.
    ///
    /// # Errors
    /// Where the expression gave no answer.
    pub fn decide(&self, view: &EventView<'_>) -> Result<bool, Fault> {
        let event_type = view.event.event_type.as_str();
        let types = &self.key.types;
        if !types.is_empty() && !types.iter().any(|pattern| pattern.matches(event_type)) {
            return Ok(false);
        }
        self.expression
            .as_ref()
            .map_or(Ok(true), |expression| expression.evaluate(view))
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventFilter").field(&self.key).finish()
    }
}

/// One event as the filters see it. Its data is parsed when a filter first asks for it, and only
/// once, however many filters ask.
pub struct EventView<'a> {
    event: &'a Event,
    data: OnceLock<Box<dyn Val>>,
}

impl<'a> EventView<'a> {
    /// A view of this event; nothing is parsed yet.
    #[must_use]
    pub fn new(event: &'a Event) -> Self {
        EventView {
            event,
            data: OnceLock::new(),
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// The data, or null where it is not JSON.
    fn data(&self) -> &dyn Val {
        let data = self.data.get_or_init(|| {
            let payload = &self.event.payload;
            match payload
                .is_json()
                .then(|| strict_json::value(payload.data()))
            {
                Some(Ok(value)) => expression::json(value),
                Some(Err(flaw)) => {
                    self.tell_unreadable(&flaw);
                    expression::json_null()
                }
                None => expression::json_null(),
            }
        });
        data.as_ref()
    }

    /// No publish accepts such data; a store may keep it from an earlier version. One warning is
    /// enough: any client can have the event replayed again and again.
    fn tell_unreadable(&self, flaw: &strict_json::Flaw) {
        static TOLD: Once = Once::new();
        let event_id = tracing::field::display(self.event.id);
        TOLD.call_once(|| {
            tracing::warn!(event_id, %flaw, "filters take the data of a kept event for null: it is JSON that they can't read");
        });
        tracing::debug!(event_id = %self.event.id, %flaw, "filters can't read the data of a kept event");
    }

    fn part(&self, name: &str) -> Option<CowVal<'_, '_>> {
        let event = self.event;
        Some(match name {
            "type" | "event_type" => expression::text(event.event_type.as_str()),
            "channel" => expression::text(
                event
                    .channel
                    .as_ref()
                    .map_or("", |channel| channel.as_str()),
            ),
            "data" => CowVal::Borrowed(self.data()),
            "headers" => expression::map(
                event
                    .headers
                    .iter()
                    .map(|(name, value)| (name, expression::text(value))),
            ),
            "source" => expression::text(event.source.as_deref().unwrap_or("")),
            "key" => expression::text(event.key.as_deref().unwrap_or("")),
            "id" => CowVal::Owned(expression::json(event.id.to_string().into())),
            _ => return None,
        })
    }
}

impl Variables for EventView<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        // `event.data` is asked for by its whole name first, and so never copied.
        if let Some(part) = name.strip_prefix("event.") {
            return self.part(part);
        }
        if name == "event" {
            let names = ["type", "channel", "data", "headers", "source", "id", "key"];
            let parts = names
                .into_iter()
                .filter_map(|name| Some((name, self.part(name)?)));
            return Some(expression::map(parts));
        }
        self.part(name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{ChannelName, Draft, EventType, Headers, Payload, Timestamp};

    fn event(event_type: &str, data: &'static [u8], content_type: &str) -> Event {
        let now = Timestamp::now();
        let draft = Draft {
            id: Draft::new_id(now),
            channel: Some(ChannelName::new("project:42").unwrap()),
            event_type: EventType::new(event_type).unwrap(),
            payload: Payload::new(Bytes::from_static(data), content_type).unwrap(),
            headers: Headers::new([(String::from("region"), String::from("eu"))]).unwrap(),
            key: None,
            idempotency_key: None,
            audience: None,
            source: Some(Arc::from("billing")),
            time: now,
            trace: None,
            accepted: std::time::Instant::now(),
        };
        Event::new(draft, None)
    }

    fn types(names: &[&str]) -> Vec<TypePattern> {
        names
            .iter()
            .map(|name| TypePattern::parse(name).unwrap())
            .collect()
    }

    fn filter(names: &[&str], source: Option<&str>) -> Arc<EventFilter> {
        EventFilter::new(types(names), source).unwrap().unwrap()
    }

    #[test]
    fn a_filter_without_conditions_is_none() {
        for (names, source) in [
            (&[][..], None),
            (&[], Some("  ")),
            (&["*"], None),
            (&["a.b", "*"], Some("")),
        ] {
            assert!(EventFilter::new(types(names), source).unwrap().is_none());
        }
    }

    #[test]
    fn types_and_expression_must_both_pass() {
        let event = event("order.paid", br#"{"amount":20,"items":[{"sku":"x"}]}"#, "");
        let view = EventView::new(&event);
        for (names, source, passes) in [
            (&["order.*"][..], None, true),
            (&["order.paid"], None, true),
            (&["order"], None, false),
            (&["user.*", "order.*"], Some("data.amount > 10"), true),
            (&["order.*"], Some("data.amount > 100"), false),
            (&["user.*"], Some("true"), false),
            (
                &[],
                Some("type == 'order.paid' && event_type == type"),
                true,
            ),
            (
                &[],
                Some("channel == 'project:42' && source == 'billing'"),
                true,
            ),
            (&[], Some("headers.region == 'eu' && size(id) == 36"), true),
            (
                &[],
                Some("event.type == type && event.data.amount == 20"),
                true,
            ),
            (
                &[],
                Some("event['data']['amount'] == 20 && has(event.headers)"),
                true,
            ),
            (&[], Some("data.items.exists(i, i.sku == 'x')"), true),
            (&[], Some("data.missing == 1"), false),
            (&[], Some("data.amount"), false),
        ] {
            assert_eq!(
                filter(names, source).matches(&view),
                passes,
                "{names:?} {source:?}"
            );
        }
    }

    #[test]
    fn data_that_is_not_json_is_null() {
        let event = event("raw", b"\xff\xfe", "application/octet-stream");
        let view = EventView::new(&event);
        assert!(filter(&[], Some("data == null")).matches(&view));
        assert!(!filter(&[], Some("data.a == 1")).matches(&view));
    }

    #[test]
    fn data_is_parsed_only_when_asked_for_and_then_once() {
        let event = event("order.paid", br#"{"a":1}"#, "");
        let view = EventView::new(&event);
        assert!(filter(&["order.*"], Some("channel != ''")).matches(&view));
        assert!(view.data.get().is_none());
        assert!(filter(&[], Some("data.a == 1")).matches(&view));
        let parsed = std::ptr::from_ref(view.data.get().unwrap());
        assert!(filter(&[], Some("event.data.a == 1")).matches(&view));
        assert_eq!(parsed, std::ptr::from_ref(view.data.get().unwrap()));
    }

    #[test]
    fn equal_filters_have_equal_keys() {
        let one = filter(&["b", "a", "b"], Some(" data.n == 1 "));
        let two = filter(&["a", "b"], Some("data.n == 1"));
        assert_eq!(one.key(), two.key());
        assert_ne!(one.key(), filter(&["a"], Some("data.n == 1")).key());
        assert_ne!(one.key(), filter(&["a", "b"], None).key());
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = EventFilter::new(types(&many), None).unwrap_err();
        assert_eq!(error.field_name(), Some("event_types"));
        let error = EventFilter::new([], Some("claims.x == 1")).unwrap_err();
        assert_eq!(error.field_name(), Some("filter"));
        assert!(error.message().contains("claims"), "{error}");
    }

    #[test]
    fn large_values_are_not_gone_through_twice() {
        let source = Some("data.items.exists(i, i.sku in data.items)");
        assert!(EventFilter::new([], source).is_err());
    }
}
