//! Points in time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Year 9999's end, 26 hours early, so that it is still year 9999 in every time zone: what
    /// RFC 3339, `google.protobuf.Timestamp` and the calendar can say.
    const MAX: i64 = 253_402_207_199_999_999;
    /// Year 1's start.
    const MIN: i64 = -62_135_596_800_000_000;

    /// The system's time.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// This many microseconds after (before, if negative) 1970, held within years 1 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros.clamp(Self::MIN, Self::MAX))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Takes an RFC 3339 text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp::from_micros(time.as_microsecond()))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.123Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.as_millis()) {
            Ok(time) => format!("{time:.3}"),
            Err(_) => String::from("1970-01-01T00:00:00.000Z"),
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
        };
        Timestamp::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_times_are_written_as_such() {
        let written = |micros| Timestamp::from_micros(micros).to_rfc3339();
        assert_eq!(written(i64::MAX), "9999-12-30T21:59:59.999Z");
        assert_eq!(written(i64::MIN), "0001-01-01T00:00:00.000Z");
        for farthest in [i64::MAX, i64::MIN] {
            assert!(Timestamp::parse(&written(farthest)).is_some());
        }
    }
}
