//! Subscription filters: which events a subscription receives.

use std::fmt;
use std::sync::{Arc, Once, OnceLock};

use super::store::Condition;
use crate::error::{Code, Error, Result};
use crate::event::{Event, Headers, TypePattern, strict_json};
use crate::filter::expression::{
    self, Expression, Kind, Name, Record, Steps, Stop, Value, Variables,
};

/// The variables that a filter may use. `event` is a map of all others except `event_type`.
pub(crate) const NAMES: [Name; 9] = [
    Name::large("event", Kind::Map),
    Name::new("type", Kind::Text),
    Name::new("event_type", Kind::Text),
    Name::new("channel", Kind::Text),
    Name::large("data", Kind::Any),
    Name::large("headers", Kind::Map),
    Name::new("source", Kind::Text),
    Name::new("id", Kind::Text),
    Name::new("key", Kind::Text),
];

/// How many bytes of JSON are parsed in the time of one step.
const PARSED_PER_STEP: usize = 4;

/// A set of event types and a CEL expression. An event must match both.
///
/// Filters with equal [`FilterKey`]s match the same events, so a shard evaluates each distinct
/// filter once per event.
pub struct EventFilter {
    key: FilterKey,
    condition: Option<Arc<Condition>>,
}

/// The identity of a filter: its sorted types and the source of its expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilterKey {
    types: Arc<[TypePattern]>,
    source: Option<Arc<str>>,
}

impl FilterKey {
    /// The source of the expression, if there is one.
    #[must_use]
    pub fn source(&self) -> Option<&Arc<str>> {
        self.source.as_ref()
    }

    /// The event types that match, sorted. Empty means all.
    #[must_use]
    pub fn types(&self) -> &[TypePattern] {
        &self.types
    }
}

impl EventFilter {
    /// The most event types in one filter.
    pub const MAX_TYPES: usize = 64;

    /// Creates a filter from types (none: all) and an expression (none or blank: no condition).
    /// Returns `None` if it would match every event. The expression is compiled immediately and
    /// counts towards no limit. Clients' filters go through `FilterStore`.
    ///
    /// # Errors
    /// `invalid_argument` for the field `event_types` or `filter`.
    pub fn new(
        types: impl IntoIterator<Item = TypePattern>,
        source: Option<&str>,
    ) -> Result<Option<Arc<EventFilter>>> {
        let condition = match source.map(str::trim) {
            None | Some("") => None,
            Some(source) => Some(Arc::new(Condition::unbounded(compile(source, usize::MAX)?))),
        };
        Self::with(types, condition)
    }

    /// Like [`EventFilter::new`], with a compiled condition.
    ///
    /// # Errors
    /// `invalid_argument` for the field `event_types`.
    pub fn with(
        types: impl IntoIterator<Item = TypePattern>,
        condition: Option<Arc<Condition>>,
    ) -> Result<Option<Arc<EventFilter>>> {
        let types = Self::types(types)?;
        if types.is_empty() && condition.is_none() {
            return Ok(None);
        }
        let source = condition
            .as_ref()
            .map(|condition| Arc::clone(condition.expression().source()));
        let key = FilterKey {
            types: types.into(),
            source,
        };
        Ok(Some(Arc::new(EventFilter { key, condition })))
    }

    /// Sorts and checks event types. An empty list means all.
    ///
    /// # Errors
    /// `invalid_argument` for the field `event_types`.
    pub(crate) fn types(types: impl IntoIterator<Item = TypePattern>) -> Result<Vec<TypePattern>> {
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
        Ok(types)
    }

    /// The key by which equal filters are recognized.
    #[must_use]
    pub fn key(&self) -> &FilterKey {
        &self.key
    }

    /// Its compiled expression.
    #[must_use]
    pub fn condition(&self) -> Option<&Arc<Condition>> {
        self.condition.as_ref()
    }

    /// The memory that it holds, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let types = self.key.types.iter().map(|pattern| pattern.as_str().len());
        let types: usize = types.map(|len| len + size_of::<TypePattern>()).sum();
        let condition = self.condition.as_ref().map_or(0, |c| c.bytes());
        size_of::<EventFilter>() + types + condition
    }

    /// True if the event matches, with no limit on the steps. A failing expression matches nothing.
    #[must_use]
    pub fn matches(&self, view: &EventView<'_>) -> bool {
        self.ask(view, &Steps::new(u64::MAX)).unwrap_or(false)
    }

    /// True if the event's type matches.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.wants_type(event.event_type.as_str())
    }

    /// True if this type matches.
    #[must_use]
    pub fn wants_type(&self, event_type: &str) -> bool {
        let types = &self.key.types;
        types.is_empty() || types.iter().any(|pattern| pattern.matches(event_type))
    }

    /// The result, if it is known without evaluating the expression.
    #[must_use]
    pub fn answer_for_nothing(&self, event: &Event) -> Option<bool> {
        let wants = self.wants(event);
        (!wants || self.condition.is_none()).then_some(wants)
    }

    /// Like [`EventFilter::matches`], within a step budget.
    ///
    /// # Errors
    /// The expression failed, or the budget was exhausted.
    pub fn ask(&self, view: &EventView<'_>, steps: &Steps) -> Result<bool, Stop> {
        match &self.condition {
            _ if !self.wants(view.event) => Ok(false),
            Some(condition) => condition.expression().evaluate(view, steps),
            None => Ok(true),
        }
    }

    /// The steps for preparing the event: parsing its data, if the expression reads it and it is
    /// not parsed yet.
    #[must_use]
    pub fn steps_before(&self, view: &EventView<'_>) -> u64 {
        let reads = self.condition.as_ref().is_some_and(|c| c.reads_data());
        if !reads || view.data.get().is_some() || !view.event.payload.is_json() {
            return 0;
        }
        u64::try_from(view.event.payload.data().len() / PARSED_PER_STEP).unwrap_or(u64::MAX)
    }
}

/// Compiles the expression of a filter, with at most this many bytes of regular expressions.
///
/// # Errors
/// `invalid_argument` for the field `filter`, `resource_exhausted` if it exceeds the bytes.
pub(crate) fn compile(source: &str, most: usize) -> Result<Expression> {
    Expression::compile_within(source, &NAMES, most).map_err(|error| {
        if error.code() == Code::ResourceExhausted {
            return error;
        }
        Error::field("filter", error.description().to_owned())
    })
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventFilter").field(&self.key).finish()
    }
}

/// One event as filters see it. Its data is parsed once, when the first filter reads it.
pub struct EventView<'a> {
    event: &'a Event,
    data: OnceLock<serde_json::Value>,
    id: OnceLock<String>,
}

impl<'a> EventView<'a> {
    /// A view of this event. Nothing is parsed yet.
    #[must_use]
    pub fn new(event: &'a Event) -> Self {
        EventView {
            event,
            data: OnceLock::new(),
            id: OnceLock::new(),
        }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// The data, or null if it is not JSON.
    fn data(&self) -> &serde_json::Value {
        self.data.get_or_init(|| {
            let payload = &self.event.payload;
            let parsed = payload
                .is_json()
                .then(|| strict_json::value(payload.data()));
            match parsed {
                Some(Ok(value)) => value,
                Some(Err(flaw)) => {
                    self.log_unreadable(&flaw);
                    serde_json::Value::Null
                }
                None => serde_json::Value::Null,
            }
        })
    }

    /// No publish accepts such data, but a store may hold it from an earlier version. It is logged
    /// once, because any client can have the event replayed repeatedly.
    fn log_unreadable(&self, flaw: &strict_json::Flaw) {
        static LOGGED: Once = Once::new();
        let event_id = tracing::field::display(self.event.id);
        LOGGED.call_once(|| {
            tracing::warn!(event_id, %flaw, "filters treat the data of a stored event as null, because they can't parse it");
        });
        tracing::debug!(event_id = %self.event.id, %flaw, "filters can't parse the data of a stored event");
    }

    fn part(&self, name: &str) -> Option<Value<'_>> {
        let event = self.event;
        Some(match name {
            "type" | "event_type" => expression::text(event.event_type.as_str()),
            "channel" => expression::text(
                event
                    .channel
                    .as_ref()
                    .map_or("", |channel| channel.as_str()),
            ),
            "data" => expression::json(self.data()),
            "headers" => expression::record(&event.headers),
            "source" => expression::text(event.source.as_deref().unwrap_or("")),
            "key" => expression::text(event.key.as_deref().unwrap_or("")),
            "id" => expression::text(self.id.get_or_init(|| event.id.to_string())),
            _ => return None,
        })
    }
}

impl Variables for EventView<'_> {
    fn resolve(&self, name: &str) -> Option<Value<'_>> {
        if name == "event" {
            return Some(expression::record(self));
        }
        self.part(name)
    }
}

impl Record for EventView<'_> {
    fn names(&self) -> Vec<&str> {
        vec!["type", "channel", "data", "headers", "source", "id", "key"]
    }

    fn get(&self, name: &str) -> Option<Value<'_>> {
        self.part(name).filter(|_| name != "event_type")
    }
}

impl Record for Headers {
    fn names(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| name).collect()
    }

    fn get(&self, name: &str) -> Option<Value<'_>> {
        let mut pairs = self.iter();
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| expression::text(value))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{AcceptedAt, ChannelName, Draft, EventType, Headers, Payload, Timestamp};

    pub(crate) fn event(event_type: &str, data: impl Into<Bytes>, content_type: &str) -> Event {
        let now = Timestamp::now();
        let draft = Draft {
            id: Draft::new_id(now),
            channel: Some(ChannelName::new("project:42").unwrap()),
            event_type: EventType::new(event_type).unwrap(),
            payload: Payload::new(data.into(), content_type).unwrap(),
            headers: Headers::new([(String::from("region"), String::from("eu"))]).unwrap(),
            key: None,
            idempotency_key: None,
            audience: None,
            source: Some(Arc::from("billing")),
            time: now,
            trace: None,
            accepted: AcceptedAt::now(),
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
    fn filter_without_conditions_is_none() {
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
    fn types_and_expression_must_both_match() {
        let event = event(
            "order.paid",
            &br#"{"amount":20,"items":[{"sku":"x"}]}"#[..],
            "",
        );
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
            (
                &[],
                Some("size(headers) == 1 && headers.exists(h, h == 'region')"),
                true,
            ),
            (&[], Some("has(event.data) && !has(event.nothing)"), true),
        ] {
            assert_eq!(
                filter(names, source).matches(&view),
                passes,
                "{names:?} {source:?}"
            );
        }
    }

    #[test]
    fn non_json_data_is_null() {
        let event = event("raw", &b"\xff\xfe"[..], "application/octet-stream");
        let view = EventView::new(&event);
        assert!(filter(&[], Some("data == null")).matches(&view));
        assert!(!filter(&[], Some("data.a == 1")).matches(&view));
    }

    #[test]
    fn data_is_parsed_lazily_and_once() {
        let event = event("order.paid", &br#"{"a":1}"#[..], "");
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
    fn invalid_filter_names_its_field() {
        let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = EventFilter::new(types(&many), None).unwrap_err();
        assert_eq!(error.field_name(), Some("event_types"));
        let error = EventFilter::new([], Some("claims.x == 1")).unwrap_err();
        assert_eq!(error.field_name(), Some("filter"));
        assert!(error.message().contains("claims"), "{error}");
    }

    #[test]
    fn large_values_are_not_iterated_twice() {
        let source = Some("data.items.exists(i, i.sku in data.items)");
        assert!(EventFilter::new([], source).is_err());
    }
}
