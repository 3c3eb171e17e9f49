//! Values of an expression. They borrow from the event where possible.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

/// A value. Copying is cheap: large values are borrowed or shared.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `uint`.
    Uint(u64),
    /// `double`.
    Double(f64),
    /// `string`.
    Text(Shared<'a, str>),
    /// `bytes`.
    Bytes(Shared<'a, [u8]>),
    /// `list`.
    List(List<'a>),
    /// `map`.
    Map(Map<'a>),
    /// A type, such as `type(1)`.
    Type(Kind),
}

/// Borrowed, or computed by the evaluation.
#[derive(Debug)]
pub enum Shared<'a, T: ?Sized> {
    /// Borrowed.
    Borrowed(&'a T),
    /// Computed by the evaluation.
    Made(Rc<T>),
}

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// A JSON array.
    Json(&'a [Json]),
    /// Strings.
    Texts(&'a [Arc<str>]),
    /// Computed by the evaluation.
    Made(Rc<[Value<'a>]>),
}

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// A JSON object.
    Json(&'a JsonMap<String, Json>),
    /// An object with named members.
    Record(&'a dyn Record),
    /// Computed by the evaluation. Its keys are unique.
    Made(Rc<[(Value<'a>, Value<'a>)]>),
}

/// A small object with named members, exposed as a map.
pub trait Record {
    /// The names of its members.
    fn names(&self) -> Vec<&str>;
    /// The member with this name.
    fn get(&self, name: &str) -> Option<Value<'_>>;
}

/// The type of a value, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only known at run time.
    Any,
    /// `null_type`.
    Null,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `uint`.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    Text,
    /// `bytes`.
    Bytes,
    /// `list`.
    List,
    /// `map`.
    Map,
    /// `type`.
    Type,
}

impl Kind {
    /// The types that an expression can name, as in `type(data.n) == int`.
    pub(super) const NAMED: [Kind; 9] = [
        Kind::Bool,
        Kind::Int,
        Kind::Uint,
        Kind::Double,
        Kind::Text,
        Kind::Bytes,
        Kind::List,
        Kind::Map,
        Kind::Null,
    ];

    /// Its name in CEL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Any => "dyn",
            Kind::Null => "null_type",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Uint => "uint",
            Kind::Double => "double",
            Kind::Text => "string",
            Kind::Bytes => "bytes",
            Kind::List => "list",
            Kind::Map => "map",
            Kind::Type => "type",
        }
    }
}

impl<T: ?Sized> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Shared::Borrowed(value) => Shared::Borrowed(value),
            Shared::Made(value) => Shared::Made(Rc::clone(value)),
        }
    }
}

impl<T: ?Sized> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Shared::Borrowed(value) => value,
            Shared::Made(value) => value,
        }
    }
}

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Map")
    }
}

impl Value<'_> {
    /// A computed string.
    pub(super) fn made_text(text: String) -> Self {
        Value::Text(Shared::Made(text.into()))
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Uint(_) => Kind::Uint,
            Value::Double(_) => Kind::Double,
            Value::Text(_) => Kind::Text,
            Value::Bytes(_) => Kind::Bytes,
            Value::List(_) => Kind::List,
            Value::Map(_) => Kind::Map,
            Value::Type(_) => Kind::Type,
        }
    }

    /// The string, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Json(items) => items.len(),
            List::Texts(items) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items) => items.get(index).map(json),
            List::Texts(items) => items.get(index).map(|item| text(item)),
            List::Made(items) => items.get(index).cloned(),
        }
    }
}

/// A borrowed string.
#[must_use]
pub fn text(text: &str) -> Value<'_> {
    Value::Text(Shared::Borrowed(text))
}

/// A borrowed list of strings.
#[must_use]
pub fn texts(items: &[Arc<str>]) -> Value<'_> {
    Value::List(List::Texts(items))
}

/// A borrowed object with named members.
#[must_use]
pub fn record(record: &dyn Record) -> Value<'_> {
    Value::Map(Map::Record(record))
}

/// A borrowed JSON value. Integers are `int` (`uint` above its range), other numbers `double`.
#[must_use]
pub fn json(value: &Json) -> Value<'_> {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            if let Some(number) = number.as_i64() {
                Value::Int(number)
            } else if let Some(number) = number.as_u64() {
                Value::Uint(number)
            } else {
                Value::Double(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(value) => text(value),
        Json::Array(items) => Value::List(List::Json(items)),
        Json::Object(entries) => Value::Map(Map::Json(entries)),
    }
}
