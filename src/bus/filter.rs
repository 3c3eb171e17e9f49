//! Which events a subscription lets through.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::event::{Event, TypePattern};
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
                .then(|| serde_json::from_slice(payload.data()))
            {
                Some(Ok(value)) => expression::json(value),
                Some(Err(_)) | None => expression::json_null(),
            }
        });
        data.as_ref()
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
    use super::*;
}
