//! Durations in text form: `250ms`, `30s`, `5m`, `1h`, `7d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// The expected form of a duration, for error messages.
pub const EXPECTED: &str =
    "expected a duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";

/// Units, in milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The longest duration, in milliseconds: a hundred years of 365 days.
const LONGEST: u64 = 36_500 * 86_400_000;

/// Parses a whole number with a unit (`ms`, `s`, `m`, `h` or `d`), or several in a row (`1h30m`). A
/// bare `0` needs no unit.
///
/// # Errors
///
/// [`EXPECTED`], for any other text and for more than a hundred years.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit());
        let (unit, tail) = split(tail, |c| c.is_ascii_lowercase());
        let number: u64 = number.parse().map_err(|_| EXPECTED)?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(EXPECTED)?;
        let part = number.checked_mul(*factor).ok_or(EXPECTED)?;
        total = total.checked_add(part).ok_or(EXPECTED)?;
        rest = tail;
    }
    if text.is_empty() || total > LONGEST {
        return Err(EXPECTED);
    }
    Ok(Duration::from_millis(total))
}

/// Formats a duration in the largest unit that represents it exactly: `90s`, `1h`. Fractions of a
/// millisecond are dropped.
#[must_use]
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return String::from("0s");
    }
    let whole = |(_, factor): &&(&str, u64)| millis.is_multiple_of(u128::from(*factor));
    let (unit, factor) = UNITS.iter().find(whole).copied().unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(factor))
}

/// For `#[serde(deserialize_with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_parsed() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn invalid_duration_error_has_expected_form() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5S",
            "5x",
            "99999999999999999999s",
            "40000d",
        ] {
            assert_eq!(parse(text), Err(EXPECTED), "{text:?}");
        }
    }

    #[test]
    fn formatted_duration_is_parsed_back() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (86_400_000, "1d"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
    }
}
