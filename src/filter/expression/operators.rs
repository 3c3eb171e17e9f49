//! The operators and functions of CEL.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an operation fits few of the kinds of values, and fails on all others"
)]

use std::cmp::Ordering;

use super::evaluate::{Given, entry, fault, unfit};
use super::node::{Arithmetic, Comparison};
use super::steps::Steps;
use super::values::{Kind, List, Map, Shared, Value};

/// 2^63 and 2^64. A `double` from there on is not an `int` or a `uint`.
const INT_END: f64 = 9_223_372_036_854_775_808.0;
const UINT_END: f64 = 18_446_744_073_709_551_616.0;

/// True if two values are equal. Numbers are compared by value, whatever their types.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>, steps: &Steps) -> Given<bool> {
    steps.take(1)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => {
            left.len() == right.len() && {
                steps.take_bytes(left.len())?;
                **left == **right
            }
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            left.len() == right.len() && {
                steps.take_bytes(left.len())?;
                **left == **right
            }
        }
        (Value::Type(left), Value::Type(right)) => left == right,
        (Value::List(left), Value::List(right)) => equal_lists(left, right, steps)?,
        (Value::Map(left), Value::Map(right)) => equal_maps(left, right, steps)?,
        _ => numbers(left, right) == Ok(Some(Ordering::Equal)),
    })
}

fn equal_lists(left: &List<'_>, right: &List<'_>, steps: &Steps) -> Given<bool> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for index in 0..left.len() {
        if let (Some(left), Some(right)) = (left.get(index), right.get(index))
            && !equal(&left, &right, steps)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(left: &Map<'_>, right: &Map<'_>, steps: &Steps) -> Given<bool> {
    if left.len() != right.len() {
        return Ok(false);
    }
    let holds = |key: &Value<'_>, value: &Value<'_>| match entry(right, key, steps)? {
        Some(other) => equal(value, &other, steps),
        None => Ok(false),
    };
    match left {
        Map::Json(map) => {
            for (key, value) in *map {
                if !holds(&super::text(key), &super::json(value))? {
                    return Ok(false);
                }
            }
        }
        Map::Record(record) => {
            for name in record.names() {
                let value = record.get(name);
                if !holds(&super::text(name), &value.unwrap_or(Value::Null))? {
                    return Ok(false);
                }
            }
        }
        Map::Made(entries) => {
            for (key, value) in entries.iter() {
                if !holds(key, value)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Compares two values of which at least one is not a number.
#[derive(Debug, PartialEq, Eq)]
struct NoNumbers;

/// Compares two numbers. `None` if one is NaN.
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, NoNumbers> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Uint(left), Value::Uint(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Uint(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Uint(left), Value::Int(right)) => Some(i128::from(*left).cmp(&i128::from(*right))),
        (Value::Int(left), Value::Double(right)) => beside(i128::from(*left), *right),
        (Value::Uint(left), Value::Double(right)) => beside(i128::from(*left), *right),
        (Value::Double(left), Value::Int(right)) => {
            beside(i128::from(*right), *left).map(Ordering::reverse)
        }
        (Value::Double(left), Value::Uint(right)) => {
            beside(i128::from(*right), *left).map(Ordering::reverse)
        }
        _ => return Err(NoNumbers),
    })
}

/// Compares an integer to a `double` without loss of precision.
fn beside(number: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= UINT_END {
        return Some(Ordering::Less);
    }
    if double < -INT_END {
        return Some(Ordering::Greater);
    }
    let floor = double.floor();
    let whole = whole(floor).unwrap_or(0);
    Some(number.cmp(&whole).then(if double > floor {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

/// A `double` without a fraction, within the range of `int` and `uint`.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the range is checked; there is no other conversion"
)]
pub(super) fn whole(double: f64) -> Option<i128> {
    let fits = (-INT_END..UINT_END).contains(&double) && double.fract() == 0.0;
    fits.then_some(double as i128)
}

/// Compares two values.
pub(super) fn compare(
    comparison: Comparison,
    left: &Value<'_>,
    right: &Value<'_>,
    steps: &Steps,
) -> Given<bool> {
    match comparison {
        Comparison::Equal => return equal(left, right, steps),
        Comparison::NotEqual => return Ok(!equal(left, right, steps)?),
        _ => {}
    }
    let order = match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => {
            steps.take_bytes(left.len().min(right.len()))?;
            Some((**left).cmp(&**right))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            steps.take_bytes(left.len().min(right.len()))?;
            Some((**left).cmp(&**right))
        }
        _ => numbers(left, right).map_err(|NoNumbers| unfit("a comparison"))?,
    };
    let order = order.ok_or_else(|| fault("a number can't be compared"))?;
    Ok(match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
    })
}

/// `element in container`.
pub(super) fn contains(container: &Value<'_>, element: &Value<'_>, steps: &Steps) -> Given<bool> {
    match container {
        Value::List(list) => {
            for index in 0..list.len() {
                if let Some(item) = list.get(index)
                    && equal(&item, element, steps)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => Ok(entry(map, element, steps)?.is_some()),
        _ => Err(unfit("in")),
    }
}

/// `-value`.
pub(super) fn negate<'a>(value: &Value<'a>) -> Given<Value<'a>> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(too_large),
        Value::Double(value) => Ok(Value::Double(-value)),
        _ => Err(unfit("-")),
    }
}

/// An operator on two integers of one type; `None` if the result overflows it.
macro_rules! whole_arithmetic {
    ($operator:expr, $left:expr, $right:expr) => {
        match $operator {
            Arithmetic::Add => $left.checked_add(*$right),
            Arithmetic::Subtract => $left.checked_sub(*$right),
            Arithmetic::Multiply => $left.checked_mul(*$right),
            Arithmetic::Divide | Arithmetic::Remainder if *$right == 0 => return Err(by_zero()),
            Arithmetic::Divide => $left.checked_div(*$right),
            Arithmetic::Remainder => $left.checked_rem(*$right),
        }
    };
}

/// `+`, `-`, `*`, `/` and `%`.
pub(super) fn arithmetic<'a>(
    operator: Arithmetic,
    left: &Value<'a>,
    right: &Value<'a>,
    steps: &Steps,
) -> Given<Value<'a>> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => whole_arithmetic!(operator, left, right)
            .map(Value::Int)
            .ok_or_else(too_large),
        (Value::Uint(left), Value::Uint(right)) => whole_arithmetic!(operator, left, right)
            .map(Value::Uint)
            .ok_or_else(too_large),
        (Value::Double(left), Value::Double(right)) => match operator {
            Arithmetic::Add => Ok(Value::Double(left + right)),
            Arithmetic::Subtract => Ok(Value::Double(left - right)),
            Arithmetic::Multiply => Ok(Value::Double(left * right)),
            Arithmetic::Divide => Ok(Value::Double(left / right)),
            Arithmetic::Remainder => Err(unfit("%")),
        },
        _ if operator == Arithmetic::Add => joined(left, right, steps),
        _ => Err(unfit("an arithmetic operator")),
    }
}

/// `+` on values that are not numbers.
fn joined<'a>(left: &Value<'a>, right: &Value<'a>, steps: &Steps) -> Given<Value<'a>> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            steps.take_bytes(left.len() + right.len())?;
            Ok(Value::made_text([&**left, &**right].concat()))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            steps.take_bytes(left.len() + right.len())?;
            Ok(Value::Bytes(Shared::Made(
                [&**left, &**right].concat().into(),
            )))
        }
        (Value::List(left), Value::List(right)) => {
            let len = left.len() + right.len();
            steps.take_many(len)?;
            let mut made = Vec::with_capacity(len);
            for list in [left, right] {
                made.extend((0..list.len()).filter_map(|index| list.get(index)));
            }
            Ok(Value::List(List::Made(made.into())))
        }
        _ => Err(unfit("+")),
    }
}

/// `size(value)`.
pub(super) fn size<'a>(value: &Value<'_>, steps: &Steps) -> Given<Value<'a>> {
    let size = match value {
        Value::Text(text) => {
            steps.take_bytes(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Err(unfit("size")),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

impl Map<'_> {
    fn len(&self) -> usize {
        match self {
            Map::Json(map) => map.len(),
            Map::Record(record) => record.names().len(),
            Map::Made(entries) => entries.len(),
        }
    }
}

/// `int(value)` and the other conversions.
pub(super) fn convert<'a>(to: Kind, value: &Value<'a>, steps: &Steps) -> Given<Value<'a>> {
    if let Value::Text(text) = value {
        steps.take_bytes(text.len())?;
    }
    if let Value::Bytes(bytes) = value {
        steps.take_bytes(bytes.len())?;
    }
    let made = match (to, value) {
        (_, value) if value.kind() == to => Some(value.clone()),
        (Kind::Bool, Value::Text(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Some(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        (Kind::Int, Value::Uint(value)) => i64::try_from(*value).ok().map(Value::Int),
        (Kind::Int, Value::Double(value)) => whole(value.trunc())
            .and_then(|whole| i64::try_from(whole).ok())
            .map(Value::Int),
        (Kind::Int, Value::Text(text)) => text.parse().ok().map(Value::Int),
        (Kind::Uint, Value::Int(value)) => u64::try_from(*value).ok().map(Value::Uint),
        (Kind::Uint, Value::Double(value)) => whole(value.trunc())
            .and_then(|whole| u64::try_from(whole).ok())
            .map(Value::Uint),
        (Kind::Uint, Value::Text(text)) => text.parse().ok().map(Value::Uint),
        (Kind::Double, Value::Int(value)) => Some(Value::Double(nearest(*value))),
        (Kind::Double, Value::Uint(value)) => Some(Value::Double(nearest_of(*value))),
        (Kind::Double, Value::Text(text)) => text.parse().ok().map(Value::Double),
        (Kind::Text, Value::Bool(value)) => Some(Value::made_text(value.to_string())),
        (Kind::Text, Value::Int(value)) => Some(Value::made_text(value.to_string())),
        (Kind::Text, Value::Uint(value)) => Some(Value::made_text(value.to_string())),
        (Kind::Text, Value::Double(value)) => Some(Value::made_text(value.to_string())),
        (Kind::Text, Value::Bytes(bytes)) => std::str::from_utf8(bytes)
            .ok()
            .map(|text| Value::made_text(text.to_owned())),
        (Kind::Bytes, Value::Text(text)) => {
            Some(Value::Bytes(Shared::Made(text.as_bytes().into())))
        }
        _ => None,
    };
    made.ok_or_else(|| unfit(to.name()))
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "CEL takes the nearest double"
)]
fn nearest(value: i64) -> f64 {
    value as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "CEL takes the nearest double"
)]
fn nearest_of(value: u64) -> f64 {
    value as f64
}

fn too_large() -> super::Stop {
    fault("a number is too large")
}

fn by_zero() -> super::Stop {
    fault("division by zero")
}
