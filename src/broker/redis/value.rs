//! What Redis answers, as the types that are expected.

use redis::Value;

/// A text, or a number as text.
pub(super) fn text(value: Value) -> Option<String> {
    if let Value::Int(number) = value {
        return Some(number.to_string());
    }
    if let Value::SimpleString(text) = value {
        return Some(text);
    }
    String::from_utf8(bytes(value)?).ok()
}

/// Any bytes.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = value {
        Some(bytes)
    } else {
        None
    }
}

/// A number that is not negative.
pub(super) fn count(value: &Value) -> Option<usize> {
    if let Value::Int(number) = value {
        usize::try_from(*number).ok()
    } else {
        None
    }
}
