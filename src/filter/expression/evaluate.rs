//! Evaluation of an expression, with a step count.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an operation fits few of the kinds of values, and fails on all others"
)]

use super::node::{Each, Literal, Node, Search};
use super::operators::{arithmetic, compare, contains, convert, equal, negate, size};
use super::steps::Steps;
use super::values::{List, Map, Shared, Value};
use super::{Fault, Stop, Variables};

/// The context of an evaluation.
pub(super) struct Evaluation<'a> {
    pub(super) variables: &'a dyn Variables,
    pub(super) steps: &'a Steps,
}

/// The result of an evaluation.
pub(super) type Given<T> = Result<T, Stop>;

impl<'a> Evaluation<'a> {
    /// Evaluates a node. `item` is the current element of the enclosing comprehension.
    pub(super) fn value(&self, node: &'a Node, item: Option<&Value<'a>>) -> Given<Value<'a>> {
        self.steps.take(1)?;
        Ok(match node {
            Node::Literal(literal) => literal.value(),
            Node::Variable(name, _) => self
                .variables
                .resolve(name)
                .ok_or_else(|| fault(format!("{name} is unknown")))?,
            Node::Item => item.cloned().ok_or_else(|| fault("no element"))?,
            Node::Type(kind) => Value::Type(*kind),
            Node::Select(of, name) => {
                let of = self.value(of, item)?;
                member(&of, name, self.steps)?
                    .ok_or_else(|| fault(format!("No such key: {name}")))?
            }
            Node::Has(of, name) => {
                let of = self.value(of, item)?;
                Value::Bool(member(&of, name, self.steps)?.is_some())
            }
            Node::Index(sides) => {
                let [of, index] = self.both(sides, item)?;
                self.index(&of, &index)?
            }
            Node::Not(of) => Value::Bool(!self.truth(of, item)?),
            Node::Negate(of) => negate(&self.value(of, item)?)?,
            Node::And(sides) => Value::Bool(self.decided(false, sides, item)?),
            Node::Or(sides) => Value::Bool(self.decided(true, sides, item)?),
            Node::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                let next = if self.truth(condition, item)? {
                    yes
                } else {
                    no
                };
                self.value(next, item)?
            }
            Node::Compare(comparison, sides) => {
                let [left, right] = self.both(sides, item)?;
                Value::Bool(compare(*comparison, &left, &right, self.steps)?)
            }
            Node::Arithmetic(operator, sides) => {
                let [left, right] = self.both(sides, item)?;
                arithmetic(*operator, &left, &right, self.steps)?
            }
            Node::In(sides) => {
                let [element, container] = self.both(sides, item)?;
                Value::Bool(contains(&container, &element, self.steps)?)
            }
            Node::List(elements) => {
                let made: Given<Vec<_>> = elements.iter().map(|e| self.value(e, item)).collect();
                Value::List(List::Made(made?.into()))
            }
            Node::Map(entries) => self.map(entries, item)?,
            Node::Search(search, sides) => {
                let [subject, part] = self.both(sides, item)?;
                Value::Bool(self.search(*search, &subject, &part)?)
            }
            Node::Matches(subject, pattern) => {
                let subject = self.value(subject, item)?;
                let subject = subject.as_text().ok_or_else(|| unfit("matches"))?;
                self.steps.take(pattern.cost(subject.len()))?;
                Value::Bool(pattern.is_match(subject))
            }
            Node::Size(of) => size(&self.value(of, item)?, self.steps)?,
            Node::TypeOf(of) => Value::Type(self.value(of, item)?.kind()),
            Node::Convert(kind, of) => convert(*kind, &self.value(of, item)?, self.steps)?,
            Node::Each(over, each) => {
                let over = self.value(over, item)?;
                self.each(&over, each)?
            }
        })
    }

    fn both(&self, sides: &'a [Node; 2], item: Option<&Value<'a>>) -> Given<[Value<'a>; 2]> {
        let [left, right] = sides;
        Ok([self.value(left, item)?, self.value(right, item)?])
    }

    /// Evaluates a node that must be a bool.
    pub(super) fn truth(&self, node: &'a Node, item: Option<&Value<'a>>) -> Given<bool> {
        let value = self.value(node, item)?;
        match value {
            Value::Bool(truth) => Ok(truth),
            other => Err(fault(format!("gave a {}, not a bool", other.kind().name()))),
        }
    }

    /// `&&` and `||`: an operand equal to `decisive` determines the result, whatever the other is.
    fn decided(
        &self,
        decisive: bool,
        sides: &'a [Node; 2],
        item: Option<&Value<'a>>,
    ) -> Given<bool> {
        let [left, right] = sides;
        let left = match self.truth(left, item) {
            Ok(truth) if truth == decisive => return Ok(decisive),
            Err(Stop::Steps) => return Err(Stop::Steps),
            other => other,
        };
        match (left, self.truth(right, item)?) {
            (_, right) if right == decisive => Ok(decisive),
            (Ok(_), right) => Ok(right),
            (Err(fault), _) => Err(fault),
        }
    }

    fn index(&self, of: &Value<'a>, index: &Value<'a>) -> Given<Value<'a>> {
        match of {
            Value::List(list) => {
                let place = match index {
                    Value::Int(index) => usize::try_from(*index).ok(),
                    Value::Uint(index) => usize::try_from(*index).ok(),
                    Value::Double(index) => super::operators::whole(*index)
                        .and_then(|index| usize::try_from(index).ok()),
                    _ => return Err(unfit("[]")),
                };
                place
                    .and_then(|place| list.get(place))
                    .ok_or_else(|| fault("an index is out of bounds"))
            }
            Value::Map(map) => entry(map, index, self.steps)?.ok_or_else(|| fault("No such key")),
            _ => Err(unfit("[]")),
        }
    }

    fn map(&self, entries: &'a [(Node, Node)], item: Option<&Value<'a>>) -> Given<Value<'a>> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (key, value) = (self.value(key, item)?, self.value(value, item)?);
            if !matches!(
                key,
                Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Text(_)
            ) {
                return Err(unfit("{}"));
            }
            for (known, _) in &made {
                if equal(known, &key, self.steps)? {
                    return Err(fault("a key stands twice in a map"));
                }
            }
            made.push((key, value));
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn search(&self, search: Search, subject: &Value<'a>, part: &Value<'a>) -> Given<bool> {
        let (Some(subject), Some(part)) = (subject.as_text(), part.as_text()) else {
            return Err(unfit("contains, startsWith or endsWith"));
        };
        Ok(match search {
            Search::Anywhere => {
                // Searching costs several times as much as comparing.
                self.steps.take_bytes(4 * (subject.len() + part.len()))?;
                subject.contains(part)
            }
            Search::Start => {
                self.steps.take_bytes(part.len())?;
                subject.starts_with(part)
            }
            Search::End => {
                self.steps.take_bytes(part.len())?;
                subject.ends_with(part)
            }
        })
    }

    fn each(&self, over: &Value<'a>, each: &'a Each) -> Given<Value<'a>> {
        let items = items(over, self.steps)?;
        match each {
            Each::Exists(body) => self.quantified(true, &items, body),
            Each::All(body) => self.quantified(false, &items, body),
            Each::ExistsOne(body) => {
                let mut found = 0_u64;
                for item in items.iter() {
                    found += u64::from(self.truth(body, Some(&item))?);
                }
                Ok(Value::Bool(found == 1))
            }
            Each::Filter(condition) => {
                let mut made = Vec::new();
                for item in items.iter() {
                    if self.truth(condition, Some(&item))? {
                        made.push(item);
                    }
                }
                Ok(Value::List(List::Made(made.into())))
            }
            Each::Map(condition, body) => {
                let mut made = Vec::new();
                for item in items.iter() {
                    let wanted = match condition {
                        Some(condition) => self.truth(condition, Some(&item))?,
                        None => true,
                    };
                    if wanted {
                        made.push(self.value(body, Some(&item))?);
                    }
                }
                Ok(Value::List(List::Made(made.into())))
            }
        }
    }

    /// `exists` and `all`: an element equal to `decisive` determines the result. A failure counts
    /// only if no element does.
    fn quantified(&self, decisive: bool, items: &List<'a>, body: &'a Node) -> Given<Value<'a>> {
        let mut failed = None;
        for item in items.iter() {
            match self.truth(body, Some(&item)) {
                Ok(truth) if truth == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(Stop::Steps) => return Err(Stop::Steps),
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        match failed {
            Some(fault) => Err(fault),
            None => Ok(Value::Bool(!decisive)),
        }
    }
}

impl Literal {
    fn value(&self) -> Value<'_> {
        match self {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Uint(value) => Value::Uint(*value),
            Literal::Double(value) => Value::Double(*value),
            Literal::Text(value) => super::text(value),
            Literal::Bytes(value) => Value::Bytes(Shared::Borrowed(value)),
        }
    }
}

impl<'a> List<'a> {
    fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// The elements to iterate: those of a list, or the keys of a map.
fn items<'a>(over: &Value<'a>, steps: &Steps) -> Given<List<'a>> {
    let keys: Vec<Value<'a>> = match over {
        Value::List(list) => return Ok(list.clone()),
        Value::Map(Map::Json(map)) => {
            steps.take_many(map.len())?;
            map.keys().map(|key| super::text(key)).collect()
        }
        Value::Map(Map::Record(record)) => {
            let names = record.names();
            steps.take_many(names.len())?;
            names.into_iter().map(super::text).collect()
        }
        Value::Map(Map::Made(entries)) => {
            steps.take_many(entries.len())?;
            entries.iter().map(|(key, _)| key.clone()).collect()
        }
        _ => return Err(unfit("a comprehension")),
    };
    Ok(List::Made(keys.into()))
}

/// A named member. The outer failure means that the value has no members at all.
fn member<'a>(of: &Value<'a>, name: &str, steps: &Steps) -> Given<Option<Value<'a>>> {
    let Value::Map(map) = of else {
        return Err(fault(format!(
            "a {} has no member {name}",
            of.kind().name()
        )));
    };
    named(map, name, steps)
}

/// A map's entry by name.
pub(super) fn named<'a>(map: &Map<'a>, name: &str, steps: &Steps) -> Given<Option<Value<'a>>> {
    // A lookup in an ordered map compares the name a few times.
    steps.take_bytes(4 * name.len())?;
    match map {
        Map::Json(map) => Ok(map.get(name).map(super::json)),
        Map::Record(record) => {
            steps.take(4)?;
            Ok(record.get(name))
        }
        Map::Made(_) => entry(map, &Value::made_text(name.to_owned()), steps),
    }
}

/// A map's entry by key.
pub(super) fn entry<'a>(map: &Map<'a>, key: &Value<'_>, steps: &Steps) -> Given<Option<Value<'a>>> {
    match (map, key) {
        (Map::Made(entries), _) => {
            for (known, value) in entries.iter() {
                if equal(known, key, steps)? {
                    return Ok(Some(value.clone()));
                }
            }
            Ok(None)
        }
        (_, Value::Text(name)) => named(map, name, steps),
        _ => Ok(None),
    }
}

/// Creates a failure.
pub(super) fn fault(text: impl Into<String>) -> Stop {
    Stop::Fault(Fault(text.into()))
}

/// The failure of an operation on operands of wrong types.
pub(super) fn unfit(operation: &str) -> Stop {
    fault(format!("the values do not fit {operation}"))
}
